"""What a page is sent: Redis' newest on top of what SQL holds, as one message a delta.

Redis away or empty: the same from SQL alone, read again every two seconds, and the page says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from msgspec import Struct

from dashboard import figures, merge, wire
from dashboard.buffer import LiveBuffer
from dashboard.live_types import AgentRow, Delta, RunRow, View
from dashboard.queries import Curve, Page, PageRequest, Queries, RunHeader
from dashboard.shared import Shared
from infra.settings import Settings
from schemas.errors import DatabaseError, LiveBufferError

BEAT_S = 5.0
"""A delta is sent at least this often: the page takes silence for a lost connection."""
SOON_S = 1.0
"""And this soon, where SQL has not got everything yet."""
SQL_EVERY_S = 2.0
STORED_S = 1.0
"""All pages share one reading of a run's totals in SQL for so long."""
ATTEMPTS_S = 30.0
NEWEST = 100
FIRST_METRICS = 12
"""Metrics that are drawn where the page has chosen none."""
MAX_RUNS = 500
BEHIND_MS = 5000
"""Redis that is so much older than SQL is not being filled."""

NO_REDIS = "The live buffer does not answer: this page shows what SQL holds, read every two seconds."
NO_LIVE = "The live service is behind SQL: this page shows what SQL holds, read every few seconds."
NO_SQL = "The database does not answer: this page shows the newest only."

T = TypeVar("T")
Message = dict[str, Any]


class Wish(Struct, frozen=True):
    """What a page looks at."""

    page: str = "runs"
    run: str = ""
    panel: str = "agent"
    """agent, metrics, log or config."""
    agent: str | None = None
    episode: str | None = None
    metric: tuple[str, ...] = ()


class Feeds:
    """Makes feeds; holds what pages share."""

    def __init__(self, settings: Settings, buffer: LiveBuffer, queries: Queries) -> None:
        self.buffer, self.queries = buffer, queries
        self.lost_seconds = settings.lost_seconds
        self.runs: Shared[Page] = Shared(lambda: queries.runs(PageRequest(0, MAX_RUNS)), STORED_S)
        self.headers: Shared[RunHeader | None] = Shared(queries.run, STORED_S)
        self.agents: Shared[list[dict[str, Any]]] = Shared(queries.agents, STORED_S)
        self.attempts: Shared[list[dict[str, Any]]] = Shared(queries.attempts, ATTEMPTS_S)
        self.stored_steps: Shared[int] = Shared(queries.stored_steps, STORED_S)
        self.returns: Shared[list[float]] = Shared(queries.newest_returns, 30.0)
        self.first_agent: Shared[str | None] = Shared(self._first_agent, STORED_S)
        self._acting: dict[str, str] = {}

    def of(self, wish: Wish) -> RunsFeed | RunFeed:
        """The feed for what a page looks at."""
        return RunFeed(self, wish) if wish.page == "run" else RunsFeed(self)

    async def _first_agent(self, run_id: str) -> str | None:
        """The first agent of a run, in the order in which people count: of those that act, where any does."""
        if run_id in self._acting:
            return self._acting[run_id]
        acts = await self._agents(run_id)
        acting = [agent_id for agent_id, is_acting in acts.items() if is_acting]
        if acting:
            self._acting[run_id] = min(acting, key=merge.natural)
        return min(acting or acts, key=merge.natural, default=None)

    async def _agents(self, run_id: str) -> dict[str, bool]:
        """A run's agents; True: it has steps or episodes, and not only metrics."""
        try:
            if live := await self.buffer.agents(run_id):
                return {row.agent_id: bool(row.steps or row.episodes) for row in live}
        except LiveBufferError:
            pass
        stored = await self.agents(run_id)
        return {row["agent_id"]: bool(row["steps"] or row["episodes"]) for row in stored}


