"""A run's records from Kafka, whatever their number: in a file, and in memory where each block's lie in it.

A topic alone does not give the workers' order, as a record that was sent again, or redriven, lies behind
later ones. So records are read once, put with those of their block, and then read again block by block.
"""

from __future__ import annotations

import marshal
import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from infra.history.items import ORDER, Head, Item
from infra.kafka.log_reader import Entry
from schemas.codec import Decoder, Schema
from schemas.errors import SchemaError, StepstreamError
from schemas.head_reader import HeadReader
from schemas.seek_points import BLOCK, SeekPoint
from schemas.topics import BESIDE, Kind, Watermarks

SPARSE = 4
"""Values of a chunk are read in one go where no more than so many times their size lies between them."""
PLAIN = 2
"""Version of the rows' format: later ones look for equal objects, which takes longer than writing them."""

Row = tuple[int, int, int | None, str, int, int, int, int]
"""Of a record: seq, time, episode, agent, offset, Kafka's time, its value's place in the file and size."""


class Chunk(NamedTuple):
    """Records of one block, kind and partition that were added together, by their seq."""

    kind: Kind
    first: int
    last: int
    at: int
    size: int
    """Where their rows lie in the file."""
    point: SeekPoint


class LogSource:
    """Records of one run that were added from Kafka; each once, whatever was sent again.

    Args:
        run_id: whose.
        lookup: schema of an id; raises SchemaError where there is none.
    """

    name = "Kafka"

    def __init__(self, run_id: str, lookup: Callable[[int], Schema]) -> None:
        self._run_id, self._lookup = run_id, lookup
        self._head = HeadReader(lookup)
        self._chunks: dict[tuple[str, int], list[Chunk]] = {}
        """By stream and block."""
        self._file = tempfile.TemporaryFile(prefix="stepstream-replay-")  # noqa: SIM115 - closed by close()
        self._end = 0
        self.unreadable = 0
        """Records of the run that cannot be read, and are left out."""
        self.newest = 0
        """Kafka's time of the newest record, ms since 1970."""

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()

    def add(self, entries: Iterable[Entry]) -> int:
        """Take records; returns how many could be read.

        Raises:
            StepstreamError: the disk of temporary files is full.
        """
        places: defaultdict[tuple[str, int, Kind, int], list[Row]] = defaultdict(list)
        values: list[bytes] = []
        read_head, at = self._head, self._end
        for kind, partition, offset, timestamp, value in entries:
            try:
                stream, seq, time, episode, agent = read_head(value)
            except SchemaError:
                self.unreadable += 1
                continue
            size = len(value)
            row = (seq, time, episode, agent, offset, timestamp, at, size)
            places[stream, seq // BLOCK, kind, partition].append(row)
            values.append(value)
            at += size
            self.newest = max(self.newest, timestamp)
        self._write(b"".join(values))
        for (stream, block, kind, partition), rows in places.items():
            self._keep(stream, block, kind, partition, rows)
        return len(values)

    def points(self) -> list[SeekPoint]:
        """Seek points of all that was added, some of the same place; what stands beside lines has none."""
        return [chunk.point for chunk in self._all() if chunk.kind not in BESIDE]

    def page(self, stream: str, first: int, last: int) -> list[Item]:
        """The records of lines `first` to `last`, each kind in order; `time` is each one's own."""
        items: list[Item] = []
        for chunk, rows in self._between(stream, first, last):
            kind, partition, values = chunk.kind, chunk.point.topic_partition, self._values(rows)
            items += [
                Item(kind, stream, seq, time, agent, partition, offset, timestamp, value)
                for (seq, time, _, agent, offset, timestamp, _, _), value in zip(rows, values, strict=True)
            ]
        return items

    def heads(self, stream: str, first: int, last: int) -> list[Head]:
        """The same records' heads, without what stands beside lines."""
        return [
            Head(seq, chunk.kind, time, episode, agent, chunk.point.topic_partition, offset)
            for chunk, rows in self._between(stream, first, last)
            if chunk.kind not in BESIDE
            for seq, time, episode, agent, offset, *_ in rows
        ]

    def extreme_episode(self, *, best: bool, agent_id: str | None) -> tuple[float, str, int] | None:
        """Return, stream and line of the episode with the greatest or the least return, first of equals."""
        decode, sign = Decoder(Kind.EPISODES, self._lookup), -1 if best else 1
        found: list[tuple[float, int, str, int]] = []
        for chunk in self._all():
            if chunk.kind is not Kind.EPISODES:
                continue
            rows = [row for row in self._rows(chunk) if agent_id in (None, row[3])]
            for (seq, time, *_), value in zip(rows, self._values(rows), strict=True):
                episode_return = decode(value)["episode_return"]
                if episode_return is not None and not math.isnan(episode_return):
                    found.append((sign * episode_return, time, chunk.point.stream_id, seq))
            found = sorted(found)[:1]
        return next(((sign * rank, stream, seq) for rank, _, stream, seq in found), None)

    def first_seq(self, stream: str, kind: Kind) -> int | None:
        """A stream's first line of a kind; None: it has none here."""
        mine = (chunk for chunk in self._all() if chunk.kind is kind and chunk.point.stream_id == stream)
        return min((chunk.first for chunk in mine), default=None)

    def drop(self, stream: str, block: int, heads: Iterable[Head]) -> None:
        """Leave out a block's lines that another source has, unless it has a dead letter, and here is what
        that became."""
        known = {head.seq: ORDER[head.kind] for head in heads}
        for chunk in self._chunks.pop((stream, block), []):
            rows = self._rows(chunk)
            if chunk.kind not in BESIDE:
                rows = [row for row in rows if known.get(row[0], len(ORDER)) > ORDER[chunk.kind]]
            if rows:
                self._keep(stream, block, chunk.kind, chunk.point.topic_partition, rows)

    def _keep(self, stream: str, block: int, kind: Kind, partition: int, rows: list[Row]) -> None:
        """Add the rows of lines that are new."""
        chunks = self._chunks.setdefault((stream, block), [])
        low, high = min(row[0] for row in rows), max(row[0] for row in rows)
        near = (chunk for chunk in chunks if chunk.kind is kind and chunk.first <= high and low <= chunk.last)
        known = {row[0] for chunk in near for row in self._rows(chunk)}
        # The first of a line's records stays.
        rows = sorted({row[0]: row for row in reversed(rows) if row[0] not in known}.values())
        if not rows:
            return
        _, times, episodes, _, offsets, *_ = zip(*rows, strict=True)
        point = SeekPoint(
            self._run_id,
            stream,
            block,
            kind.value,
            partition,
            max(times),
            min(offsets),
            max(offsets),
            len(rows),
            max((episode for episode in episodes if episode is not None), default=None),
        )
        text = marshal.dumps(rows, PLAIN)
        chunks.append(Chunk(kind, rows[0][0], rows[-1][0], self._write(text), len(text), point))

    def _all(self) -> Iterator[Chunk]:
        return chain.from_iterable(self._chunks.values())

    def _between(self, stream: str, first: int, last: int) -> Iterator[tuple[Chunk, list[Row]]]:
        """Chunks that hold some of these lines, and their rows of them."""
        for block in range(first // BLOCK, last // BLOCK + 1):
            for chunk in self._chunks.get((stream, block), ()):
                if first <= chunk.first and chunk.last <= last:
                    yield chunk, self._rows(chunk)
                elif rows := [row for row in self._rows(chunk) if first <= row[0] <= last]:
                    yield chunk, rows

    def _rows(self, chunk: Chunk) -> list[Row]:
        rows: list[Row] = marshal.loads(os.pread(self._file.fileno(), chunk.size, chunk.at))  # noqa: S302 - ours
        return rows

    def _values(self, rows: list[Row]) -> list[bytes]:
        if not rows:
            return []
        file = self._file.fileno()
        begin, end = min(row[6] for row in rows), max(row[6] + row[7] for row in rows)
        if end - begin > SPARSE * sum(row[7] for row in rows):
            return [os.pread(file, size, at) for *_, at, size in rows]
        whole = os.pread(file, end - begin, begin)
        return [whole[row[6] - begin : row[6] - begin + row[7]] for row in rows]

    def _write(self, data: bytes) -> int:
        """Append to the file; returns where it lies."""
        begin, self._end = self._end, self._end + len(data)
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise StepstreamError(
                f"What Kafka holds of the run does not fit into {tempfile.gettempdir()} ({error.strerror}): "
                "set TMPDIR to a folder on another disk."
            ) from error
        return begin


def clamped(
    watermarks: Mapping[tuple[Kind, int], Watermarks], starts: Mapping[tuple[Kind, int], int]
) -> dict[tuple[Kind, int], Watermarks]:
    """What partitions hold from these offsets on; from their beginning where none is named."""
    return {
        place: Watermarks(min(max(starts.get(place, held.low), held.low), held.high), held.high)
        for place, held in watermarks.items()
    }
