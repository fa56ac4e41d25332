"""Which part of a run is played: from a position, up to and including another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consumers.replay.position import Beginning, End, Episode, Offset, Position, Seq, Time
from consumers.replay.tape import KINDS, Head, Ints, Order
from schemas.errors import StepstreamError, UsageError
from schemas.topics import Kind, Watermarks

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Window:
    """Where a replay begins and ends; `stop` None: with what is there now, or never when it follows."""

    start: Position
    stop: Position | None = None

    def check(
        self, watermarks: Mapping[tuple[Kind, int], Watermarks], *, follow: bool, topic_prefix: str
    ) -> None:
        """Raise where an offset lies outside of its partition.

        Raises:
            StepstreamError: the partition holds other offsets; they are named.
            UsageError: there is no such partition.
        """
        for position in (self.start, self.stop):
            if isinstance(position, Offset):
                _check_offset(position, watermarks, topic_prefix, follow and position is self.stop)

    def rows(self, order: Order) -> Ints:
        """The rows of an order that lie inside."""
        inside = _reached(self.start, order)
        if self.stop is not None:
            inside &= ~_passed(self.stop, order)
        if isinstance(self.start, Seq | Episode) or isinstance(self.stop, Seq | Episode):
            inside = _with_meta_between(inside, order)
        return np.flatnonzero(inside)

    def is_over(self, order: Order) -> bool:
        """Whether an order goes beyond the end, so that nothing is left to wait for."""
        return self.stop is not None and bool(np.any(_passed(self.stop, order) & ~order.is_meta))

    def begins_before(self, head: Head) -> bool:
        """Whether a record that came later belongs to the part, as far as its beginning says."""
        match self.start:
            case Time(micros):
                return head.event_time >= micros
            case Seq(number):
                return head.seq >= number
            case Episode(number):
                return head.episode_index is None or head.episode_index >= number
        return True

    def ends_before(self, head: Head, kind: Kind, partition: int, offset: int) -> bool:
        """Whether a record that came later lies beyond the end."""
        match self.stop:
            case Time(micros):
                return head.event_time > micros
            case Seq(number):
                return head.seq > number
            case Episode(number):
                return head.episode_index is not None and head.episode_index > number
            case Offset():
                return (kind, partition) == (
                    self.stop.kind,
                    self.stop.partition,
                ) and offset > self.stop.offset
        return False


def _reached(start: Position, order: Order) -> Mask:
    match start:
        case Beginning():
            return np.ones(len(order), dtype=bool)
        case End():
            return np.zeros(len(order), dtype=bool)
        case Offset():
            here = np.flatnonzero(_of_partition(start, order) & (order["offset"] >= start.offset))
            return np.arange(len(order)) >= (here.min() if len(here) else len(order))
        case Time(micros):
            return np.asarray(order["time"] >= micros)
        case Seq(number):
            return np.asarray(order["seq"] >= number)
        case Episode(number):
            return np.asarray(order["episode"] >= number)


def _passed(stop: Position, order: Order) -> Mask:
    match stop:
        case Beginning():
            return np.ones(len(order), dtype=bool)
        case End():
            return np.zeros(len(order), dtype=bool)
        case Offset():
            here = np.flatnonzero(_of_partition(stop, order) & (order["offset"] <= stop.offset))
            return np.arange(len(order)) > (here.max() if len(here) else -1)
        case Time(micros):
            return np.asarray(order["time"] > micros)
        case Seq(number):
            return np.asarray(order["seq"] > number)
        case Episode(number):
            return np.asarray(order["episode"] > number)


def _of_partition(position: Offset, order: Order) -> Mask:
    is_kind = order["kind"] == KINDS.index(position.kind)
    return np.asarray(is_kind & (order["partition"] == position.partition))


def _with_meta_between(inside: Mask, order: Order) -> Mask:
    """Lines and episodes are counted in workers' streams; of stepstream's own, what lies between them."""
    lines = np.flatnonzero(inside & ~order.is_meta)
    if len(lines) == 0:
        return np.zeros(len(order), dtype=bool)
    rank = np.arange(len(order))
    between = (rank >= lines.min()) & (rank <= lines.max())
    return np.where(order.is_meta, between, inside)


def _check_offset(
    position: Offset,
    watermarks: Mapping[tuple[Kind, int], Watermarks],
    topic_prefix: str,
    may_come: bool,
) -> None:
    topic = position.kind.topic(topic_prefix)
    marks = watermarks.get((position.kind, position.partition))
    if marks is None:
        last = max(partition for kind, partition in watermarks if kind is position.kind)
        raise UsageError(f"{topic} has the partitions 0 to {last}; there is no {position.partition}.")
    if marks.low <= position.offset <= marks.high or (may_come and position.offset > marks.high):
        return
    if marks.low == marks.high:
        holds = f"is empty; the next offset is {marks.high}"
    else:
        holds = f"holds the offsets {marks.low} to {marks.high - 1}"
    raise StepstreamError(f"Partition {position.partition} of {topic} {holds}: {position.offset} is outside.")
