"""A run's records from SQL: every line of a stream is in exactly one of the six tables, by its seq."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from infra.history.clock import micros
from infra.history.items import SQL_COLUMNS, Head, Item
from infra.settings import Settings
from infra.sql.direct import DirectReader, NoTablesError
from schemas.errors import DatabaseError
from schemas.seek_points import BLOCK, ELSEWHERE, SeekPoint
from schemas.topics import LINES, Kind

_JSON = frozenset(
    {"observation", "action", "info", "metrics", "extras", "payload", "rewards", "messages", "names"}
)
LONGEST_RAW = 15 * 1024 * 1024
"""A dead letter keeps no more of a record."""
NEAR_LINES = 20_000
"""An agent's newest records are looked for in so many lines of a stream."""
_OF_EPISODES = (Kind.STEPS, Kind.EPISODES)
_TABLES = {kind: kind.table for kind in SQL_COLUMNS}
_block = attrgetter("stream_id", "block")


@dataclass(frozen=True)
class RunFacts:
    """What SQL says of a run."""

    known: bool
    status: str = ""
    last_seen_at: int = 0
    """Kafka's time of its newest record, µs since 1970."""
    deleted_at: int | None = None


class SqlSource:
    """Reads one run.

    Args:
        settings: which database.
        run_id: the run.

    Raises:
        DatabaseError: it does not answer, or (NoTablesError) has no tables of this version.
    """

    name = "SQL"

    def __init__(self, settings: Settings, run_id: str) -> None:
        self._run_id = run_id
        self._prefix = settings.topic_prefix
        self._reader = DirectReader(settings.sql_url)
        postgres = self._reader.is_postgres
        self._pages = {kind: _page(kind, postgres) for kind in SQL_COLUMNS}
        self._heads = {kind: _head(kind, postgres) for kind in LINES}
        self._newest = {
            kind: page.replace("ORDER BY seq", "AND agent_id = ? ORDER BY seq DESC LIMIT ?")
            for kind, page in self._pages.items()
        }
        self._time = _time_column(postgres)
        self._points: list[SeekPoint] = []
        try:
            self.facts()
            self._reader.rows("SELECT 1 FROM seek_points WHERE run_id = ? LIMIT 1", [run_id])
        except DatabaseError:
            self.close()
            raise

    def close(self) -> None:
        """Give the connection back."""
        self._reader.close()

    def snapshot(self) -> AbstractContextManager[None]:
        """Inside, everything is read as it is at one moment."""
        return self._reader.snapshot()

    def facts(self) -> RunFacts:
        """Whether the run is there, and whether it was deleted."""
        seen, deleted = self._time.format("last_seen_at"), self._time.format("deleted_at")
        runs = self._reader.rows(f"SELECT status, {seen} FROM runs WHERE run_id = ?", [self._run_id])
        gone = self._reader.rows(f"SELECT {deleted} FROM deleted_runs WHERE run_id = ?", [self._run_id])
        deleted_at = micros(gone[0])[0] if gone else None
        if not runs:
            return RunFacts(False, deleted_at=deleted_at)
        status, last_seen_at = runs[0]
        return RunFacts(True, status, micros([last_seen_at])[0] if last_seen_at else 0, deleted_at)

    def next_offsets(self) -> dict[tuple[Kind, int], int]:
        """For each partition the offset from which on Kafka has what SQL does not have yet.

        Read before rows are read: what is stored meanwhile is then there twice, and told by its seq.
        """
        kinds = {kind.topic(self._prefix): kind for kind in SQL_COLUMNS}
        found = self._reader.rows("SELECT topic, topic_partition, next_offset FROM consumer_offsets")
        return {(kinds[topic], number): offset for topic, number, offset in found if topic in kinds}

    def points(self) -> list[SeekPoint]:
        """The run's seek points; taken from its rows, where the run has none yet."""
        unindexed = self._reader.rows("SELECT 1 FROM unindexed_runs WHERE run_id = ?", [self._run_id])
        self._points = sorted(self._computed() if unindexed else self._stored(), key=_block)
        return self._points

    def page(self, stream: str, first: int, last: int, beside: Iterable[Kind] = ()) -> list[Item]:
        """The records of lines `first` to `last`, and of these kinds what stands beside them.

        Each kind is in order. `time` is each one's own.
        """
        items: list[Item] = []
        for kind in (*self._kinds(stream, first, last), *beside):
            rows = self._reader.rows(self._pages[kind], [self._run_id, stream, first, last])
            items += _items(kind, stream, rows, self._prefix)
        return items

    def heads(self, stream: str, first: int, last: int) -> list[Head]:
        """The heads of the same records without what stands beside them, each kind in order."""
        found: list[Head] = []
        for kind in self._kinds(stream, first, last):
            rows = self._reader.rows(self._heads[kind], [self._run_id, stream, first, last])
            times = micros([row[0] for row in rows])
            found += [
                Head(seq, kind, time, episode, agent, partition, offset)
                for time, (_, seq, episode, agent, partition, offset) in zip(times, rows, strict=True)
            ]
        return found

    def extreme_episode(self, *, best: bool, agent_id: str | None) -> tuple[float, str, int] | None:
        """Return, stream and line of the episode with the greatest or the least return, first of equals."""
        is_number = "episode_return NOT IN ('NaN')" if self._reader.is_postgres else "1 = 1"
        of_agent = "AND agent_id = ?" if agent_id is not None else ""
        found = self._reader.rows(
            f"SELECT episode_return, stream_id, seq FROM episodes WHERE run_id = ? "
            f"AND episode_return IS NOT NULL AND {is_number} {of_agent} "
            f"ORDER BY episode_return {'DESC' if best else 'ASC'}, event_time, stream_id, seq LIMIT 1",
            [self._run_id, *([agent_id] if agent_id is not None else [])],
        )
        return found[0] if found else None

    def of_kind(self, kind: Kind, cut: Mapping[str, int], agent_id: str | None = None) -> Iterator[Item]:
        """The records of one kind before a cut, by their event time."""
        items = [item for stream, behind in cut.items() for item in self.between(kind, stream, 0, behind)]
        items.sort(key=lambda item: (item.time, item.stream_id, item.seq))
        return (item for item in items if agent_id in (None, item.agent_id))

    def between(self, kind: Kind, stream: str, first: int, behind: int) -> list[Item]:
        """The records of one kind among some lines, in order."""
        rows = self._reader.rows(self._pages[kind], [self._run_id, stream, first, behind - 1])
        return _items(kind, stream, rows, self._prefix)

    def newest(self, kind: Kind, stream: str, behind: int, agent_id: str, count: int) -> list[Item]:
        """An agent's last records of one kind before a line, in order; those that are near it."""
        found = self._reader.rows(
            self._newest[kind], [self._run_id, stream, behind - NEAR_LINES, behind - 1, agent_id, count]
        )
        return _items(kind, stream, found[::-1], self._prefix)

    def count(self, kind: Kind, stream: str, first: int, behind: int, agent_id: str | None = None) -> int:
        """How many records of one kind (of an agent) some lines hold."""
        of_agent = "" if agent_id is None else "AND agent_id = ?"
        query = (
            f"SELECT count(*) FROM {_TABLES[kind]} WHERE run_id = ? AND stream_id = ? "
            f"AND seq BETWEEN ? AND ? {of_agent}"
        )
        who = [] if agent_id is None else [agent_id]
        return int(self._reader.rows(query, [self._run_id, stream, first, behind - 1, *who])[0][0])

    def agents(self) -> int:
        """How many agents the run has."""
        return int(self._reader.rows("SELECT count(*) FROM agents WHERE run_id = ?", [self._run_id])[0][0])

    def frame(self, stream: str, behind: int, agent_id: str) -> tuple[int, int, int] | None:
        """Line, partition and offset of an agent's last picture before a line."""
        found = self._reader.rows(
            "SELECT seq, topic_partition, topic_offset FROM frames WHERE run_id = ? AND stream_id = ? "
            "AND agent_id = ? AND seq < ? ORDER BY seq DESC LIMIT 1",
            [self._run_id, stream, agent_id, behind],
        )
        return found[0] if found else None

    def dead_letters(self, most: int) -> list[tuple[str, int, int, str]]:
        """Stream, line, event time (µs) and reason of the newest dead letters of lines that wait."""
        rows = self._reader.rows(
            f"SELECT stream_id, seq, {self._time.format('event_time')}, reason FROM dead_letters "
            "WHERE run_id = ? AND topic IS NULL AND redriven_at IS NULL ORDER BY event_time DESC LIMIT ?",
            [self._run_id, most],
        )
        return [(stream, seq, micros([time])[0], reason) for stream, seq, time, reason in rows]

    def training_steps(self) -> list[tuple[int, int]]:
        """The trainer's steps in order, each with the event time (µs) of its first rollout."""
        rows = self._reader.rows(
            f"SELECT training_step, {self._time.format('min(event_time)')} FROM rollouts "
            "WHERE run_id = ? AND training_step IS NOT NULL GROUP BY training_step ORDER BY training_step",
            [self._run_id],
        )
        return [
            (step, time) for (step, _), time in zip(rows, micros([time for _, time in rows]), strict=True)
        ]

    def newest_frame(self, agent_id: str) -> tuple[str, int] | None:
        """Stream and partition of an agent's newest picture."""
        found = self._reader.rows(
            "SELECT stream_id, topic_partition FROM frames WHERE run_id = ? AND agent_id = ? "
            "ORDER BY event_time DESC LIMIT 1",
            [self._run_id, agent_id],
        )
        return found[0] if found else None

    def frames_from(self, stream: str, agent_id: str, offset: int) -> list[tuple[int, int, int]] | None:
        """Line, event time (µs) and episode of an agent's first picture from an offset on, and its last."""
        query = (
            f"SELECT seq, {self._time.format('event_time')}, coalesce(episode_index, 0) FROM frames "
            "WHERE run_id = ? AND stream_id = ? AND agent_id = ? AND topic_offset >= ? ORDER BY seq"
        )
        ends = [
            self._reader.rows(f"{query} {way} LIMIT 1", [self._run_id, stream, agent_id, offset])
            for way in ("ASC", "DESC")
        ]
        return [(seq, micros([time])[0], episode) for [(seq, time, episode)] in ends] if ends[0] else None

    def _kinds(self, stream: str, first: int, last: int) -> Iterable[Kind]:
        low = bisect_left(self._points, (stream, first // BLOCK), key=_block)
        high = bisect_right(self._points, (stream, last // BLOCK), key=_block)
        here = {point.topic for point in self._points[low:high]}
        return [kind for kind in LINES if kind in here]

    def _stored(self) -> list[SeekPoint]:
        time = self._time.format("newest_event_time")
        return self._summed(
            f"SELECT run_id, stream_id, block, topic, topic_partition, {time}, first_offset, last_offset, "
            "records, newest_episode FROM seek_points WHERE run_id = ?"
        )

    def _computed(self) -> list[SeekPoint]:
        return [point for kind in LINES for point in self._summed(seek_point_rows(kind, self._time))]

    def _summed(self, query: str) -> list[SeekPoint]:
        rows = self._reader.rows(query, [self._run_id])
        times = micros([row[5] for row in rows])
        return [
            SeekPoint(run_id, stream, block, topic, partition, time, first, last, records, episode)
            for time, (run_id, stream, block, topic, partition, _, first, last, records, episode) in zip(
                times, rows, strict=True
            )
        ]


def seek_point_rows(kind: Kind, time: str = "{0}") -> str:
    """The query for a run's seek points of one kind, from its rows. Columns in the table's order."""
    partition = "topic_partition"
    if kind is Kind.DLQ:
        partition = f"CASE WHEN topic IS NULL THEN topic_partition ELSE {ELSEWHERE} END"
    episode = "max(episode_index)" if kind in _OF_EPISODES else "NULL"
    return (
        f"SELECT run_id, stream_id, seq / {BLOCK}, '{kind.value}', {partition}, "
        f"{time.format('max(event_time)')}, min(topic_offset), max(topic_offset), count(*), {episode} "
        f"FROM {_TABLES[kind]} WHERE run_id = ? GROUP BY 1, 2, 3, 4, 5"
    )


def _time_column(postgres: bool) -> str:
    return "(EXTRACT(EPOCH FROM {0}) * 1000000)::bigint" if postgres else "{0}"


def _page(kind: Kind, postgres: bool) -> str:
    columns = [
        _time_column(postgres).format(name)
        if name == "event_time"
        else f"{name}::text"
        if postgres and name in _JSON
        else name
        for name in SQL_COLUMNS[kind]
    ]
    return f"SELECT {', '.join(columns)}, topic_partition, topic_offset {_of_lines(kind)}"


def _head(kind: Kind, postgres: bool) -> str:
    time = _time_column(postgres).format("event_time")
    episode = "episode_index" if kind in _OF_EPISODES else "NULL"
    return f"SELECT {time}, seq, {episode}, agent_id, topic_partition, topic_offset {_of_lines(kind)}"


def _of_lines(kind: Kind) -> str:
    return f"FROM {_TABLES[kind]} WHERE run_id = ? AND stream_id = ? AND seq BETWEEN ? AND ? ORDER BY seq"


def _items(kind: Kind, stream: str, rows: list[tuple[Any, ...]], prefix: str) -> list[Item]:
    new, times = tuple.__new__, micros([row[3] for row in rows])  # `Item` itself takes one call more
    items = [
        new(Item, (kind, stream, row[0], time, row[1], row[-2], row[-1], time // 1000, row))
        for time, row in zip(times, rows, strict=True)
    ]
    if kind is Kind.DLQ:
        return [_refused(item, prefix) for item in items]
    return items


def _refused(letter: Item, prefix: str) -> Item:
    """A consumer's letter about a record that could be read is that record again."""
    reason, raw, topic = letter.load[4], bytes(letter.load[7]), letter.load[8]
    kinds = {kind.topic(prefix): kind for kind in LINES}
    under_its_place = letter.stream_id == f"{topic}-{letter.partition}"
    if topic not in kinds or reason != "refused" or under_its_place or len(raw) >= LONGEST_RAW:
        return letter
    return letter._replace(kind=kinds[topic], load=raw)


__all__ = ["NoTablesError", "RunFacts", "SqlSource", "seek_point_rows"]
