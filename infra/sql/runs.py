"""Runs in SQL: listed, shown, deleted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, Table, and_, delete, exists, func, or_, select, tuple_, update

from infra.sql.engine import fence_deletion, reading, writing
from infra.sql.rollouts import make_training_steps
from infra.sql.streams import Ends, stream_ends
from schemas.errors import UsageError
from schemas.fold import LOST, RUNNING
from schemas.tables import EVENT_TABLES, Agent, DeletedRun, Run, SeekPointRow, TrainingStep, UnindexedRun

COLUMNS = [column for column in Run.__table__.columns if column.name != "status_at"]

_OF_AGENTS = (
    select(
        Agent.run_id,
        func.count().label("agents"),
        (func.sum(Agent.return_sum) / func.nullif(func.sum(Agent.returns), 0)).label("mean_return"),
    )
    .group_by(Agent.run_id)
    .subquery()
)
_LISTED = select(
    *COLUMNS, func.coalesce(_OF_AGENTS.c.agents, 0).label("agents"), _OF_AGENTS.c.mean_return
).outerjoin_from(Run, _OF_AGENTS, _OF_AGENTS.c.run_id == Run.run_id)


def listed(engine: Engine, *, status: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
    """The runs, newest first: the columns of `runs`, how many agents each has, and the mean return of all
    of its episodes.
    """
    query = _LISTED.order_by(Run.started_at.desc(), Run.run_id).limit(limit)
    if status is not None:
        query = query.where(Run.status == status)
    with reading(engine) as connection:
        return [_object(row) for row in connection.execute(query)]


def shown(engine: Engine, run_id: str) -> dict[str, Any]:
    """One run in the same way.

    Raises:
        UsageError: there is no such run.
    """
    with reading(engine) as connection:
        row = connection.execute(_LISTED.where(Run.run_id == run_id)).one_or_none()
    if row is None:
        raise _unknown(run_id)
    return _object(row)


def resolved(engine: Engine, word: str) -> str:
    """The id of the run that has this id, else this name; a word that is neither is returned as it is.

    Raises:
        UsageError: several runs have this name.
    """
    named = select(Run.run_id).where(Run.name == word).order_by(Run.started_at.desc()).limit(6)
    with reading(engine) as connection:
        if connection.scalar(select(Run.run_id).where(Run.run_id == word)) is not None:
            return word
        found = list(connection.scalars(named))
    if len(found) > 1:
        more = ", …" if len(found) > 5 else ""
        raise UsageError(
            f"Several runs are named {word!r}; give the id of one: {', '.join(found[:5])}{more}."
        )
    return found[0] if found else word


def _unknown(run_id: str) -> UsageError:
    return UsageError(f"There is no run {run_id!r} in the database: `stepstream runs list` names them.")


DELETE_ROWS = 10_000
"""Rows deleted in one transaction: persist waits at most that long."""
DELETE_STREAMS = 100
"""Streams whose rows are deleted by one statement."""


def rows(engine: Engine, run_id: str) -> int:
    """How many rows of events a run has, those of stepstream's own streams among them.

    Raises:
        UsageError: there is no such run, nor rows that an interrupted deletion left.
    """
    counts = (
        select(func.count()).select_from(table).where(table.c.run_id == run_id).scalar_subquery()
        for table in EVENT_TABLES.values()
    )
    with reading(engine) as connection:
        found = sum(connection.execute(select(*counts)).one())
    if not found:
        shown(engine, run_id)
    return found


def remove(
    engine: Engine,
    run_id: str,
    clock: Callable[[], datetime],
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Delete a run as it is now; returns how many rows of events it had.

    One transaction, while no batch is open, marks it as deleted and removes it from `runs` and `agents`; from
    then on no batch stores an older record of it. Its rows are deleted in parts, up to the last row that each
    stream had by then: newer rows are the run begun again, and stay. If it is interrupted, the same call
    finishes it.

    Args:
        engine: the database.
        run_id: the run.
        clock: returns the time; records that Kafka gets later are the run begun again.
        progress: called with the number of rows deleted so far.

    Raises:
        UsageError: there is no such run.
    """
    with writing(engine) as connection:
        fence_deletion(connection, run_id, clock)
        ends = {table.name: stream_ends(connection, table, run_id) for table in EVENT_TABLES.values()}
        for model in (Agent, SeekPointRow, TrainingStep, UnindexedRun):
            connection.execute(delete(model).where(model.run_id == run_id))
        known = connection.execute(delete(Run).where(Run.run_id == run_id)).rowcount
        if not known and not any(ends.values()):
            raise _unknown(run_id)
    deleted = 0
    for name, table in EVENT_TABLES.items():
        for begin in range(0, len(ends[name]), DELETE_STREAMS):
            while count := _remove_some(engine, table, run_id, ends[name][begin : begin + DELETE_STREAMS]):
                deleted += count
                progress(deleted)
    with writing(
        engine
    ) as connection:  # persist may have counted old rollouts with those of the run begun again
        make_training_steps(connection, run_id)
    return deleted


def _remove_some(engine: Engine, table: Table, run_id: str, ends: Ends) -> int:
    key = (table.c.run_id, table.c.stream_id, table.c.seq)
    stored = or_(*(and_(table.c.stream_id == stream_id, table.c.seq <= last) for stream_id, last in ends))
    some = select(*key).where(table.c.run_id == run_id, stored).limit(DELETE_ROWS)
    with writing(engine) as connection:
        return connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount


def lose_silent_runs(engine: Engine, silent_since: datetime) -> list[str]:
    """Mark runs without a newer record than this as lost; returns their ids.

    `status_at` becomes `last_seen_at`, so that any newer record makes them `running` again.
    """
    silent = (
        select(Run.run_id)
        .where(Run.status == RUNNING, Run.last_seen_at < silent_since)
        .order_by(Run.run_id)
        .with_for_update()
    )
    later = func.greatest if engine.dialect.name == "postgresql" else func.max
    newest = func.coalesce(later(Run.status_at, Run.last_seen_at), Run.last_seen_at)
    with writing(engine) as connection:
        lost = list(connection.scalars(silent))
        if lost:
            connection.execute(update(Run).where(Run.run_id.in_(lost)).values(status=LOST, status_at=newest))
    return lost


def past_retention(engine: Engine, before: datetime) -> list[str]:
    """Runs that ended and have no newer record than this, and runs whose deletion was interrupted."""
    old = select(Run.run_id).where(Run.status != RUNNING, Run.last_seen_at < before)
    left = or_(*(exists().where(table.c.run_id == DeletedRun.run_id) for table in EVENT_TABLES.values()))
    begun = select(DeletedRun.run_id).where(~exists().where(Run.run_id == DeletedRun.run_id), left)
    with reading(engine) as connection:
        return sorted({*connection.scalars(old), *connection.scalars(begun)})


def _object(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    return dict(row._mapping)
