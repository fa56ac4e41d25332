"""RLlib's and Ray Tune's `result.json`: one nested result of an iteration on each line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producers.importers.lines import Line, ended, flat, iso, metrics, started

_STEP = ("num_env_steps_sampled_lifetime", "num_env_steps_sampled", "timesteps_total", "training_iteration")
_NO_NUMBERS = ("config", "hostname", "pid", "timestamp", "date", "trial_id", "node_ip")


def lines(file: Path) -> Iterator[Line]:
    """A run, named after its trial, else after its folder."""
    run_id, ts = file.resolve().parent.name, None
    for number, result in enumerate(_results(file)):
        run_id = str(result.get("trial_id") or run_id) if number == 0 else run_id
        ts = iso(float(result["timestamp"])) if "timestamp" in result else None
        if number == 0:
            config = result.get("config") or {}
            env_id = config.get("env") if isinstance(config.get("env"), str) else None
            yield started(run_id, ts, name=file.resolve().parent.name, config=config or None, env_id=env_id)
        numbers = flat({name: value for name, value in result.items() if name not in _NO_NUMBERS})
        step = next((int(numbers[name]) for name in _STEP if name in numbers), None)
        yield metrics(run_id, ts, step, numbers)
    yield ended(run_id, ts)


def _results(file: Path) -> Iterator[dict[str, Any]]:
    """Whole objects; the last line of a process that was killed may be cut."""
    with file.open(encoding="utf-8", errors="replace") as opened:
        for line in opened:
            try:
                result = json.loads(line)
            except ValueError:
                continue
            if isinstance(result, dict):
                yield result
