"""Runs in SQL: listed, shown, deleted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, Table, delete, func, select, tuple_

from infra.sql.engine import fence_deletion, reading, writing
from schemas.errors import UsageError
from schemas.tables import EVENT_TABLES, Agent, DeletedRun, Run

COLUMNS = [column for column in Run.__table__.columns if column.name != "status_at"]

_AGENTS = (
    select(func.count())
    .select_from(Agent)
    .where(Agent.run_id == Run.run_id)
    .scalar_subquery()
    .label("agents")
)


def listed(engine: Engine, *, status: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
    """The runs, newest first: the columns of `runs` and how many agents each has."""
    query = select(*COLUMNS, _AGENTS).order_by(Run.started_at.desc(), Run.run_id).limit(limit)
    if status is not None:
        query = query.where(Run.status == status)
    with reading(engine) as connection:
        return [_object(row) for row in connection.execute(query)]


def shown(engine: Engine, run_id: str) -> dict[str, Any]:
    """One run likewise.

    Raises:
        UsageError: there is no such run.
    """
    with reading(engine) as connection:
        row = connection.execute(select(*COLUMNS, _AGENTS).where(Run.run_id == run_id)).one_or_none()
    if row is None:
        raise UsageError(f"There is no run {run_id!r} in the database: `stepstream runs list` names them.")
    return _object(row)


DELETE_ROWS = 10_000
"""Rows deleted in one transaction: persist waits for no more than that."""


def remove(
    engine: Engine, run_id: str, now: datetime, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Delete a run whole; returns how many rows of events it had.

    First it is written down as deleted, while no batch is open; from then on no batch stores a record of
    it that is older than that. Cut off in the middle, the same call finishes it.

    Args:
        engine: the database.
        run_id: the run.
        now: when it is deleted: what Kafka gets later is the run begun anew.
        progress: told the rows deleted so far.

    Raises:
        UsageError: there is no such run.
    """
    shown(engine, run_id)
    with writing(engine) as connection:
        fence_deletion(connection, run_id, now)
    deleted = 0
    for table in EVENT_TABLES.values():
        while count := _remove_some(engine, table, run_id):
            deleted += count
            progress(deleted)
    with writing(engine) as connection:
        connection.execute(delete(Agent).where(Agent.run_id == run_id))
        connection.execute(delete(Run).where(Run.run_id == run_id))
    return deleted


def _remove_some(engine: Engine, table: Table, run_id: str) -> int:
    key = (table.c.run_id, table.c.stream_id, table.c.seq)
    some = select(*key).where(table.c.run_id == run_id).limit(DELETE_ROWS)
    with writing(engine) as connection:
        return connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount


def past_retention(engine: Engine, before: datetime) -> list[str]:
    """Runs that ended and were last heard before this; and those whose deletion was cut off."""
    old = select(Run.run_id).where(Run.status != "running", Run.last_seen_at < before)
    begun = select(Run.run_id).where(
        Run.run_id.in_(select(DeletedRun.run_id).where(DeletedRun.deleted_at > Run.last_seen_at))
    )
    with reading(engine) as connection:
        return sorted({*connection.scalars(old), *connection.scalars(begun)})


def _object(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    return dict(row._mapping)
