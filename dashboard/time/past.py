"""A run's past, shared by all who look at it: moments as `News`, read in threads."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
from msgspec import Struct

from dashboard.live.news import Counters, News, Row
from dashboard.live.types import AgentRow
from dashboard.panels.frame import grid_of
from dashboard.sql.frames import Frames
from dashboard.sql.joined import POINTS, ascending
from dashboard.sql.queries import Queries, StepPlace
from dashboard.time.waiting import Share
from infra.history.curves import ROLLING, Numbers, reduce, rolling_mean
from infra.history.index import Cut, Line
from infra.history.moment import History, State
from infra.settings import Settings
from schemas.codec import Record
from schemas.errors import StepstreamError
from schemas.live import LiveEpisode, LiveStep
from schemas.topics import Kind

NEWEST = 100
FEW = 2_000
"""Lines between two moments that are told one by one; more are a jump."""
OPEN = 8
"""Runs whose past is held at once."""

SCRUBS = 1 / 3
"""Scrubs of all viewers together take this share of the time."""

T = TypeVar("T")


class Place(Struct):
    """A moment of a run, as one agent sees it."""

    cut: Cut
    step: int = -1
    """Of the whole run, from 0; -1: before the first."""
    line: Line | None = None
    """The agent's newest step by then."""
    stream: str = ""
    pictured: bool = True
    """Whether the agent has pictures, as far as is known."""


class Returns(Struct):
    """An agent's returns over the whole run."""

    x: Numbers
    y: Numbers
    mean: Numbers


class Past:
    """One run's.

    Args:
        history: where it is read.
        frames: pictures.
        run_id: the run.
    """

    def __init__(self, history: History, frames: Frames, run_id: str) -> None:
        self.history, self.frames, self._run_id = history, frames, run_id
        self._read_at = time.monotonic()
        self._reading: asyncio.Task[None] | None = None
        self._error: StepstreamError | None = None
        """Of the last reading."""
        self._returns: dict[str, Returns] = {}
        self.generation = 0
        """Grows when more is known."""

    async def fresh(self, seconds: float, *, wait: bool = True) -> None:
        """Read what is new, where the last reading is older; all viewers share it.

        Args:
            seconds: how old it may be.
            wait: until it is read.

        Raises:
            DatabaseError: SQL does not answer, or did not the last time.
        """
        if self._reading is None and time.monotonic() - self._read_at > seconds:
            self._reading = asyncio.create_task(self._refresh())
        if wait and self._reading is not None:
            await asyncio.shield(self._reading)
        if self._error is not None:
            raise self._error

    async def _refresh(self) -> None:
        try:
            if await asyncio.to_thread(self.history.refresh):
                self._returns, self.generation = {}, self.generation + 1
            self._error = None
        except StepstreamError as error:
            self._error = error
        finally:
            self._read_at, self._reading = time.monotonic(), None

    async def read(self, ask: Callable[[], T]) -> T:
        """Ask the history in a thread."""

        def locked() -> T:
            with self.history.lock:
                return ask()

        return await asyncio.to_thread(locked)

    def place(self, cut: Cut, agent_id: str) -> Place:
        """What is at a cut."""
        index = self.history.index
        newest = self.history.newest(Kind.STEPS, cut, agent_id, 1)
        line = index.line(newest[-1].stream_id, newest[-1].seq) if newest else None
        return Place(cut, index.steps_before(cut) - 1, line, newest[-1].stream_id if newest else "")

    def until(self, cut: Cut, time: int, stop: Cut | None) -> Cut:
        """A cut moved on to behind the lines of an event time, µs, and not behind `stop`."""
        index = self.history.index
        reached = {stream: index.first_at_time(stream, time + 1) for stream in index.streams}
        if stop is not None:
            reached = {stream: min(seq, stop.get(stream, seq)) for stream, seq in reached.items()}
        return {stream: max(cut.get(stream, 0), seq) for stream, seq in reached.items()}

    def returns(self, agent_id: str) -> Returns:
        """An agent's returns so far, x growing."""
        if (known := self._returns.get(agent_id)) is None:
            told = self.history.told.returns(self.history.index.ends(), agent_id)
            points = np.array(ascending(told, -1.0)).reshape(-1, 2)
            x, y = points[:, 0], points[:, 1]
            known = self._returns[agent_id] = Returns(x, y, rolling_mean(y))
        return known

    async def news(
        self,
        find: Callable[[], Cut | None],
        agent_id: str,
        seen: Callable[[Place], None] = lambda place: None,
    ) -> tuple[Place, News] | None:
        """Everything of an agent at a moment, its picture too; None: there is no such moment.

        All of it is one reading: on a busy machine each further one waits longer than it takes.

        Args:
            find: gives the moment.
            seen: told the place, reads what else is shown of it.

        Raises:
            StepstreamError: of `find`, or SQL does not answer.
        """

        def found() -> tuple[Place, News] | None:
            if (cut := find()) is None:
                return None
            place, news = self._news(cut, agent_id)
            seen(place)
            return place, news

        if (at := await self.read(found)) is not None:
            await self.picture(*at)
        return at

    async def between(self, start: Cut, stop: Cut, agent_id: str) -> tuple[Place, News]:
        """What came between two moments, as a delta; a jump where it is much.

        Raises:
            DatabaseError: SQL does not answer.
        """
        lines = sum(max(0, seq - start.get(stream, 0)) for stream, seq in stop.items())
        if lines > FEW and (there := await self.news(lambda: stop, agent_id)) is not None:
            return there
        place, news = await self.read(lambda: self._between(start, stop, agent_id))
        if news.steps:
            await self.picture(place, news)
        return place, news

    async def picture(self, place: Place, news: News) -> None:
        """Add the picture of the newest step, or why there is none."""
        if place.line is None:
            return
        if (drawn := grid_of(news.steps[-1].text("extras"))) is not None:
            news.frame = drawn
        if drawn is not None or not place.pictured:
            return
        step = _step_place(place.line)
        answer = await self.frames.at(self._run_id, place.stream, step)
        news.frame, news.frame_said = answer.frame, answer.caption(news.steps[-1]["step_index"])

    async def prefetch(self, place: Place) -> None:
        """Fetch the pictures before a moment; those behind it come by themselves."""
        if place.line is not None:
            with suppress(StepstreamError):
                await self.frames.before(self._run_id, place.stream, _step_place(place.line))

    def _news(self, cut: Cut, agent_id: str) -> tuple[Place, News]:
        state = self.history.state_at(cut, agent_id, NEWEST)
        episodes = self.history.newest(Kind.EPISODES, cut, agent_id, NEWEST)
        news = News(first_of_agent=True, seek=True, agent=agent_id)
        news.steps = [_row(LiveStep, record) for record in state.steps]
        news.episodes = [_row(LiveEpisode, self.history.record(item)) for item in episodes]
        news.returns = self._figure(state, agent_id)
        self._count(news, state)
        place = Place(cut, state.step - 1)
        place.pictured = state.frame is not None or self.history.pictures(agent_id) is not None
        if state.steps:
            newest = state.steps[-1]
            place.stream = newest["stream_id"]
            place.line = self.history.index.line(place.stream, newest["seq"])
        return place, news

    def _between(self, start: Cut, stop: Cut, agent_id: str) -> tuple[Place, News]:
        news = News(agent=agent_id)
        for item in self.history.between(start, stop, agent_id):
            if item.kind is Kind.STEPS:
                news.steps.append(_row(LiveStep, self.history.record(item)))
            elif item.kind is Kind.EPISODES:
                news.episodes.append(_row(LiveEpisode, self.history.record(item)))
        steps = self.history.count(Kind.STEPS, stop, agent_id)
        news.counters = Counters(steps, steps)
        news.thinned = max(0, len(news.steps) - NEWEST)
        news.steps = news.steps[-NEWEST:]
        return self.place(stop, agent_id), news

    def _count(self, news: News, state: State) -> None:
        agent = state.agent
        steps, episodes = (agent.steps, agent.episodes) if agent is not None else (0, 0)
        news.counters = Counters(steps, steps)
        news.row = AgentRow(news.agent or "", steps, episodes)

    def _figure(self, state: State, agent_id: str) -> dict[str, list[Any]]:
        """The return curve up to a moment, as `News.returns` has it."""
        count, whole = len(state.returns), self.returns(agent_id)
        if len(self.history.index.workers) > 1:  # streams mingle: what came first is not what is listed first
            points = np.array(ascending(state.returns, -1.0)).reshape(-1, 2)
            whole = Returns(points[:, 0], points[:, 1], rolling_mean(points[:, 1]))
        newest_first = whole.y[:count][::-1]  # of equal ones the newest is the best
        best = state.returns[-1 - int(newest_first.argmax())][::-1] if count else ()
        curve = reduce(whole.x[:count], whole.y[:count], POINTS, whole.mean[:count])
        figure = {"x": curve.x, "y": curve.y, "mean_x": curve.mean_x, "mean": curve.mean}
        return {**figure, "tail": whole.y[max(0, count - ROLLING) : count].tolist(), "best": list(best)}


