"""Makes the seek points of runs that were stored before seek points existed."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import Connection, Engine, delete, func, select, text

from infra.history.sql_source import seek_point_rows
from infra.sql.engine import fence_batches, reading, writing
from schemas.seek_points import BLOCK
from schemas.tables import EVENT_TABLES, SeekPointRow, UnindexedRun
from schemas.topics import LINES, Kind

BLOCKS = 20
"""Blocks indexed in one transaction: persist waits at most that long."""


def index_runs(
    engine: Engine,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: threading.Event | None = None,
) -> int:
    """Make missing seek points; returns how many runs lacked them. If interrupted, the same call continues.

    Args:
        engine: the database.
        progress: called with the number of runs that are done, and of all.
        stop: ends it between two transactions.
    """
    with reading(engine) as connection:
        waiting = list(connection.scalars(select(UnindexedRun.run_id).order_by(UnindexedRun.run_id)))
    for done, run_id in enumerate(waiting):
        progress(done, len(waiting))
        if not _index(engine, run_id, stop or threading.Event()):
            return done
    progress(len(waiting), len(waiting))
    return len(waiting)


def _index(engine: Engine, run_id: str, stop: threading.Event) -> bool:
    """One run, some blocks at a time, while no batch is open: later batches add to them."""
    for kind in LINES:
        for stream, last in _streams(engine, kind, run_id):
            for first in range(0, last // BLOCK + 1, BLOCKS):
                if stop.is_set():
                    return False
                with writing(engine) as connection:
                    fence_batches(connection)
                    _make(connection, kind, run_id, stream, first)
    with writing(engine) as connection:
        connection.execute(delete(UnindexedRun).where(UnindexedRun.run_id == run_id))
    return True


def _streams(engine: Engine, kind: Kind, run_id: str) -> list[tuple[str, int]]:
    table = EVENT_TABLES[kind.table]
    query = select(table.c.stream_id, func.max(table.c.seq)).where(table.c.run_id == run_id)
    with reading(engine) as connection:
        return [(stream, last) for stream, last in connection.execute(query.group_by(table.c.stream_id))]


def _make(connection: Connection, kind: Kind, run_id: str, stream: str, first: int) -> None:
    points = SeekPointRow
    connection.execute(
        delete(points).where(
            points.run_id == run_id,
            points.stream_id == stream,
            points.topic == kind.value,
            points.block.between(first, first + BLOCKS - 1),
        )
    )
    columns = ", ".join(column.name for column in points.__table__.columns)
    lines = "run_id = :run AND stream_id = :stream AND seq BETWEEN :a AND :b"
    rows = seek_point_rows(kind).replace("run_id = ?", lines)
    where = {"run": run_id, "stream": stream, "a": first * BLOCK, "b": (first + BLOCKS) * BLOCK - 1}
    connection.execute(text(f"INSERT INTO seek_points ({columns}) {rows}"), where)