class _Feed:
    """Waits on Redis; where it does not answer, sleeps, and what SQL holds is sent again."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds
        self._since: str | None = None
        self._notice = ""
        self._beat_s = BEAT_S
        self._beat = False
        """Nothing came: there is time to ask SQL."""

    async def _wait(self, view: View) -> Delta | None:
        """What Redis says; None where SQL alone must do."""
        begun = time.monotonic()
        try:
            delta = await self._feeds.buffer.wait(view, self._since, self._beat_s)
        except LiveBufferError:
            self._since, self._notice = None, NO_REDIS
            return None
        self._since, self._notice = delta.cursor, ""
        self._beat = time.monotonic() - begun > 0.9 * self._beat_s
        return delta

    async def _ask(self, asked: Awaitable[T], otherwise: T) -> T:
        try:
            return await asked
        except DatabaseError:
            self._notice = NO_SQL
            return otherwise

    def _message(self, full: bool) -> Message:
        return {"full": full, "since": self._since, "notice": self._notice}


class RunsFeed(_Feed):
    """The list of runs."""

    def __init__(self, feeds: Feeds) -> None:
        super().__init__(feeds)
        self._asked: set[str] = set()
        """Runs whose row in SQL was asked for: once for each, and then with all rows after some silence."""

    async def first(self, since: str | None) -> Message:
        """Every run that SQL or Redis knows."""
        self._since = since
        delta = await self._wait(View())
        if since and delta is not None and not delta.reset:
            return await self._changed(delta, full=False)
        return await self._changed(delta, full=True)

    async def next(self) -> Message:
        """What changed since; after some silence, everything."""
        delta = await self._wait(View())
        if delta is None:
            await asyncio.sleep(SQL_EVERY_S)
        return await self._changed(delta, full=delta is None or delta.reset or self._beat)

    async def _changed(self, delta: Delta | None, full: bool) -> Message:
        lists = delta.runs if delta is not None else []
        found: dict[str, dict[str, Any]] = {}
        live = {row.run_id: row for row in lists}
        if full or not self._asked.issuperset(live):
            page = await self._ask(self._feeds.runs(fresh=True), None)
            found = {row["run_id"]: row for row in page.rows} if page else {}
            self._asked.update(live if page else (), found)
        names = [*live, *(run_id for run_id in found if run_id not in live)] if full else list(live)
        lost_after, now = self._feeds.lost_seconds, time.time()
        made = [merge.run_row(live.get(name), found.get(name), lost_after, now) for name in names]
        await asyncio.gather(*(self._add(row) for row in made))
        return self._message(full) | {"runs": made}

    async def _add(self, row: dict[str, Any]) -> None:
        if row["agents"] and (first := await self._ask(self._feeds.first_agent(row["run_id"]), None)):
            row["first_agent"] = first
        if not row.get("returns") and row["episodes"]:  # Redis knows it no more
            returns = await self._ask(self._feeds.returns(row["run_id"]), [])
            row["returns"] = returns[-60:]
            row["mean_return"] = sum(returns) / len(returns) if returns else None


class RunFeed(_Feed):
    """One run, and one of its panels."""

    def __init__(self, feeds: Feeds, wish: Wish) -> None:
        super().__init__(feeds)
        self._wish = wish
        self._agent = wish.agent if wish.panel == "agent" else None
        self._run: dict[str, Any] = {}
        self._known = False

    @property
    def _view(self) -> View:
        panel = self._wish.panel
        return View(
            run_id=self._wish.run,
            agent_id=self._agent,
            agents=panel == "agent",
            metrics=panel == "metrics",
            logs=panel == "log",
        )

    async def first(self, since: str | None) -> Message:
        """All there is; or, after a reconnect, what came since."""
        self._since = since
        delta = await self._wait(self._view)
        if since and delta is not None and not delta.reset:
            self._known = True
            return await self._changed(delta)
        return await self._whole(delta)

    async def next(self) -> Message:
        """What came since."""
        delta = await self._wait(self._view)
        if delta is None:
            await asyncio.sleep(SQL_EVERY_S)
            return await self._whole(None)
        born = self._agent is None and self._wish.panel == "agent" and delta.agents
        if await self._behind(delta):
            self._notice = NO_LIVE
            return await self._whole(None)
        if delta.reset or born or (not self._known and delta.run is not None):
            return await self._whole(delta)
        return await self._changed(delta)

    async def _behind(self, delta: Delta) -> bool:
        """Redis brought nothing new, and what it holds is older than SQL: the live service is away."""
        if delta.steps or delta.episodes or delta.reset or delta.run is None:
            return False
        header = await self._ask(self._feeds.headers(self._wish.run, fresh=self._beat), None)
        newest = (header.run["last_seen_at"] or 0) if header is not None else 0
        return bool(newest > delta.run.last_seen_at + BEHIND_MS)

    async def _whole(self, delta: Delta | None) -> Message:
        live = delta or Delta("")
        header = await self._ask(self._feeds.headers(self._wish.run, fresh=self._beat), None)
        listed = await self._listed(live)
        if self._agent is None and self._wish.panel == "agent" and listed:
            acting = [row for row in listed if row.steps or row.episodes]
            self._agent = min((row.agent_id for row in acting or listed), key=merge.natural)
            if delta is not None:
                self._since = None
                live = await self._wait(self._view) or live
        self._known = header is not None or live.run is not None
        message = self._message(True) | {"unknown": not self._known, "agents": listed}
        message |= self._head(live.run, header)
        message["attempts"] = await self._ask(self._feeds.attempts(self._wish.run), [])
        message |= await self._panel_whole(live)
        if delta is None and "agent" in message:
            del message["agent"]["frame"]  # SQL holds no pictures: the last one stays
        return message

    async def _listed(self, live: Delta) -> list[AgentRow]:
        if self._wish.panel != "agent":
            return []
        stored = await self._ask(self._feeds.agents(self._wish.run, fresh=self._beat), [])
        merged = {row["agent_id"]: merge.stored_agent(row) for row in stored}
        for row in live.agents:
            merged[row.agent_id] = merge.live_agent(row, merged.get(row.agent_id))
        return list(merged.values())

    def _head(self, live: RunRow | None, header: RunHeader | None) -> Message:
        if live is None and header is None:
            return {}
        stored = header.run if header is not None else None
        self._run = merge.run_row(live, stored, self._feeds.lost_seconds, time.time())
        if header is not None and self._run["status"] in ("failed", "lost"):
            self._run["last_lines"] = header.last_stderr
        return {"run": self._run, "counts": merge.counts(live, header)}

    async def _panel_whole(self, live: Delta) -> Message:
        if self._wish.panel == "metrics":
            return {"metrics": await self._metrics(live)}
        if self._wish.panel == "log":
            return {"logs": {"reset": True, "lines": await self._lines(live)}}
        if self._agent is not None:
            return {"agent": await self._agent_whole(live)}
        return {}

    async def _agent_whole(self, live: Delta) -> Message:
        run_id, agent_id, queries = self._wish.run, self._agent or "", self._feeds.queries
        newest = PageRequest(0, NEWEST)
        curve = await self._ask(queries.return_curve(run_id, agent_id, figures.POINTS), Curve())
        seen = live.agent.episodes if live.agent is not None else 0
        part: Message = {"id": agent_id, "reset": True}
        part["curve"] = figures.return_curve(curve, live.episodes, seen)
        part["steps"] = [wire.step(step, agent_id) for step in live.steps]
        part["episodes"] = [wire.episode(one, agent_id, self._run) for one in live.episodes[-NEWEST:]]
        if not live.steps:
            page = await self._ask(queries.steps(run_id, agent_id, newest), None)
            part["steps"] = [wire.short(row) for row in page.rows[::-1]] if page else []
        if not live.episodes:
            page = await self._ask(queries.episodes(run_id, agent_id, newest), None)
            part["episodes"] = [wire.light(row) for row in page.rows[::-1]] if page else []
        if (index := merge.natural_index(self._wish.episode)) is not None:
            steps = await self._ask(queries.episode_steps(run_id, agent_id, index), [])
            part["episode"] = figures.episode_rewards(steps)
        part["frame"] = wire.frame(live.frame) if live.frame is not None else None
        part["counters"] = await self._counters(live)
        return part

    async def _counters(self, live: Delta) -> Message:
        reading = self._feeds.stored_steps(self._wish.run, self._agent or "", fresh=self._beat)
        in_sql = await self._ask(reading, 0)
        newest = live.steps[-1].at / 1000 if live.steps else None
        seen = max(live.agent.steps if live.agent else 0, in_sql)
        self._beat_s = BEAT_S if seen == in_sql else SOON_S
        return {
            "seen": seen,
            "stored": in_sql,
            "rate": live.agent.steps_per_second if live.agent else 0.0,
            "lag_ms": None if newest is None else time.time() * 1000 - newest,
            "waiting": live.run.lag if live.run else 0,
        }

    async def _metrics(self, live: Delta) -> Message:
        run_id, queries = self._wish.run, self._feeds.queries
        stored = await self._ask(queries.metric_names(run_id), [])
        names = sorted({*stored, *(name for point in live.metrics for name in point.values)})
        drawn = [name for name in names if name in self._wish.metric] or names[:FIRST_METRICS]
        curves = await asyncio.gather(
            *(self._ask(queries.metric_series(run_id, name), Curve()) for name in drawn)
        )
        series = {
            name: figures.metric(curve, name, live.metrics) for name, curve in zip(drawn, curves, strict=True)
        }
        return {"reset": True, "names": names, "series": series}

    async def _lines(self, live: Delta) -> list[dict[str, Any]]:
        if live.logs:
            return [wire.log(line) for line in live.logs]
        request = PageRequest(0, 500)
        page = await self._ask(self._feeds.queries.logs(self._wish.run, request), None)
        found = page.rows[::-1] if page else []
        return [{"at": row["timestamp"], "source": row["source"], "line": row["line"]} for row in found]

    async def _changed(self, delta: Delta) -> Message:
        message = self._message(False)
        if delta.run is not None:
            header = await self._ask(self._feeds.headers(self._wish.run, fresh=self._beat), None)
            message |= self._head(delta.run, header)
        if delta.agents:
            message["agents"] = delta.agents
        if self._agent is not None:
            message["agent"] = await self._agent_changed(delta, self._agent)
        if delta.metrics:
            points = [[at.global_step, at.values] for at in delta.metrics]
            message["metrics"] = {"points": points}
        if delta.logs:
            message["logs"] = {"reset": False, "lines": [wire.log(line) for line in delta.logs]}
        return message

    async def _agent_changed(self, delta: Delta, agent_id: str) -> Message:
        part: Message = {"id": agent_id, "thinned": delta.thinned, "missed": delta.missed}
        if delta.steps:
            part["steps"] = [wire.step(step, agent_id) for step in delta.steps]
            part["lag_ms"] = time.time() * 1000 - delta.steps[-1].at / 1000
        if delta.episodes:
            part["episodes"] = [wire.episode(one, agent_id, self._run) for one in delta.episodes]
        if delta.frame is not None:
            part["frame"] = wire.frame(delta.frame)
        if delta.agent is not None:
            part["counters"] = await self._counters(delta)
        return part
