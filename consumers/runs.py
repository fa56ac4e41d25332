"""Runs in SQL: listed, shown, deleted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, Row, func, select

from infra.sql import reading
from schemas.errors import UsageError
from schemas.tables import Agent, Run

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


def _object(row: Row[Any]) -> dict[str, Any]:
    return dict(row._mapping)
