"""A run's records in order, whatever its size: values on disk, some seventy bytes a record in memory.

The order: each stream's records by `seq`, over all topics; streams among each other by event time. A
topic alone does not give it, as a record that was sent again, or redriven, lies behind later ones. So
the records are read once, sorted by what their first fields say, and then played.
"""

from __future__ import annotations

import io
import itertools
import tempfile
from array import array
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import fastavro
import numpy as np
from numpy.typing import NDArray

from schemas.codec import HEADER, MAGIC, Schema, plain
from schemas.errors import SchemaError
from schemas.topics import META_SUFFIX, Kind

KINDS = list(Kind)
NONE = -(2**63)
"""Stands for null in a column of integers."""

HEAD_FIELDS = frozenset({"stream_id", "seq", "event_time", "episode_index"})
COLUMNS = ("stream", "seq", "time", "episode", "kind", "partition", "offset", "timestamp", "at", "size")

SOME = 10_000

Ints = NDArray[np.int64]


class Head(NamedTuple):
    """What replay needs of any record's first fields."""

    stream_id: str
    seq: int
    event_time: int
    episode_index: int | None


class HeadReader:
    """Reads the first fields of a record only, which takes a third of the time of the whole."""

    def __init__(self, lookup: Callable[[int], Schema]) -> None:
        self._lookup = lookup
        self._schemas: dict[int, Any] = {}

    def __call__(self, value: bytes) -> Head:
        """The head of a record in wire bytes.

        Raises:
            SchemaError: it is none.
        """
        if len(value) < HEADER.size or value[0] != MAGIC:
            raise SchemaError("Not in Confluent's wire format.")
        schema = self._schema(HEADER.unpack_from(value)[1])
        body = io.BytesIO(value)
        body.seek(HEADER.size)
        try:
            head: Any = fastavro.schemaless_reader(body, schema, None)
            return Head(head["stream_id"], head["seq"], head["event_time"], head.get("episode_index"))
        except Exception as error:  # fastavro raises whatever the broken bytes lead it to
            raise SchemaError(f"The Avro body does not fit its schema ({error}).") from error

    def _schema(self, schema_id: int) -> Any:
        if schema_id not in self._schemas:
            schema = plain(self._lookup(schema_id))
            names = [field["name"] for field in schema["fields"]]
            last = max((i for i, name in enumerate(names) if name in HEAD_FIELDS), default=-1)
            head = {**schema, "fields": schema["fields"][: last + 1]}
            self._schemas[schema_id] = fastavro.parse_schema(head)
        return self._schemas[schema_id]


class Item(NamedTuple):
    """A record on its way out."""

    kind: Kind
    partition: int
    offset: int
    timestamp: int
    """Kafka's, ms since 1970."""
    time: int
    """Of the event, µs since 1970; never falls within a stream, so that one can pace by it."""
    value: bytes


class Tape:
    """Takes records as they come; `ordered` gives them back in order."""

    def __init__(self, lookup: Callable[[int], Schema]) -> None:
        self.head = HeadReader(lookup)
        self.streams: dict[str, int] = {}
        self.unreadable = 0
        """Records that are none of ours: left out."""
        self._file = tempfile.TemporaryFile(prefix="stepstream-replay-")  # noqa: SIM115 - closed by close()
        self._end = 0
        self._rows = array("q")

    def __len__(self) -> int:
        return len(self._rows) // len(COLUMNS)

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()

    def add(self, kind: Kind, partition: int, offset: int, timestamp: int, value: bytes) -> None:
        """Take a record."""
        try:
            head = self.head(value)
        except SchemaError:
            self.unreadable += 1
            return
        stream = self.streams.setdefault(head.stream_id, len(self.streams))
        episode = NONE if head.episode_index is None else head.episode_index
        size = len(value)
        place = (KINDS.index(kind), partition, offset, timestamp, self._end, size)
        self._rows.extend((stream, head.seq, head.event_time, episode, *place))
        self._file.write(value)
        self._end += size

    def ordered(self) -> Order:
        """The records so far, in order."""
        self._file.flush()
        table = np.array(self._rows, dtype=np.int64).reshape(-1, len(COLUMNS))
        columns = dict(zip(COLUMNS, table.T.copy(), strict=True))
        is_meta = np.array([name.endswith(META_SUFFIX) for name in self.streams], dtype=bool)
        return Order(columns, is_meta[columns["stream"]], self._file)


