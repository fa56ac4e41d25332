"""The dashboard's reads from SQL. Asynchronous: every statement runs in a thread, with a time limit.

    queries = Queries(settings)
    page = await queries.runs(PageRequest.of(request))      # {"rowData": page.rows, "rowCount": page.total}
    header = await queries.run(run_id)
    curve = await queries.return_curve(run_id, agent_id)
    page = await queries.steps(run_id, agent_id, PageRequest(start, end))

Every method raises DatabaseError (no tables, no answer, too slow); a page also UsageError (a bad filter).
Moments are ms since 1970 (UTC).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from msgspec import Struct, field
from sqlalchemy import ColumnElement, Connection, Table, and_, func, select, true

from dashboard import sql_rows as rows
from dashboard.sql_curves import IN_MEMORY, ROLLING, Curve, number_in, reduce, reduced_in_sql
from dashboard.sql_ladder import BY_EPISODE, BY_LINE, BY_STEP, Ladders
from dashboard.sql_listing import Listing, read_page
from dashboard.sql_page import Page, PageRequest, order_by, where
from infra.settings import Settings
from infra.sql import engine as sql
from infra.sql.attempts import read_attempts
from infra.sql.reading import LONGEST_S, reading
from infra.sql.streams import stream_ends
from schemas.topics import META_SUFFIX

__all__ = ["Curve", "Page", "PageRequest", "Queries", "RunHeader", "StepPlace"]

P = ParamSpec("P")
T = TypeVar("T")

Whose = tuple[str, str | None, int | None]
"""Run, agent (None: all) and index of an episode (None: all): whose rows a page lists."""

LAST_WORDS = 20
MAX_STEPS_OF_EPISODE = 20_000
NEAR_LINES = 20_000
"""The next step of an agent is looked for in so many lines of its stream."""
MAX_AGENTS = 10_000
MAX_STREAMS = 200
NAMES_FROM = 300
"""Names of metrics are looked for in so many rows at each end of a run."""


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


class StepPlace(Struct, frozen=True):
    """Whose a step is, and where its record lies in the topic of steps."""

    seq: int
    agent_id: str
    episode_index: int | None
    partition: int
    offset: int


class Queries:
    """Reads of both kinds of database. One per process; its methods may run side by side.

    Args:
        settings: where the database is.
        seconds: what one question may take.
    """

    def __init__(self, settings: Settings, seconds: float = LONGEST_S) -> None:
        self._seconds = seconds
        self._engine = sql.engine(settings)
        self._ladders = Ladders()

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    async def runs(self, request: PageRequest) -> Page:
        """Runs by any column of `runs`, the newest first; further keys: `agents`, `mean_return`."""
        return await self._ask(self._runs, request)

    async def run(self, run_id: str) -> RunHeader | None:
        """The head of a run; None where SQL does not know it (yet)."""
        return await self._ask(self._run, run_id)

    async def attempts(self, run_id: str) -> list[dict[str, Any]]:
        """A run's attempts, the first one first. Keys: those of `infra.sql.attempts.Attempt`."""
        return await self._ask(self._attempts, run_id)

    async def agents(self, run_id: str) -> list[dict[str, Any]]:
        """A run's agents by id: the columns of `agents`."""
        return await self._ask(self._agents, run_id)

    async def stored_steps(self, run_id: str, agent_id: str) -> int:
        """How many steps of one agent are there."""
        return await self._ask(self._stored_steps, run_id, agent_id)

    async def return_curve(self, run_id: str, agent_id: str, points: int = 2000) -> Curve:
        """Return per episode of an agent over the whole run; x is the episode's index, or its number."""
        return await self._ask(self._return_curve, run_id, agent_id, points)

    async def newest_returns(self, run_id: str) -> list[float]:
        """Returns of a run's newest hundred episodes, oldest first, all agents together."""
        return await self._ask(self._newest_returns, run_id)

    async def episodes(
        self, run_id: str, agent_id: str | None, request: PageRequest, episode_index: int | None = None
    ) -> Page:
        """Episodes (or those of one index), the newest first. Keys: `sql_rows.episode_row`."""
        return await self._ask(self._episodes, (run_id, agent_id, episode_index), request)

    async def steps(
        self,
        run_id: str,
        agent_id: str | None,
        request: PageRequest,
        episode_index: int | None = None,
        *,
        full: bool = False,
    ) -> Page:
        """Steps (or those of one episode), the newest first. Keys: `sql_rows.step_row`.

        Long texts are cut unless `full`; `cut` says so.
        """
        return await self._ask(self._steps, (run_id, agent_id, episode_index), request, full)

    async def episode_steps(self, run_id: str, agent_id: str, episode_index: int) -> list[dict[str, Any]]:
        """The steps of one episode in order, at most 20,000."""
        return await self._ask(self._episode_steps, run_id, agent_id, episode_index)

    async def step(self, run_id: str, stream_id: str, seq: int) -> dict[str, Any] | None:
        """One step with its texts in full."""
        return await self._ask(self._step, run_id, stream_id, seq)

    async def step_beside(
        self, run_id: str, stream_id: str, seq: int, *, after: bool
    ) -> dict[str, Any] | None:
        """The step before or after a step, in full; None at the end of its episode."""
        return await self._ask(self._step_beside, run_id, stream_id, seq, after)

    async def first_step(self, run_id: str, agent_id: str, episode_index: int) -> dict[str, Any] | None:
        """The first step of an episode, in full."""
        return await self._ask(self._first_step, run_id, agent_id, episode_index)

    async def step_place(self, run_id: str, stream_id: str, seq: int) -> StepPlace | None:
        """Whose a step is, and where it lies on Kafka."""
        return await self._ask(self._step_place, run_id, stream_id, seq)

    async def metric_names(self, run_id: str) -> list[str]:
        """Names of the run's metrics, as far as its first and newest rows tell."""
        return await self._ask(self._metric_names, rows.METRICS, run_id, None)

    async def step_metric_names(self, run_id: str, agent_id: str) -> list[str]:
        """Names of the numbers that an agent's steps carry."""
        return await self._ask(self._metric_names, rows.STEPS, run_id, agent_id)

    async def metric_series(
        self, run_id: str, name: str, agent_id: str | None = None, points: int = 1000
    ) -> Curve:
        """A metric by its global step (by its number of line where there is none)."""
        return await self._ask(self._metric_series, run_id, name, agent_id, points)

    async def logs(self, run_id: str, request: PageRequest) -> Page:
        """The run's log, the newest line first. Keys: `sql_rows.log_row`."""
        return await self._ask(self._logs, run_id, request)

    async def dead_letters(self, run_id: str, request: PageRequest) -> Page:
        """The run's dead letters, the newest first. Keys: `sql_rows.dead_letter_row`."""
        return await self._ask(self._dead_letters, run_id, request)

    async def _ask(
        self, read: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def work() -> T:
            with reading(self._engine, self._seconds) as connection:
                return read(connection, *args, **kwargs)

        return await asyncio.to_thread(work)

    def _runs(self, connection: Connection, request: PageRequest) -> Page:
        table = rows.RUNS
        columns = rows.columns(table)
        found = and_(true(), *where(request, columns))
        order = order_by(request, columns) or [table.c.started_at.desc().nulls_last()]
        statement = select(*rows.selected(table)).where(found).order_by(*order, table.c.run_id)
        page = connection.execute(
            statement.offset(request.start).limit(request.end - request.start)
        ).mappings()
        listed = [rows.plain_row(row) for row in page]
        self._add_agents(connection, listed)
        total = connection.execute(select(func.count()).select_from(table).where(found)).scalar_one()
        return Page(listed, total)

    def _add_agents(self, connection: Connection, listed: list[dict[str, Any]]) -> None:
        table = rows.AGENTS
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

    def _run(self, connection: Connection, run_id: str) -> RunHeader | None:
        table = rows.RUNS
        found = connection.execute(select(table).where(table.c.run_id == run_id)).mappings().first()
        if found is None:
            return None
        row = rows.plain_row(found)
        counted = ("steps", "episodes", "metrics", "run_events", "logs", "dead_letters")
        agents = select(func.count()).select_from(rows.AGENTS).where(rows.AGENTS.c.run_id == run_id)
        streams = self._meta_streams(connection, run_id)
        return RunHeader(
            run=row,
            agents=connection.execute(agents).scalar_one(),
            in_sql=sum(row[name] for name in counted),
            heartbeats=self._heartbeats(connection, run_id, streams),
            last_stderr=self._last_stderr(connection, run_id, streams),
        )

    def _attempts(self, connection: Connection, run_id: str) -> list[dict[str, Any]]:
        return [rows.plain_row(asdict(attempt)) for attempt in read_attempts(connection, run_id)]

    def _meta_streams(self, connection: Connection, run_id: str) -> list[str]:
        """Ids of the streams that stepstream wrote beside a run's own, the newest first."""
        found = (stream_id for stream_id, _ in stream_ends(connection, rows.RUN_EVENTS, run_id))
        return sorted((name for name in found if name.endswith(META_SUFFIX)), reverse=True)[:MAX_STREAMS]

    def _heartbeats(
        self, connection: Connection, run_id: str, streams: Sequence[str]
    ) -> list[dict[str, Any]]:
        table = rows.RUN_EVENTS
        found: list[str | None] = []
        for stream_id in streams:
            newest = (
                select(rows.text_of(table.c.payload))
                .where(table.c.run_id == run_id, table.c.stream_id == stream_id)
                .where(table.c.event == "heartbeat")
                .order_by(table.c.seq.desc())
                .limit(1)
            )
            found += connection.execute(newest).scalars().all()
        return [rows.parsed(text) for text in found]

    def _last_stderr(self, connection: Connection, run_id: str, streams: Sequence[str]) -> list[str]:
        table = rows.LOGS
        statement = (
            select(func.substr(table.c.line, 1, rows.CUT))
            .where(table.c.run_id == run_id, table.c.stream_id.in_(streams), table.c.source == "stderr")
            .order_by(table.c.stream_id.desc(), table.c.seq.desc())
            .limit(LAST_WORDS)
        )
        return list(connection.execute(statement).scalars())[::-1]

    def _agents(self, connection: Connection, run_id: str) -> list[dict[str, Any]]:
        table = rows.AGENTS
        statement = select(table).where(table.c.run_id == run_id).order_by(table.c.agent_id).limit(MAX_AGENTS)
        return [rows.plain_row(row) for row in connection.execute(statement).mappings()]

    def _stored_steps(self, connection: Connection, run_id: str, agent_id: str) -> int:
        table = rows.AGENTS.c
        statement = select(table.steps).where(table.run_id == run_id, table.agent_id == agent_id)
        return connection.execute(statement).scalar() or 0

    def _newest_returns(self, connection: Connection, run_id: str) -> list[float]:
        table = rows.EPISODES
        statement = (
            select(table.c.episode_return)
            .where(table.c.run_id == run_id)
            .order_by(table.c.stream_id.desc(), table.c.seq.desc())  # the primary key, backwards
            .limit(ROLLING)
        )
        found = connection.execute(statement).scalars()
        return [value for value in found if value is not None and np.isfinite(value)][::-1]

    def _return_curve(self, connection: Connection, run_id: str, agent_id: str, points: int) -> Curve:
        table = rows.EPISODES
        of = _of(table, run_id, agent_id)
        statement = (
            select(table.c.episode_index, table.c.episode_return)
            .where(of)
            .order_by(table.c.episode_index)
            .limit(IN_MEMORY + 1)
        )
        found = connection.execute(statement).all()
        if len(found) > IN_MEMORY and found[-1][0] is not None:
            return reduced_in_sql(connection, table.c.episode_index, table.c.episode_return, of, points)
        numbered = [
            (number if index is None else index, value) for number, (index, value) in enumerate(found)
        ]
        data = np.array([(x, np.nan if y is None else y) for x, y in numbered], dtype=np.float64).reshape(
            -1, 2
        )
        return reduce(data[:, 0], data[:, 1], points)

    def _episodes(self, connection: Connection, of: Whose, request: PageRequest) -> Page:
        run_id, agent_id, _ = of
        env_id, seed = self._env_and_seed(connection, run_id)
        by = BY_EPISODE if agent_id is not None else BY_LINE
        listing = Listing(
            rows.EPISODES, _of(rows.EPISODES, *of), of, by, lambda row: rows.episode_row(row, env_id, seed)
        )
        return read_page(connection, self._ladders, listing, request)

    def _env_and_seed(self, connection: Connection, run_id: str) -> tuple[str | None, Any]:
        table = rows.RUNS
        statement = select(table.c.env_id, rows.text_of(table.c.config)).where(table.c.run_id == run_id)
        found = connection.execute(statement).first()
        env_id, config = found if found is not None else (None, None)
        seed = rows.parsed(config).get("seed")
        return env_id, seed if isinstance(seed, str | int | float) else None

    def _steps(self, connection: Connection, of: Whose, request: PageRequest, full: bool) -> Page:
        by = BY_STEP if of[1] is not None else BY_LINE
        listing = Listing(rows.STEPS, _of(rows.STEPS, *of), of, by, rows.step_row, full)
        return read_page(connection, self._ladders, listing, request)

    def _episode_steps(
        self, connection: Connection, run_id: str, agent_id: str, episode_index: int
    ) -> list[dict[str, Any]]:
        table = rows.STEPS
        statement = (
            select(*rows.selected(table))
            .where(_of(table, run_id, agent_id), table.c.episode_index == episode_index)
            .order_by(table.c.step_index)
            .limit(MAX_STEPS_OF_EPISODE)
        )
        return [rows.step_row(row) for row in connection.execute(statement).mappings()]

    def _step(self, connection: Connection, run_id: str, stream_id: str, seq: int) -> dict[str, Any] | None:
        table = rows.STEPS
        named = and_(table.c.run_id == run_id, table.c.stream_id == stream_id, table.c.seq == seq)
        row = connection.execute(select(*rows.selected(table, full=True)).where(named)).mappings().first()
        return None if row is None else rows.step_row(row) | {"cut": False}

    def _step_beside(
        self, connection: Connection, run_id: str, stream_id: str, seq: int, after: bool
    ) -> dict[str, Any] | None:
        step = self._step_place(connection, run_id, stream_id, seq)
        if step is None:
            return None
        table = rows.STEPS
        number = table.c.seq
        near = (
            number.between(seq + 1, seq + NEAR_LINES) if after else number.between(seq - NEAR_LINES, seq - 1)
        )
        statement = (
            select(number, table.c.episode_index)
            .where(table.c.run_id == run_id, table.c.stream_id == stream_id, near)
            .where(table.c.agent_id == step.agent_id)
            .order_by(number.asc() if after else number.desc())
            .limit(1)
        )
        found = connection.execute(statement).first()
        if found is None or found[1] != step.episode_index:
            return None
        return self._step(connection, run_id, stream_id, found[0])

    def _first_step(
        self, connection: Connection, run_id: str, agent_id: str, episode_index: int
    ) -> dict[str, Any] | None:
        table = rows.STEPS
        statement = (
            select(table.c.stream_id, table.c.seq)
            .where(_of(table, run_id, agent_id), table.c.episode_index == episode_index)
            .order_by(table.c.step_index, table.c.seq)
            .limit(1)
        )
        found = connection.execute(statement).first()
        return None if found is None else self._step(connection, run_id, *found)

    def _step_place(self, connection: Connection, run_id: str, stream_id: str, seq: int) -> StepPlace | None:
        table = rows.STEPS
        place = (table.c.agent_id, table.c.episode_index, table.c.topic_partition, table.c.topic_offset)
        named = and_(table.c.run_id == run_id, table.c.stream_id == stream_id, table.c.seq == seq)
        found = connection.execute(select(*place).where(named)).first()
        return None if found is None else StepPlace(seq, *found)

    def _metric_names(
        self, connection: Connection, table: Table, run_id: str, agent_id: str | None
    ) -> list[str]:
        of = and_(_of(table, run_id, agent_id), table.c.metrics.is_not(None))
        names: dict[str, None] = {}
        keys = [table.c.stream_id, table.c.seq] if agent_id is None else [table.c.episode_index]
        for ends in ([key.asc() for key in keys], [key.desc() for key in keys]):
            statement = select(rows.text_of(table.c.metrics)).where(of).order_by(*ends).limit(NAMES_FROM)
            for text in connection.execute(statement).scalars():
                names |= dict.fromkeys(rows.parsed(text))
        return list(names)

    def _metric_series(
        self, connection: Connection, run_id: str, name: str, agent_id: str | None, points: int
    ) -> Curve:
        table = rows.METRICS
        of = _of(table, run_id, agent_id)
        total = connection.execute(select(func.count()).select_from(table).where(of)).scalar_one()
        every = -(-total // IN_MEMORY)
        sample = table.c.seq % every == 0 if every > 1 else true()
        value = number_in(table, name, connection.dialect.name)
        statement = select(func.coalesce(table.c.global_step, table.c.seq), value).where(of, sample)
        found = [(x, y) for x, y in connection.execute(statement) if isinstance(y, int | float)]
        data = np.array(sorted(found), dtype=np.float64).reshape(-1, 2)
        curve = reduce(data[:, 0], data[:, 1], points)
        curve.reduced = curve.reduced or every > 1
        return curve

    def _logs(self, connection: Connection, run_id: str, request: PageRequest) -> Page:
        listing = Listing(rows.LOGS, _of(rows.LOGS, run_id, None), run_id, BY_LINE, rows.log_row)
        return read_page(connection, self._ladders, listing, request)

    def _dead_letters(self, connection: Connection, run_id: str, request: PageRequest) -> Page:
        table, of = rows.DEAD_LETTERS, _of(rows.DEAD_LETTERS, run_id, None)
        return read_page(
            connection, self._ladders, Listing(table, of, run_id, BY_LINE, rows.dead_letter_row), request
        )


def _of(
    table: Table, run_id: str, agent_id: str | None, episode_index: int | None = None
) -> ColumnElement[bool]:
    named = {"run_id": run_id, "agent_id": agent_id, "episode_index": episode_index}
    return and_(*(table.c[name] == value for name, value in named.items() if value is not None))
