"""The attempts of a run: each start of a run's id, told apart by the streams that it wrote.

Workers that run side by side are one attempt. A stream that says `run_started` after every stream before it
has ended begins the next one. Attempts are not stored: they are computed from the streams' events and times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, String, Table, cast, select

from infra.sql.engine import reading
from infra.sql.streams import stream_ends
from schemas.fold import LOST, RUNNING, Fold, Record
from schemas.tables import EVENT_TABLES, RunEvent
from schemas.topics import META_SUFFIX, Kind

_STARTED, _TOLD_LATER = "run_started", "other"
_LIFE = (_STARTED, "run_completed", "run_failed", "run_cancelled", _TOLD_LATER)


@dataclass(frozen=True)
class Attempt:
    """One attempt at a run.

    Args:
        number: from 1.
        status: running, completed, failed, cancelled or lost.
        started_at: time of its first event.
        ended_at: time of its last event.
        stream_ids: the streams of its workers; their rows are its rows.
    """

    number: int
    status: str
    started_at: datetime
    ended_at: datetime
    stream_ids: list[str]


@dataclass
class Span:
    """The time between the first and the last event of a worker, and whether it says `run_started`."""

    first: datetime
    last: datetime
    starts: bool = False


def attempts_of(engine: Engine, run_id: str) -> list[Attempt]:
    """The attempts of a run, the first one first; empty for a run without events.

    Raises:
        DatabaseError: the database does not answer, or refuses.
    """
    with reading(engine) as connection:
        return read_attempts(connection, run_id)


def read_attempts(connection: Connection, run_id: str) -> list[Attempt]:
    """The same, over an open connection."""
    spans: dict[str, Span] = {}
    streams: dict[str, None] = {}
    for table in EVENT_TABLES.values():
        for stream_id, first, last in _times(connection, table, run_id):
            _widen(spans, worker_of(stream_id), first, last)
            streams[stream_id] = None
    life = _life(connection, run_id)
    for record in life:
        if record["event"] == _STARTED:
            spans[worker_of(record["stream_id"])].starts = True
    grouped = in_attempts(spans)
    named = [name for name in sorted(streams) if not name.endswith(META_SUFFIX)]
    return [
        Attempt(
            number,
            _status(life, workers, newest=number == len(grouped)),
            min(spans[worker].first for worker in workers),
            max(spans[worker].last for worker in workers),
            [name for name in named if worker_of(name) in workers],
        )
        for number, workers in enumerate(grouped, 1)
    ]


def in_attempts(spans: Mapping[str, Span]) -> list[set[str]]:
    """Workers grouped by attempt: one that starts the run after all others have ended begins the next."""
    found: list[set[str]] = []
    end: datetime | None = None
    for worker, span in sorted(spans.items(), key=lambda item: (item[1].first, item[0])):
        if end is None or (span.starts and span.first > end):
            found.append(set())
        found[-1].add(worker)
        end = span.last if end is None else max(end, span.last)
    return found


def worker_of(stream_id: str) -> str:
    """The worker's stream that a stream belongs to: an SDK's under `run`, or stepstream's own."""
    return stream_id.partition(".")[0]


def _widen(spans: dict[str, Span], worker: str, first: datetime, last: datetime) -> None:
    span = spans.setdefault(worker, Span(first, last))
    span.first, span.last = min(span.first, first), max(span.last, last)


def _times(connection: Connection, table: Table, run_id: str) -> Iterator[tuple[str, datetime, datetime]]:
    """Event times of the first and the last row of each stream.

    The event that a worker is lost does not count: another process writes it, and later.
    """
    own = table.c.event != _TOLD_LATER if table.name == RunEvent.__tablename__ else None
    for stream_id, _ in stream_ends(connection, table, run_id):
        mine = select(table.c.event_time).where(table.c.run_id == run_id, table.c.stream_id == stream_id)
        mine = mine if own is None else mine.where(own)
        first = connection.scalar(mine.order_by(table.c.seq).limit(1))
        last = connection.scalar(mine.order_by(table.c.seq.desc()).limit(1))
        if first is not None and last is not None:
            yield stream_id, first, last


def _life(connection: Connection, run_id: str) -> list[Record]:
    """The starts and ends in the run's streams, in order of time."""
    table = EVENT_TABLES[RunEvent.__tablename__]
    columns = [
        table.c.stream_id,
        table.c.event,
        cast(table.c.payload, String).label("payload"),
        table.c.event_time,
    ]
    query = (
        select(*columns)
        .where(table.c.run_id == run_id, table.c.event.in_(_LIFE))
        .order_by(table.c.event_time)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def _status(life: Iterable[Record], workers: set[str], *, newest: bool) -> str:
    fold = Fold()
    for record in life:
        if worker_of(record["stream_id"]) in workers:
            at = int(record["event_time"].timestamp() * 1_000_000)
            fold.add(Kind.RUNS, record | {"run_id": "", "event_time": at}, at)
    status = fold.runs[""].status if fold.runs else RUNNING
    return LOST if status == RUNNING and not newest else status
