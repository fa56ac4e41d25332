"""Seek points: a summary of each thousand lines of a stream, by which a position in a run is found at once.

A seek point covers one block of a stream (`seq // BLOCK`) in one partition of one topic. Each value is a
sum, maximum or minimum over the block's records, so batches may add to it in any order. The reader adds up
the blocks before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from schemas.topics import Kind

BLOCK = 1000
"""Lines of a stream in one seek point."""
ELSEWHERE = -1
"""Partition of a consumer's dead letter, whose row has the place of the refused record instead."""

PointKey = tuple[str, str, int, str, int]
"""run_id, stream_id, block, topic (without its prefix), partition."""


class SeekPoint(msgspec.Struct, gc=False):
    """Records of one block in one partition, or what a batch adds to them. The names are the columns."""

    run_id: str
    stream_id: str
    block: int
    topic: str
    topic_partition: int
    newest_event_time: int
    """µs since 1970, UTC; the greatest event time of these records."""
    first_offset: int
    last_offset: int
    records: int = 0
    newest_episode: int | None = None
    """The greatest episode index of these records."""

    def merge(self, newer: SeekPoint) -> None:
        """Add what another batch holds."""
        self.records += newer.records
        self.newest_event_time = max(self.newest_event_time, newer.newest_event_time)
        self.first_offset = min(self.first_offset, newer.first_offset)
        self.last_offset = max(self.last_offset, newer.last_offset)
        if newer.newest_episode is not None:
            self.newest_episode = max(newer.newest_episode, self.newest_episode or 0)


class SeekPoints:
    """The seek points of the records added so far."""

    def __init__(self) -> None:
        self.points: dict[PointKey, SeekPoint] = {}
        self._point: SeekPoint | None = None
        self._first_seq = self._next_seq = 0

    def add(self, kind: Kind, row: Sequence[Any]) -> None:
        """Take a row in the order of its table's columns, its event time in µs."""
        point, seq, time = self._point, row[2], row[5]
        if (
            point is None
            or not self._first_seq <= seq < self._next_seq
            or row[1] != point.stream_id
            or row[-2] != point.topic_partition
            or row[0] != point.run_id
            or kind.value != point.topic
        ):
            point = self._find(kind, row)
        point.records += 1
        point.newest_event_time = max(point.newest_event_time, time)
        if (offset := row[-1]) > point.last_offset:
            point.last_offset = offset
        elif offset < point.first_offset:
            point.first_offset = offset
        if kind is _STEPS or kind is _EPISODES:
            episode = row[6]
            if episode is not None and (point.newest_episode is None or episode > point.newest_episode):
                point.newest_episode = episode

    def merge(self, newer: SeekPoints) -> None:
        """Add what another batch holds. Do not use that one afterwards."""
        for key, point in newer.points.items():
            if (known := self.points.setdefault(key, point)) is not point:
                known.merge(point)
        self._point = None

    def _find(self, kind: Kind, row: Sequence[Any]) -> SeekPoint:
        block, partition = row[2] // BLOCK, row[-2]
        if kind is Kind.DLQ and row[-3] is not None:  # the topic of the record that a consumer refused
            partition = ELSEWHERE
        key = (row[0], row[1], block, kind.value, partition)
        point = self.points.get(key)
        if point is None:
            point = self.points[key] = SeekPoint(*key, row[5], row[-1], row[-1])
        self._point, self._first_seq, self._next_seq = point, block * BLOCK, (block + 1) * BLOCK
        return point


_STEPS, _EPISODES = Kind.STEPS, Kind.EPISODES
