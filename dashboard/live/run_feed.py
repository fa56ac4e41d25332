"""What the pages of one run are told."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from dashboard.address import Address
from dashboard.live import merge, wire
from dashboard.live.cursor import carried
from dashboard.live.feeds import BEAT_S, SQL_EVERY_S, Feeds, Waiting
from dashboard.live.news import Counters, News, Row
from dashboard.live.types import AgentRow, Delta, RunRow, View
from dashboard.sql import joined
from dashboard.sql.queries import Curve, PageRequest, RunHeader

SOON_S = 1.0
"""Seconds between deltas while SQL lacks some of the run's records."""
NEWEST = 100
BEHIND_MS = 5000
"""If Redis is this much older than SQL, the live service is away."""

NO_LIVE = "The live service is behind SQL: this page shows what SQL holds, read every few seconds."


class RunFeed(Waiting):
    """One run.

    Args:
        feeds: what pages share.
        view: what is on screen, the open agent aside.
        agent_id: the open agent; None: the first there is, where agents are on screen.
    """

    def __init__(self, feeds: Feeds, view: View, agent_id: str | None) -> None:
        super().__init__(feeds)
        self._view = msgspec.structs.replace(view, agent_id=agent_id if view.agents else None)
        self._run_id = view.run_id or ""
        self._run: dict[str, Any] = {}
        self._known = False

    @property
    def agent(self) -> str | None:
        """The open agent."""
        return self._view.agent_id

    async def first(self) -> News:
        """All there is."""
        self._since = None
        return self._given(await self._whole(await self._wait(self._view)))

    def moves(self, address: Address) -> bool:
        """Another agent is chosen."""
        agent_id = address.get("agent")
        return bool(self._view.agents and agent_id and agent_id != self.agent)

    async def move(self, address: Address) -> News:
        """What there is of another agent. What is known of the run stays."""
        before, self._since = self._since, None
        self._view = msgspec.structs.replace(self._view, agent_id=address.get("agent"))
        delta = await self._wait(msgspec.structs.replace(self._view, agents=False))
        self._read = carried(self._read, before)
        news = self._news(first_of_agent=True)
        await self._add_agent(news, delta or Delta(""), pictures=delta is not None)
        return self._given(news)

    async def next(self) -> News:
        """What is new since the last delta. If cancelled, it loses nothing."""
        return self._given(await self._next())

    async def _next(self) -> News:
        delta = await self._wait(self._view)
        if delta is None:
            await asyncio.sleep(SQL_EVERY_S)
            return await self._whole(None)
        born = self.agent is None and self._view.agents and delta.agents
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
        header = await self._ask(self._feeds.headers(self._run_id, fresh=self._beat), None)
        newest = (header.run["last_seen_at"] or 0) if header is not None else 0
        return bool(newest > delta.run.last_seen_at + BEHIND_MS)

    def _news(self, **more: Any) -> News:
        return News(agent=self.agent, known=self._known, **more)

    async def _whole(self, delta: Delta | None) -> News:
        live = delta or Delta("")
        header = await self._ask(self._feeds.headers(self._run_id, fresh=self._beat), None)
        listed = await self._listed(live)
        if self.agent is None and listed:
            acting = [row for row in listed if row.steps or row.episodes]
            first = min((row.agent_id for row in acting or listed), key=merge.natural)
            self._view = msgspec.structs.replace(self._view, agent_id=first)
            if delta is not None:
                self._since = None
                live = await self._wait(self._view) or live
        self._known = header is not None or live.run is not None
        news = self._news(first=True, first_of_agent=True, agents=listed)
        self._add_head(news, live.run, header)
        news.attempts = await self._ask(self._feeds.attempts(self._run_id), [])
        news.points, news.logs = live.metrics, live.logs
        if self.agent is not None:
            await self._add_agent(news, live, pictures=delta is not None)
        return news

    async def _listed(self, live: Delta) -> list[AgentRow]:
        if not self._view.agents:
            return []
        stored = await self._ask(self._feeds.agents(self._run_id, fresh=self._beat), [])
        merged = {row["agent_id"]: merge.stored_agent(row) for row in stored}
        for row in live.agents:
            merged[row.agent_id] = merge.live_agent(row, merged.get(row.agent_id))
        return list(merged.values())

    def _add_head(self, news: News, live: RunRow | None, header: RunHeader | None) -> None:
        if live is None and header is None:
            return
        stored = header.run if header is not None else None
        self._run = merge.run_row(live, stored, self._feeds.lost_seconds, time.time())
        if header is not None and self._run["status"] in ("failed", "lost"):
            self._run["last_lines"] = header.last_stderr
        self._run["rollouts"] = header is not None and header.rollouts
        news.run, news.counts = self._run, merge.counts(live, header)

    async def _add_agent(self, news: News, live: Delta, pictures: bool) -> None:
        """All there is of the open agent. Without `pictures` the last one stays: SQL holds none."""
        run_id, agent_id, queries = self._run_id, self.agent or "", self._feeds.queries
        newest = PageRequest(0, NEWEST)
        stored = await self._ask(queries.return_curve(run_id, agent_id, joined.POINTS), Curve())
        seen = live.agent.episodes if live.agent is not None else 0
        news.returns = joined.return_curve(stored, live.episodes, seen)
        news.steps = [Row(step, agent_id) for step in live.steps]
        news.episodes = [Row(one, agent_id) for one in live.episodes[-NEWEST:]]
        if not live.steps:
            page = await self._ask(queries.steps(run_id, agent_id, newest), None)
            news.steps = [wire.stored_step(row) for row in page.rows[::-1]] if page else []
        if not live.episodes:
            page = await self._ask(queries.episodes(run_id, agent_id, newest), None)
            news.episodes = [wire.stored_episode(row) for row in page.rows[::-1]] if page else []
        news.frame, news.pictures = live.frame, pictures
        news.row = live.agent
        news.counters = await self._counters(live)
        news.lag_ms = _lag(live)

    async def _counters(self, live: Delta) -> Counters:
        reading = self._feeds.stored_steps(self._run_id, self.agent or "", fresh=self._beat)
        stored = await self._ask(reading, 0)
        seen = max(live.agent.steps if live.agent else 0, stored)
        self._beat_s = BEAT_S if seen == stored else SOON_S
        rate = live.agent.steps_per_second if live.agent else 0.0
        return Counters(seen, stored, rate, live.run.lag if live.run else 0)

    async def _changed(self, delta: Delta) -> News:
        news = self._news(agents=delta.agents, points=delta.metrics, logs=delta.logs)
        if delta.run is not None:
            header = await self._ask(self._feeds.headers(self._run_id, fresh=self._beat), None)
            self._add_head(news, delta.run, header)
        if self.agent is not None:
            news.steps = [Row(step, self.agent) for step in delta.steps]
            news.episodes = [Row(one, self.agent) for one in delta.episodes]
            news.frame, news.row, news.lag_ms = delta.frame, delta.agent, _lag(delta)
            news.thinned, news.missed = delta.thinned, delta.missed
            news.counters = await self._counters(delta) if delta.agent is not None else None
        return news


def _lag(delta: Delta) -> float | None:
    return time.time() * 1000 - delta.steps[-1].event_time / 1000 if delta.steps else None
