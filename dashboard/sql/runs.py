"""Reads of a run: the list of runs, a run's head, its agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from msgspec import Struct, field
from sqlalchemy import Connection, and_, case, func, select, true

from dashboard.sql import rows
from dashboard.sql.page import Page, PageRequest, order_by, where
from infra.history.curves import ROLLING
from infra.sql import tables
from infra.sql.attempts import read_attempts
from infra.sql.columns import streams
from schemas.topics import META_SUFFIX

LAST_WORDS = 20
MAX_AGENTS = 10_000
MAX_STREAMS = 200
FIRST_LINES = 10
"""A run says in so many lines of a stream what it is."""


class RunHeader(Struct):
    """What the head of a run's page shows."""

    run: dict[str, Any]
    """All columns of `runs`; `config` is JSON text."""
    agents: int = 0
    in_sql: int = 0
    """Records of the six tables."""
    heartbeats: list[dict[str, Any]] = field(default_factory=list)
    """Payload of the newest heartbeat of each stream: what its forwarder read and sent."""
    last_stderr: list[str] = field(default_factory=list)
    rollouts: bool = False
    """Whether it has any."""


def listed(connection: Connection, request: PageRequest) -> Page:
    """Runs by any column, the newest first, with `agents` and `mean_return`."""
    table = tables.RUNS
    columns = rows.columns(table)
    found = and_(true(), *where(request, columns))
    order = order_by(request, columns) or [table.c.started_at.desc().nulls_last()]
    statement = select(*rows.selected(table)).where(found).order_by(*order, table.c.run_id)
    page = connection.execute(statement.offset(request.start).limit(request.end - request.start)).mappings()
    listed = [rows.plain_row(row) for row in page]
    _add_agents(connection, listed)
    total = connection.execute(select(func.count()).select_from(table).where(found)).scalar_one()
    return Page(listed, total)


def _add_agents(connection: Connection, listed: list[dict[str, Any]]) -> None:
    table = tables.AGENTS
    sums = (func.count(), func.sum(table.c.return_sum), func.sum(table.c.returns))
    statement = (
        select(table.c.run_id, *sums)
        .where(table.c.run_id.in_([row["run_id"] for row in listed]))
        .group_by(table.c.run_id)
    )
    known = {run_id: rest for run_id, *rest in connection.execute(statement)}
    for row in listed:
        agents, return_sum, returns = known.get(row["run_id"], (0, 0.0, 0))
        row["agents"], row["mean_return"] = agents, return_sum / int(returns) if returns else None


def header(connection: Connection, run_id: str) -> RunHeader | None:
    """The head of a run."""
    table = tables.RUNS
    found = connection.execute(select(table).where(table.c.run_id == run_id)).mappings().first()
    if found is None:
        return None
    row = rows.plain_row(found)
    counted = ("steps", "episodes", "metrics", "run_events", "logs", "dead_letters")
    agents = select(func.count()).select_from(tables.AGENTS).where(tables.AGENTS.c.run_id == run_id)
    streams = _meta_streams(connection, run_id)
    return RunHeader(
        run=row,
        agents=connection.execute(agents).scalar_one(),
        in_sql=sum(row[name] for name in counted),
        heartbeats=_heartbeats(connection, run_id, streams),
        last_stderr=_last_stderr(connection, run_id, streams),
        rollouts=_has_rollouts(connection, run_id),
    )


def _has_rollouts(connection: Connection, run_id: str) -> bool:
    any_of = select(tables.ROLLOUTS.c.seq).where(tables.ROLLOUTS.c.run_id == run_id).limit(1)
    return connection.execute(any_of).first() is not None


def _meta_streams(connection: Connection, run_id: str) -> list[str]:
    """Ids of the streams that stepstream wrote beside a run's own, the newest first."""
    found = streams(connection, tables.RUN_EVENTS, run_id)
    return [stream_id for stream_id in reversed(found) if stream_id.endswith(META_SUFFIX)][:MAX_STREAMS]


