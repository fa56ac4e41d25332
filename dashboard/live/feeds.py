"""The news of an open page: the newest from Redis on top of SQL, as one `News` a delta.

While Redis is away or empty, the feed reads SQL alone every two seconds, and the page says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

from dashboard.address import Address
from dashboard.live import merge
from dashboard.live.buffer import LiveBuffer
from dashboard.live.news import News
from dashboard.live.shared import Shared
from dashboard.live.types import Delta, View
from dashboard.sql.queries import Page, PageRequest, Queries, RunHeader
from dashboard.time.past import Pasts
from infra.settings import Settings
from schemas.errors import DatabaseError, LiveBufferError

BEAT_S = 5.0
"""A delta is sent at least this often, as the page reads silence as a lost connection."""
SQL_EVERY_S = 2.0
ATTEMPTS_S = 30.0
STORED_S = 1.0
"""For this long all pages share one reading of a run's totals in SQL."""
MAX_RUNS = 500

NO_REDIS = "The live buffer does not answer: this page shows what SQL holds, read every two seconds."
NO_SQL = "The database does not answer: this page shows the newest only."

T = TypeVar("T")


class Feed(Protocol):
    """The source of a page's news."""

    @property
    def own(self) -> bool:
        """Whether its viewer stands in time where no other does."""

    async def first(self) -> News:
        """All there is."""

    async def next(self) -> News:
        """What is new since the last delta. If cancelled, it loses nothing."""

    def moves(self, address: Address) -> bool:
        """Whether this address needs other news than the feed gives now."""

    async def move(self, address: Address) -> News:
        """All news of another address of the same page."""

    def act(self, name: str, value: str) -> None:
        """A control of the page was used; what follows comes with `next`."""

    async def stop(self) -> None:
        """The page is gone."""


class Feeds:
    """Holds what pages share."""

    def __init__(self, settings: Settings, buffer: LiveBuffer, queries: Queries) -> None:
        self.buffer, self.queries = buffer, queries
        self.pasts = Pasts(settings, queries)
        self.viewers: dict[str, Any] = {}
        """Who looks at a run, by the name that `follow=` has for each."""
        self.lost_seconds = settings.lost_seconds
        self.runs: Shared[Page] = Shared(lambda: queries.runs(PageRequest(0, MAX_RUNS)), STORED_S)
        self.headers: Shared[RunHeader | None] = Shared(queries.run, STORED_S)
        self.agents: Shared[list[dict[str, Any]]] = Shared(queries.agents, STORED_S)
        self.stored_steps: Shared[int] = Shared(queries.stored_steps, STORED_S)
        self.returns: Shared[list[float]] = Shared(queries.newest_returns, 30.0)
        self.attempts: Shared[list[dict[str, Any]]] = Shared(queries.attempts, ATTEMPTS_S)
        self.first_agent: Shared[str | None] = Shared(self._first_agent, STORED_S)
        self._acting: dict[str, str] = {}

    @property
    def live(self) -> bool:
        """Whether somebody looks at what is live."""
        return any(viewer.state == "live" for viewer in self.viewers.values())

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


class Waiting:
    """Waits on Redis; while it does not answer, sleeps and sends what SQL holds."""

    own = False
    """Where it is live, all viewers are."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds
        self._since: str | None = None
        """The cursor up to which news were given."""
        self._read: str | None = None
        """The cursor up to which Redis was read."""
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
            self._read, self._notice = None, NO_REDIS
            return None
        self._read, self._notice = delta.cursor, ""
        self._beat = time.monotonic() - begun > 0.9 * self._beat_s
        return delta

    def _given(self, news: News) -> News:
        """From here on these news count as given."""
        self._since, news.notice = self._read, self._notice
        return news

    async def _ask(self, asked: Awaitable[T], otherwise: T) -> T:
        try:
            return await asked
        except DatabaseError:
            self._notice = NO_SQL
            return otherwise

    def act(self, name: str, value: str) -> None:
        """Nothing: it is live only."""

    async def stop(self) -> None:
        """Nothing is held."""


class RunsFeed(Waiting):
    """The list of runs."""

    def __init__(self, feeds: Feeds) -> None:
        super().__init__(feeds)
        self._asked: set[str] = set()
        """Runs whose row was read from SQL: once each, then again with all rows when nothing is new."""

    async def first(self) -> News:
        """Every run that SQL or Redis knows."""
        news = await self._changed(await self._wait(View()), full=True)
        news.first = True
        return self._given(news)

    async def next(self) -> News:
        """What changed since; everything, when nothing was new for a while."""
        delta = await self._wait(View())
        if delta is None:
            await asyncio.sleep(SQL_EVERY_S)
        return self._given(await self._changed(delta, full=delta is None or delta.reset or self._beat))

    def moves(self, address: Address) -> bool:
        """The list is the same wherever one looks at it."""
        return False

    async def move(self, address: Address) -> News:
        """Everything, once more."""
        return await self.first()

    async def _changed(self, delta: Delta | None, full: bool) -> News:
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
        return News(runs=made)

    async def _add(self, row: dict[str, Any]) -> None:
        if row["agents"] and (first := await self._ask(self._feeds.first_agent(row["run_id"]), None)):
            row["first_agent"] = first
        if not row.get("returns") and row["episodes"]:  # Redis knows it no more
            returns = await self._ask(self._feeds.returns(row["run_id"]), [])
            row["returns"] = returns[-60:]
            row["mean_return"] = sum(returns) / len(returns) if returns else None
