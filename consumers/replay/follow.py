"""What comes on while a run is followed: put in order, and known to lie inside of what is wanted or not."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import NamedTuple

from infra.history.items import Item
from schemas import positions as at
from schemas.positions import Position
from schemas.topics import BESIDE, META_SUFFIX, Kind

PATIENCE_S = 1.0
"""A line that is missing among newer ones is waited for so long."""
RECENT_LINES = 10_000
"""So far back in a stream a line that is missing now may still come."""


class Arrived(NamedTuple):
    """A record that came, and its episode index."""

    item: Item
    episode: int | None


class Sequencer:
    """Puts newer records in order: every line of a stream is one record, so its numbers have no gaps.

    A line that is missing among newer ones is waited for, then passed over; it is given when it comes.

    Args:
        next_lines: by stream the line that comes next; 1 in any other.
        letters: by stream the lines given as dead letters, which may be redriven.
    """

    def __init__(self, next_lines: Mapping[str, int], letters: Mapping[str, set[int]]) -> None:
        self._next = {stream: max(1, seq) for stream, seq in next_lines.items()}
        self._missing = {stream: set(lines) for stream, lines in letters.items()}
        self._held: dict[str, dict[int, Arrived]] = {}
        self._stuck_since: dict[str, float] = {}
        self._out: list[Arrived] = []

    def push(self, arrived: Arrived) -> None:
        """Take a record."""
        item = arrived.item
        stream, seq = item.stream_id, item.seq
        if item.kind in BESIDE:
            self._out.append(arrived)
        elif seq >= self._next.setdefault(stream, 1):
            self._held.setdefault(stream, {}).setdefault(seq, arrived)
        elif seq in self._missing.setdefault(stream, set()):
            self._missing[stream].discard(seq)
            self._out.append(arrived)

    def ready(self, now: float, *, everything: bool = False) -> list[Arrived]:
        """What can be given, in order.

        Args:
            now: seconds of a monotonic clock.
            everything: wait for no missing line any longer.
        """
        for stream, held in self._held.items():
            self._release(stream, held)
            if not held:
                self._stuck_since.pop(stream, None)
            elif everything or now - self._stuck_since.setdefault(stream, now) >= PATIENCE_S:
                self._pass_over(stream, min(held))
                self._release(stream, held)
        self._held = {stream: held for stream, held in self._held.items() if held}
        out, self._out = self._out, []
        return out

    def _release(self, stream: str, held: dict[int, Arrived]) -> None:
        while (seq := self._next[stream]) in held:
            arrived = held.pop(seq)
            self._out.append(arrived)
            # A dead letter may be redriven: what it becomes is another record of the same number.
            if arrived.item.kind is Kind.DLQ:
                self._missing.setdefault(stream, set()).add(seq)
            self._next[stream] = seq + 1
            self._stuck_since.pop(stream, None)

    def _pass_over(self, stream: str, seq: int) -> None:
        first = max(self._next[stream], seq - RECENT_LINES)
        self._missing.setdefault(stream, set()).update(range(first, seq))
        self._next[stream] = seq
        self._stuck_since.pop(stream, None)


class Mark:
    """A position that lies ahead: whether records have come to it, and gone beyond it.

    Args:
        position: without a number of steps.
        steps: steps of the run so far.
    """

    def __init__(self, position: Position, steps: int) -> None:
        self._anchor = position.anchor
        self._steps = steps
        self._times: dict[str, int] = {}
        self._episodes: dict[str, int] = {}
        self._reached = False

    def place(self, arrived: Arrived) -> tuple[bool, bool]:
        """Take the next record; whether it lies at the position or behind it, and whether behind it."""
        item = arrived.item
        stream = item.stream_id
        time = self._times[stream] = max(item.time, self._times.get(stream, item.time))
        episode = self._episodes.get(stream, -1)
        if arrived.episode is not None:
            episode = self._episodes[stream] = max(episode, arrived.episode)
        step, self._steps = self._steps, self._steps + (item.kind is Kind.STEPS)
        return self._compared(item, time, episode, step)

    def _compared(self, item: Item, time: int, episode: int, step: int) -> tuple[bool, bool]:
        is_meta = item.stream_id.endswith(META_SUFFIX)
        match self._anchor:
            case at.Time(micros):
                self._reached, passed = time >= micros, time > micros
            case at.Seq(number) if not is_meta:
                self._reached, passed = item.seq >= number, item.seq > number
            case at.Episode(number) if not is_meta:
                self._reached, passed = episode >= number, episode > number
            case at.Step(number):
                self._reached = self._reached or step >= number
                passed = step > number
            case at.Offset(kind, partition, offset):
                here = (item.kind, item.partition) == (kind, partition)
                self._reached = self._reached or (here and item.offset >= offset)
                passed = here and item.offset > offset
            case _:
                passed = False
        return self._reached, passed


by_time = attrgetter("item.time")
