"""Trackio: `inbox/<writer>/<seq>.jsonl`, a line is one logged step; traces stand inside its `metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.messages import final_text, messages_of, turns_of
from producers.rollouts.model import (
    Item,
    Note,
    Numbers,
    Place,
    Rollout,
    Row,
    Whole,
    inside,
    listed,
    name_of,
    number,
    rest,
    split_of,
    status_of,
    text_of,
    whole,
)

_TRACE = "trackio.trace"
_NAMES = {
    "step": ("step", "training_step", "global_step"),
    "split": ("split", "mode", "phase"),
    "group": ("group_id", "group", "prompt_id", "problem_id", "example_id"),
    "sample": ("sample", "sample_id", "sample_idx", "rollout_idx"),
    "reward": ("reward", "total_reward", "score"),
    "advantage": ("advantage",),
    "rewards": ("rewards",),
    "stop": ("stop_reason", "finish_reason"),
}
"""What a trace's metadata may call it: Trackio fixes no names."""


class Trackio:
    """The format."""

    name = "trackio"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """A logged record."""
        return "kind" in row and "run" in row and ("metrics" in row or "log_id" in row)

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The folder above the inbox."""
        folder = path.parent.parent
        return folder.parent if folder.name == "inbox" else folder

    def reader(self, place: Place) -> TrackioReader:
        """For one fragment."""
        return TrackioReader()


class TrackioReader(Whole):
    """Reads one fragment."""

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """The rollouts of the record's traces, else its numbers."""
        run = name_of(row.get("run")) or name_of(row.get("run_id"))
        values = inside(row.get("metrics"))
        moment, step = _moment(row.get("timestamp")), whole(row.get("step"))
        traces = list(_traces(values))
        others = rest(row, "metrics", "run", "step", "timestamp")
        plain = {name: value for name, value in values.items() if name not in {key for key, _ in traces}}
        for index, (key, trace) in enumerate(traces):
            extras = {**others, "key": key, **({"metrics": plain} if plain else {})}
            made = _rollout(trace, index, extras)
            made.run, made.moment = run, moment
            made.step = step if made.step is None else made.step
            yield made
        if traces:
            return
        if row.get("kind") in ("metric", "system_metric"):
            numbers = {
                k: v
                for k, v in plain.items()
                if number(v) is not None or v in ("NaN", "Infinity", "-Infinity")
            }
            kept = {k: v for k, v in plain.items() if k not in numbers and v is not None}
            yield Numbers(step, {k: _number(v) for k, v in numbers.items()}, run, others | kept, moment)
        else:
            yield Note("other", {"event": row.get("kind"), **others, **plain}, run, step=step, moment=moment)


def _traces(values: Row) -> Iterator[tuple[str, Row]]:
    for key, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and item.get("_type") == _TRACE:
                yield key, item


def _rollout(trace: Row, index: int, extras: Row) -> Rollout:
    said = inside(trace.get("metadata"))
    messages = messages_of(trace.get("messages"))
    turns = turns_of(messages)
    reward = number(_named(said, "reward"))
    if turns:
        turns[-1].reward = reward
    rewards = {
        name: (score, number(value.get("weight")) if isinstance(value, dict) else None)
        for name, value in inside(_named(said, "rewards")).items()
        if (score := number(value.get("score", value.get("value")) if isinstance(value, dict) else value))
        is not None
    }
    word, latency = _named(said, "split"), number(said.get("duration_ms", said.get("latency_ms")))
    known = {name for names in _NAMES.values() for name in names} | {"status"}
    spans = [inside(span) for span in listed(trace.get("spans"))]
    return Rollout(
        name_of(_named(said, "group")) or name_of(extras.get("log_id")) or "0",
        name_of(_named(said, "sample")) or str(index),
        split=split_of(word),
        step=whole(_named(said, "step")),
        reward=reward,
        advantage=number(_named(said, "advantage")),
        rewards=rewards,
        metrics={k: v for k, v in said.items() if number(v) is not None and k not in known},
        extras=extras
        | {k: v for k, v in said.items() if number(v) is None and k not in known}
        | rest(trace, "_type", "messages", "metadata"),
        messages=messages,
        turns=turns,
        input_tokens=_used(spans, "input_tokens"),
        output_tokens=_used(spans, "output_tokens"),
        status=status_of(said.get("status")),
        stop_reason=text_of(_named(said, "stop")),
        final_text=final_text(messages),
        duration=None if latency is None else latency / 1000,
    )


def _named(said: Row, name: str) -> Any:
    return next((said[key] for key in _NAMES[name] if said.get(key) is not None), None)


def _used(spans: Iterable[Row], name: str) -> int | None:
    known = [found for span in spans if (found := whole(inside(span.get("usage")).get(name))) is not None]
    return sum(known) if known else None


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _moment(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    return number(value)
