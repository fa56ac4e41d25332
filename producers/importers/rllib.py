"""RLlib's and Ray Tune's `result.json`: one nested result of an iteration on each line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producers.importers.lines import (
    Line,
    Lines,
    ended,
    flat,
    metrics,
    open_text,
    started,
    unreadable,
    when,
    whole,
)
from producers.importers.source import Source, trail_of

_STEP = ("num_env_steps_sampled_lifetime", "num_env_steps_sampled", "timesteps_total", "training_iteration")
_OF_RLLIB = frozenset({*_STEP, "trial_id", "time_total_s"})
"""A result has one of these fields; another program's `result.json` has none."""
_FACTS = ("hostname", "pid", "node_ip", "trial_id", "experiment_id", "experiment_tag")
_NO_VALUES = (*_FACTS, "config", "timestamp", "date")


def source(file: Path) -> Source | None:
    """The run of a file, named by its trial, else after its folder; None: it is another program's file."""
    first = next((result for result, _ in _results(file) if result and _OF_RLLIB & result.keys()), None)
    if first is None:
        return None
    return Source(file, lambda: read(file), trail_of(file, ""), own=str(first.get("trial_id") or ""))


def read(file: Path) -> Lines:
    """The results of one file."""
    ts, begun = None, False
    for result, text in _results(file):
        if result is None:
            yield unreadable("A line of the results is no JSON object: it may be cut.", text)
            continue
        moment = when("timestamp", result.get("timestamp"))
        ts = moment.get("ts", ts)
        if not begun:
            begun = True
            yield _started(file, ts, result)
        values = flat({name: value for name, value in result.items() if name not in _NO_VALUES})
        step = next((found for name in _STEP if (found := whole(values.get(name))) is not None), None)
        yield metrics(moment, step, values)
    yield ended(ts)


def _started(file: Path, ts: str | None, result: Line) -> Line:
    config = result.get("config") or None
    env_id = config.get("env") if isinstance(config, dict) else None
    return started(
        ts,
        name=trail_of(file, "")[-1],
        config=config,
        env_id=env_id if isinstance(env_id, str) else None,
        **{name: result[name] for name in _FACTS if name in result},
    )


def _results(file: Path) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """Each line's object, and its text; no object: it holds none."""
    with open_text(file) as opened:
        for text in opened:
            if not text.strip():
                continue
            try:
                result = json.loads(text)
            except (ValueError, RecursionError):
                result = None
            yield (result if isinstance(result, dict) else None), text