class Pasts:
    """The pasts of the runs that were looked at last: all pages and the API share them.

    One that is forgotten is closed when the last who reads from it is done.

    Args:
        settings: addresses.
        queries: reads from SQL.
    """

    def __init__(self, settings: Settings, queries: Queries) -> None:
        self._settings = settings
        self.frames = Frames(settings, queries)
        self.scrubs = Share(SCRUBS)
        """For moments that come many a second: a page that is live must not wait for those who scrub."""
        self._held: OrderedDict[str, Past] = OrderedDict()
        self._lock = asyncio.Lock()

    async def of(self, run_id: str) -> Past:
        """A run's past.

        Raises:
            StepstreamError: SQL does not know the run, or does not answer.
        """
        async with self._lock:
            if (past := self._held.get(run_id)) is None:
                history = await asyncio.to_thread(History, self._settings, run_id)
                past = self._held[run_id] = Past(history, self.frames, run_id)
            self._held.move_to_end(run_id)
            while len(self._held) > OPEN:
                self._held.popitem(last=False)
        return past

    async def fresh(self, run_id: str, seconds: float, *, wait: bool = True) -> Past:
        """A run's past as it was so long ago, at most; without `wait` it is read again meanwhile.

        Raises:
            StepstreamError: SQL does not know the run, or does not answer; the next call opens it anew.
        """
        past = await self.of(run_id)
        try:
            await past.fresh(seconds, wait=wait)
        except StepstreamError:
            self._held.pop(run_id, None)
            raise
        return past

    def close(self) -> None:
        """Give every connection back."""
        self._held.clear()
        self.frames.close()


def _step_place(line: Line) -> StepPlace:
    return StepPlace(line.seq, line.agent_id, line.own_episode, line.partition, line.offset)


def _row(kind: type[LiveStep] | type[LiveEpisode], record: Record) -> Row:
    """A record as panels read it."""
    return Row(kind(*(record[name] for name in kind.__struct_fields__)), record["agent_id"])