def _heartbeats(connection: Connection, run_id: str, streams: Sequence[str]) -> list[dict[str, Any]]:
    table = tables.RUN_EVENTS
    found: list[str | None] = []
    for stream_id in streams:
        newest = (
            select(tables.text_of(table.c.payload))
            .where(table.c.run_id == run_id, table.c.stream_id == stream_id)
            .where(table.c.event == "heartbeat")
            .order_by(table.c.seq.desc())
            .limit(1)
        )
        found += connection.execute(newest).scalars().all()
    return [rows.parsed(text) for text in found]


def _last_stderr(connection: Connection, run_id: str, streams: Sequence[str]) -> list[str]:
    table = tables.LOGS
    statement = (
        select(func.substr(table.c.line, 1, rows.CUT))
        .where(table.c.run_id == run_id, table.c.stream_id.in_(streams), table.c.source == "stderr")
        .order_by(table.c.stream_id.desc(), table.c.seq.desc())
        .limit(LAST_WORDS)
    )
    return list(connection.execute(statement).scalars())[::-1]


def agents(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    """A run's agents by id."""
    table = tables.AGENTS
    statement = select(table).where(table.c.run_id == run_id).order_by(table.c.agent_id).limit(MAX_AGENTS)
    return [rows.plain_row(row) for row in connection.execute(statement).mappings()]


def stored_steps(connection: Connection, run_id: str, agent_id: str) -> int:
    """How many steps of one agent are there."""
    table = tables.AGENTS.c
    statement = select(table.steps).where(table.run_id == run_id, table.agent_id == agent_id)
    return connection.execute(statement).scalar() or 0


def newest_returns(connection: Connection, run_id: str) -> list[float]:
    """Returns of a run's newest hundred episodes, oldest first."""
    table = tables.EPISODES
    statement = (
        select(table.c.episode_return)
        .where(table.c.run_id == run_id)
        .order_by(table.c.stream_id.desc(), table.c.seq.desc())  # the primary key, backwards
        .limit(ROLLING)
    )
    found = connection.execute(statement).scalars()
    return [value for value in found if value is not None and np.isfinite(value)][::-1]


def before(connection: Connection, run_id: str) -> dict[str, Any] | None:
    """The run that began before a run, of its project and environment where there is one; else None."""
    table = tables.RUNS
    named = (table.c.started_at, table.c.project, table.c.env_id)
    found = connection.execute(select(*named).where(table.c.run_id == run_id)).first()
    if found is None or found.started_at is None:
        return None
    alike = [case((table.c[name] == getattr(found, name), 0), else_=1) for name in ("project", "env_id")]
    statement = (
        select(*rows.selected(table, full=True))
        .where(table.c.started_at < found.started_at, table.c.config.is_not(None))
        .order_by(*alike, table.c.started_at.desc())
        .limit(1)
    )
    row = connection.execute(statement).mappings().first()
    return None if row is None else rows.plain_row(row)


def learning_curve(connection: Connection, run_id: str, points: int) -> list[float]:
    """Mean returns of so many equal parts of a run, in the order of its lines: a sparkline."""
    table = tables.EPISODES
    of = tables.of(table, run_id, None)
    low, high = connection.execute(select(func.min(table.c.seq), func.max(table.c.seq)).where(of)).one()
    if low is None:
        return []
    part = (table.c.seq - low) * points // (high - low + 1)
    statement = select(func.avg(table.c.episode_return)).where(of).group_by(part).order_by(part)
    found = connection.execute(statement).scalars()
    return [value for value in found if value is not None and np.isfinite(value)]


def tags(connection: Connection, run_id: str) -> list[str]:
    """Tags that the run was started with."""
    table = tables.RUN_EVENTS
    found: dict[str, None] = {}
    for stream_id in streams(connection, table, run_id, MAX_STREAMS):
        begun = and_(table.c.run_id == run_id, table.c.stream_id == stream_id, table.c.seq <= FIRST_LINES)
        statement = select(tables.text_of(table.c.payload)).where(begun, table.c.event == "run_started")
        for text in connection.execute(statement).scalars():
            named = rows.parsed(text).get("tags")
            found |= dict.fromkeys(str(tag) for tag in named) if isinstance(named, list) else {}
    return list(found)


def attempts(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    """A run's attempts, the first one first."""
    return [rows.plain_row(asdict(attempt)) for attempt in read_attempts(connection, run_id)]