class Order:
    """Records in order, as columns of equal length; row i is the i-th to play."""

    def __init__(self, columns: dict[str, Ints], is_meta: NDArray[np.bool_], file: Any) -> None:
        rows = _one_of_each(columns)
        times = _never_falling(columns["time"][rows], columns["stream"][rows])
        episodes = _carried_forward(columns["episode"][rows], columns["stream"][rows])
        # Stable: rows of equal time stay as they are, by stream and seq.
        order = np.argsort(times, kind="stable")
        rows = rows[order]
        self._columns = {name: column[rows] for name, column in columns.items()}
        self._columns |= {"paced": times[order], "episode": episodes[order]}
        self.is_meta = is_meta[rows]
        self._file = file

    def __len__(self) -> int:
        return len(self.is_meta)

    def __getitem__(self, column: str) -> Ints:
        return self._columns[column]

    def lines_by_stream(self) -> Iterator[tuple[int, Ints]]:
        """Each stream and the numbers of its lines; a picture's is its step's."""
        rows = np.argsort(self["stream"], kind="stable")
        streams, seqs = self["stream"][rows], self["seq"][rows]
        for part in _parts(streams):
            yield int(streams[part.start]), seqs[part]

    def items(self, rows: Ints) -> Iterator[Item]:
        """The records of some rows."""
        columns = [
            self[name][rows] for name in ("kind", "partition", "offset", "timestamp", "paced", "at", "size")
        ]
        for begin in range(0, len(rows), SOME):  # plain integers for some rows at a time, not for all
            some = (column[begin : begin + SOME].tolist() for column in columns)
            for kind, partition, offset, timestamp, paced, at, size in zip(*some, strict=True):
                self._file.seek(at)
                yield Item(KINDS[kind], partition, offset, timestamp, paced, self._file.read(size))


def _one_of_each(columns: dict[str, Ints]) -> Ints:
    """Rows by stream and seq, pictures behind their step, each once.

    What was sent again is there twice; what was redriven is there as a dead letter, too, and the
    letter, whose kind is the last, gives way.
    """
    is_picture = (columns["kind"] == KINDS.index(Kind.FRAMES)).astype(np.int64)
    keys = (columns["stream"], columns["seq"], is_picture)
    rows = np.lexsort((columns["offset"], columns["kind"], *reversed(keys)))
    if len(rows) == 0:
        return rows
    new = np.any([key[rows[1:]] != key[rows[:-1]] for key in keys], axis=0)
    return rows[np.concatenate(([True], new))]


def _never_falling(times: Ints, streams: Ints) -> Ints:
    """Each row's time, or an earlier row's of its stream where that is later. Rows come by stream."""
    out = times.copy()
    for part in _parts(streams):
        np.maximum.accumulate(out[part], out=out[part])
    return out


def _carried_forward(episodes: Ints, streams: Ints) -> Ints:
    """Each row's episode; where it names none, the one its stream named last."""
    out = episodes.copy()
    for part in _parts(streams):
        known = np.where(out[part] == NONE, 0, np.arange(len(out[part])))
        out[part] = out[part][np.maximum.accumulate(known)]
    return out


def _parts(streams: Ints) -> list[slice]:
    """Slices of equal streams."""
    cuts = (np.flatnonzero(np.diff(streams)) + 1).tolist()
    edges = [0, *cuts, len(streams)]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]
