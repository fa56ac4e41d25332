"""A run's records from Kafka, whatever their number: values in a file, heads in a temporary SQLite.

A topic alone does not give the workers' order, as a record that was sent again, or redriven, lies behind
later ones. So records are read once, ordered by stream and seq, and then read again from there.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from infra.history.items import ORDER, Head, Item
from infra.kafka.log_reader import Entry
from schemas.codec import Decoder, Schema
from schemas.errors import SchemaError
from schemas.head_reader import HeadReader
from schemas.seek_points import BLOCK, SeekPoint
from schemas.topics import LINES, Kind, Watermarks

KINDS = tuple(sorted(ORDER, key=ORDER.__getitem__))
SOME = 10_000
SPARSE = 4
"""Values of a page are read in one go where no more than so many times their size lies between them."""

_TABLE = """CREATE TABLE records (stream INTEGER, seq INTEGER, kind INTEGER, time INTEGER, episode INTEGER,
    agent INTEGER, part INTEGER, place INTEGER, stamp INTEGER, at INTEGER, size INTEGER,
    PRIMARY KEY (stream, seq, kind)) WITHOUT ROWID"""
_INSERT = "INSERT INTO records VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"
_POINTS = f"""SELECT stream, seq / {BLOCK}, kind, part, max(time), min(place), max(place), count(*),
    max(episode) FROM records WHERE kind < {len(LINES)} GROUP BY 1, 2, 3, 4"""
_PAGE = """SELECT kind, seq, time, agent, part, place, stamp, at, size
    FROM records WHERE stream = ? AND seq BETWEEN ? AND ? ORDER BY seq, kind"""
_HEADS = f"""SELECT seq, kind, time, episode, agent, part, place FROM records
    WHERE stream = ? AND seq BETWEEN ? AND ? AND kind < {len(LINES)} ORDER BY seq, kind"""
_EPISODES = "SELECT stream, seq, agent, at, size FROM records WHERE kind = ? ORDER BY time, stream, seq"


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
        self._streams: dict[str, int] = {}
        self._agents: dict[str, int] = {}
        self._names: list[str] = []
        self._file = tempfile.TemporaryFile(prefix="stepstream-replay-")  # noqa: SIM115 - closed by close()
        self._end = 0
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA cache_size = -16000")
        self._database.execute(_TABLE)
        self.unreadable = 0
        """Records of the run that cannot be read, and are left out."""
        self.newest = 0
        """Kafka's time of the newest record, ms since 1970."""

    def close(self) -> None:
        """Give the disk back."""
        self._database.close()
        self._file.close()

    def add(self, entries: Iterable[Entry]) -> int:
        """Take records; returns how many could be read."""
        rows: list[tuple[Any, ...]] = []
        values: list[bytes] = []
        streams, agents, end = self._streams, self._agents, self._end
        for kind, partition, offset, timestamp, value in entries:
            try:
                stream, seq, time, episode, agent = self._head(value)
            except SchemaError:
                self.unreadable += 1
                continue
            number = streams.setdefault(stream, len(streams))
            who = agents.setdefault(agent, len(agents))
            size = len(value)
            rows.append(
                (number, seq, ORDER[kind], time, episode, who, partition, offset, timestamp, end, size)
            )
            values.append(value)
            end += size
            self.newest = max(self.newest, timestamp)
        self._file.write(b"".join(values))
        self._file.flush()
        self._end = end
        self._database.execute("BEGIN")
        self._database.executemany(_INSERT, rows)
        self._database.execute("COMMIT")
        return len(rows)

    def points(self) -> list[SeekPoint]:
        """Seek points of all that was added; what stands beside lines is none."""
        names = list(self._streams)
        rows = self._database.execute(_POINTS)
        return [
            SeekPoint(
                self._run_id, names[stream], block, KINDS[kind].value, part, time, low, high, count, episode
            )
            for stream, block, kind, part, time, low, high, count, episode in rows
        ]

    def page(self, stream: str, first: int, last: int) -> list[Item]:
        """The records of lines `first` to `last`, in order; `time` is each one's own."""
        rows = self._rows(_PAGE, stream, first, last)
        names, values = list(self._agents), self._values([row[-2:] for row in rows])
        return [
            Item(KINDS[kind], stream, seq, time, names[agent], part, place, stamp, value)
            for (kind, seq, time, agent, part, place, stamp, _, _), value in zip(rows, values, strict=True)
        ]

    def heads(self, stream: str, first: int, last: int) -> list[Head]:
        """The same records' heads, without what stands beside lines."""
        names = list(self._agents)
        return [
            Head(seq, KINDS[kind], time, episode, names[agent], part, place)
            for seq, kind, time, episode, agent, part, place in self._rows(_HEADS, stream, first, last)
        ]

    def extreme_episode(self, *, best: bool, agent_id: str | None) -> tuple[float, str, int] | None:
        """Return, stream and line of the episode with the greatest or the least return, first of equals."""
        decode = Decoder(Kind.EPISODES, self._lookup)
        streams, agents = list(self._streams), list(self._agents)
        found: tuple[float, str, int] | None = None
        for stream, seq, agent, at, size in self._database.execute(_EPISODES, [ORDER[Kind.EPISODES]]):
            if agent_id is not None and agents[agent] != agent_id:
                continue
            value = decode(os.pread(self._file.fileno(), size, at))["episode_return"]
            if value is None or value != value:  # noqa: PLR0124 - NaN alone differs from itself
                continue
            if found is None or (value > found[0] if best else value < found[0]):
                found = (value, streams[stream], seq)
        return found

    def first_seq(self, stream: str, kind: Kind) -> int | None:
        """A stream's first line of a kind; None: it has none here."""
        query = "SELECT min(seq) FROM records WHERE stream = ? AND kind = ?"
        found: int | None = self._database.execute(
            query, [self._streams.get(stream), ORDER[kind]]
        ).fetchone()[0]
        return found

    def drop(self, stream: str, heads: Iterable[Head]) -> None:
        """Leave out lines that another source has, unless it has a dead letter and here is what it became."""
        number = self._streams.get(stream)
        lines = [(number, head.seq, ORDER[head.kind], len(LINES)) for head in heads]
        self._database.executemany(
            "DELETE FROM records WHERE stream = ? AND seq = ? AND kind >= ? AND kind < ?", lines
        )

    def _rows(self, query: str, stream: str, first: int, last: int) -> list[tuple[Any, ...]]:
        number = self._streams.get(stream)
        if number is None:
            return []
        return self._database.execute(query, [number, first, last]).fetchall()

    def _values(self, places: list[tuple[int, int]]) -> list[bytes]:
        if not places:
            return []
        begin = min(at for at, _ in places)
        end = max(at + size for at, size in places)
        file = self._file.fileno()
        if end - begin > SPARSE * sum(size for _, size in places):
            return [os.pread(file, size, at) for at, size in places]
        whole = os.pread(file, end - begin, begin)
        return [whole[at - begin : at - begin + size] for at, size in places]


def clamped(
    watermarks: Mapping[tuple[Kind, int], Watermarks], starts: Mapping[tuple[Kind, int], int]
) -> dict[tuple[Kind, int], Watermarks]:
    """What partitions hold from these offsets on; from their beginning where none is named."""
    return {
        place: Watermarks(min(max(starts.get(place, held.low), held.low), held.high), held.high)
        for place, held in watermarks.items()
    }
