"""`metrics.jsonl` and `history.jsonl`: a line is the numbers of one step (prime-rl, ART, Tinker cookbook)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from producers.rollouts.model import Item, Numbers, Place, Row, Whole, number, rest, whole

_NAMES = ("metrics.jsonl", "history.jsonl")
_STEPS = ("step", "training_step", "iteration")
_TIMES = ("time", "timestamp", "recorded_at")


class NumbersLog:
    """The format."""

    name = "metrics"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """One of the names, and numbers."""
        return path.name in _NAMES and any(number(value) is not None for value in row.values())

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """Its folder."""
        return path.parent

    def reader(self, place: Place) -> NumbersReader:
        """For the file."""
        return NumbersReader()


class NumbersReader(Whole):
    """Reads the file."""

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """Numbers."""
        step = next((found for name in _STEPS if (found := whole(row.get(name))) is not None), None)
        values = {k: v for k, v in row.items() if number(v) is not None and k not in (*_STEPS, "time")}
        yield Numbers(step, values, extras=rest(row, *values, *_STEPS), moment=number(row.get("time")))
