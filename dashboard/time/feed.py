"""A run's news as one viewer sees them: live, at a chosen moment, or replayed from there.

Every viewer has a clock: a position in the run and a speed. A moment comes as `News`, so that
every panel follows. What is live about the run (its head, its agents) goes on.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from functools import partial
from math import inf
from typing import Literal

from dashboard.address import Address
from dashboard.live.feeds import Feeds
from dashboard.live.news import Clock, News
from dashboard.live.run_feed import RunFeed
from dashboard.time import axis as axes
from dashboard.time.bar import Bar
from dashboard.time.clock import Delayed, Pace
from dashboard.time.follow import Follower
from dashboard.time.moves import Loop, Move, looped, moved, words
from dashboard.time.past import Past, Place
from dashboard.time.waiting import LiveOrWoken
from dashboard.time.words import PARTS, joined, lasting, names_moment, number, of_run, speed_of, spoken, where
from infra.history.index import Cut
from schemas.errors import StepstreamError

TICK_S = 0.04
"""Between two moments of a replay, at least."""
HEARS_S = {"live": 0.0, "replay": 0.25, "paused": 1.0}
"""Live news are read so often, at most. A replay must know at its end whether the run goes on."""
BAR_S = 2.0
"""What stands on the bar is read again so often, and said once a second while it is live."""
ADDRESS_S = 0.5


class TimedFeed(Follower):
    """One viewer's: `live` gives the run's news as they come, `address` is the page's."""

    def __init__(self, feeds: Feeds, live: RunFeed, address: Address) -> None:
        self._feeds, self._live, self._address = feeds, live, address
        self._run_id = address.run or ""
        self.state: Literal["live", "paused", "replay"] = "live"
        self.place: Place | None = None
        self._pace = Pace(speed_of(address))
        self._delayed = Delayed(number(address.get("behind")))
        self._said, self._again_at = "", inf
        """Why the moment of the address is not there, and when it is looked for again."""
        self._live_steps, self._steps = 0, 0
        """Steps of the agent, live and where this viewer stands."""
        self._waiting = LiveOrWoken(live.next)
        self._wants: Callable[[], Awaitable[News | None]] | None = None
        self.viewer = secrets.token_urlsafe(6)
        self._bar = Bar(self.viewer)
        self._bar_at, self._address_at, self._heard_at = 0.0, 0.0, 0.0
        super().__init__()

    @property
    def agent(self) -> str:
        """The open agent."""
        return self._live.agent or ""

    @property
    def own(self) -> bool:
        """Whether this viewer is elsewhere than all who look at what is live."""
        return self.state != "live" or names_moment(self._address)

    async def first(self) -> News:
        """All there is."""
        news = await self._live.first()
        self._feeds.viewers[self.viewer] = self
        self._hear(news)
        await self._reloop()
        if not names_moment(self._address) and self.state == "live":
            return await self._clocked(news)
        kept, cut = of_run(news, first=True), self.place.cut if self.place else None
        there = await self._reached(self._address) if cut is None else await self._seek(cut)
        if there is None:
            return await self._clocked(news)
        return joined(kept, there)

    async def next(self) -> News:
        """What came since, or where this viewer went."""
        while True:
            if self._wants is None and self.state == "live" and time.monotonic() > self._again_at:
                self._wants = lambda: self._reached(self._address)
            if self._wants is not None:
                wants, self._wants = self._wants, None
                with suppress(StepstreamError):
                    if (news := await wants()) is not None:
                        return news
            listens = time.monotonic() - self._heard_at >= HEARS_S[self.state]
            if (came := await self._waiting.next(self._pause(), live=listens)) is not None:
                return await self._came(came)
            if self._wants is None and (news := await self._ticked()) is not None:
                return news

    def moves(self, address: Address) -> bool:
        """Whether this address shows another agent, another moment, or another bar."""
        names = (*PARTS, "axis", "zoom", "speed", "behind", "loop")
        changed = any(address.get(name) != self._address.get(name) for name in names)
        return changed or self._live.moves(address)

    async def move(self, address: Address) -> News:
        """What there is at another address."""
        before, self._address = self._address, address
        self._pace.change(speed_of(address), time.monotonic())
        self._delayed.seconds = number(address.get("behind"))
        if address.get("loop") != before.get("loop"):
            await self._reloop()
        if self._live.moves(address):
            news = await self._live.move(address)
            self._hear(news)
            there = await self._seek(self.place.cut) if self.state != "live" and self.place else None
            return await self._clocked(there or news)
        if any(address.get(name) != before.get(name) for name in PARTS):
            if (there := await self._reached(address)) is not None:
                return there
            if self.state != "live" and not self._said:
                return await self._back()
        return await self._clocked(News(agent=self._live.agent))

    def act(self, name: str, value: str) -> None:
        """A control of the time bar was used: the newest counts."""
        move = Move.of(name, value)
        if move is None:
            return
        self.leave()
        self._wants = lambda: self._done(move)
        self._waiting.wake()

    async def stop(self) -> None:
        """The page is gone."""
        self._feeds.viewers.pop(self.viewer, None)
        self.leave()
        self.dismiss()

    def _pause(self) -> float:
        if self.state == "replay" or (self.state == "live" and self._delayed.seconds):
            return TICK_S
        return BAR_S if self.state == "live" else HEARS_S[self.state]

    async def _came(self, news: News) -> News:
        """What came live, for one who may be elsewhere."""
        self._hear(news)
        self._heard_at = time.monotonic()
        if self.state == "live":
            if self._delayed.seconds and not news.first:
                news = self._delayed.put(news, time.time())
            return await self._clocked(news, BAR_S / 2)
        return await self._clocked(of_run(news))

    def _hear(self, news: News) -> None:
        if news.counters is not None:
            self._live_steps = news.counters.seen

    async def _back(self) -> News:
        """To live again."""
        await self._waiting.stop()
        self.state, self.place, self._said, self._again_at = "live", None, "", inf
        news = await self._live.move(Address("/", (("agent", self.agent),)))
        self._hear(news)
        self._bar.loop = None
        self._readdress(news, dict.fromkeys((*PARTS, "loop")))
        self.lead(self.state, None)
        return await self._clocked(news)

    def led(self, state: str, cut: Cut | None) -> None:
        """The viewer that this one follows is at a cut; None: live."""

        async def follow() -> News | None:
            if cut is None:
                return await self._back() if self.state != "live" else None
            self.state = "replay" if state == "replay" else "paused"
            return await self._seek(cut)

        self._wants = follow
        self._waiting.wake()

    def left(self) -> None:
        """The viewer that this one follows is gone."""
        self._said = "The viewer whom you followed has left."
        self._waiting.wake()

    async def past(self, *, wait: bool = True) -> Past:
        """The run's past, as new as a moment ago; without `wait` as it is known: it is read again meanwhile.

        Raises:
            StepstreamError: SQL does not know the run, or does not answer.
        """
        return await self._feeds.pasts.fresh(self._run_id, BAR_S / 2, wait=wait)

    async def _reached(self, address: Address) -> News | None:
        """The moment that an address names; None: it names none, or the run has no such place yet."""
        self._again_at = inf
        if leader := self._feeds.viewers.get(address.get("follow")):
            self.follow(leader)
            self.led(leader.state, leader.place.cut if leader.place else None)
            return None
        self._said = ""
        if not names_moment(address):
            self._said = "A step is of an episode: name that, too." if address.get("step") else ""
            return None
        try:
            past, move = await self.past(), Move("go", where(address))
            find = lambda: moved(past, move, self.place, self.agent)  # noqa: E731 - a name for the next line
            return await self._found(past, find, named=True, pauses=not address.get("at"))
        except StepstreamError as error:
            self._said, self._again_at = str(error), time.monotonic() + BAR_S
            return None

    async def _seek(self, cut: Cut) -> News | None:
        return await self._found(await self.past(wait=False), lambda: cut)

    async def _found(
        self, past: Past, find: Callable[[], Cut | None], *, named: bool = False, pauses: bool = False
    ) -> News | None:
        """Everything at a moment that is found; the address says it, unless it `named` it first."""
        clock = self._bar.clock(self.state, self._pace.speed, self._address)
        there = await past.news(find, self.agent, partial(self._bar.fill, clock, past, self.agent))
        if there is None:
            return None
        self.place, news = there
        self.state = clock.state = "paused" if pauses or self.state == "live" else self.state
        self._steps = news.counters.seen if news.counters else 0
        if self.place.line is not None:
            self._pace.start(self.place.line.time, time.monotonic())
        if not named:
            self._readdress(news, spoken(self._address, words(self.place), news))
        self._said = self._said or news.frame_said
        self.lead(self.state, self.place.cut if self.place else None)
        self._prefetching = asyncio.create_task(past.prefetch(self.place))
        return await self._clocked(news, clock=clock)

    def _readdress(self, news: News, changes: dict[str, str | None]) -> None:
        self._address_at, news.address = time.monotonic(), changes
        self._address = Address.of(self._address.to(**changes))

    async def _done(self, move: Move) -> News | None:
        """Do what a control asks for."""
        self._said = ""
        if move.name == "live":
            return await self._back() if self.state != "live" or names_moment(self._address) else None
        past = await self.past(wait=move.name != "scrub")
        if move.name in ("from", "to"):
            return await self._looped(move.name, past)
        if move.name == "play":
            return await self._played(past)
        axis, scrubs, pasts = axes.chosen(self._address), move.name == "scrub", self._feeds.pasts
        try:
            async with pasts.scrubs.taken(rests=self._feeds.live) if scrubs else nullcontext():
                if scrubs and self._wants is not None:
                    return None  # a newer one came while this one waited
                return await self._found(past, lambda: moved(past, move, self.place, self.agent, axis))
        except StepstreamError as error:
            self._said = str(error)
            return await self._clocked(News(agent=self._live.agent))

    async def _played(self, past: Past) -> News | None:
        """Play from here, or pause here: from live, at the newest that is stored."""
        if self.state != "paused":
            self.state = "paused"
            cut = self.place.cut if self.place else past.history.index.ends()
            return await self._seek(cut)
        self.state = "replay"
        if self.place is not None and self.place.line is not None:
            self._pace.start(self.place.line.time, time.monotonic())
        self.lead(self.state, self.place.cut if self.place else None)
        return await self._clocked(News(agent=self._live.agent))

    async def _reloop(self) -> None:
        """Take the loop of the address."""
        self._bar.loop, text = None, self._address.get("loop")
        with suppress(StepstreamError):
            if text:
                past = await self.past()
                self._bar.loop = await past.read(lambda: Loop.of(past, text, self.agent))

    async def _looped(self, end: str, past: Past) -> News:
        """Set an end of the loop here. Its other end is the run's."""
        self._bar.loop = await past.read(lambda: looped(past, self._bar.loop, end, self.place, self.agent))
        news = News(agent=self._live.agent)
        self._readdress(news, {"loop": self._bar.loop.words})
        return await self._clocked(news)

    async def _ticked(self) -> News | None:
        """What is due by time: the next moment of a replay, delayed live news, the bar."""
        if self.state == "replay" and self.place is not None:
            with suppress(StepstreamError):
                return await self._played_on(await self.past(), self.place)
        delayed = self._delayed if self.state == "live" and self._delayed.seconds else None
        if delayed and (news := delayed.take(time.time(), self._live.agent)) is not None:
            return news
        if time.monotonic() - self._bar_at < BAR_S:
            return None
        return await self._clocked(News(agent=self._live.agent), BAR_S / 2)

    async def _played_on(self, past: Past, place: Place) -> News | None:
        """The next moment of a replay; at the end of the loop or of the run, what follows it."""
        now, index = time.monotonic(), past.history.index
        following = await past.read(lambda: index.moment(place.cut, place.cut))
        if self._bar.loop is not None and (following is None or self._bar.loop.is_over(place)):
            return await self._seek(self._bar.loop.start.cut)
        if following is None:
            return await self._ended(past)
        if skipped := self._pace.skip(following[0], now):
            self._said = f"A pause of {lasting(skipped)} in the run was skipped."
        target = self._pace.at(now)
        stop = self._bar.loop.stop.cut if self._bar.loop and self._bar.loop.stop else None
        cut = await past.read(lambda: past.until(place.cut, target, stop))
        if cut == place.cut:
            return None
        self.place, news = await past.between(place.cut, cut, self.agent)
        if news.counters is not None:
            self._steps = news.counters.seen
        if now - self._address_at > ADDRESS_S:
            self._readdress(news, spoken(self._address, words(self.place), news))
        self.lead(self.state, self.place.cut if self.place else None)
        return await self._clocked(news, TICK_S)

    async def _ended(self, past: Past) -> News | None:
        """A replay has come to what is newest: live where the run goes on, else it pauses."""
        await past.fresh(BAR_S / 4)
        if self._live_steps > self._steps:
            return await self._back()
        self.state = "paused"
        return await self._clocked(News(agent=self._live.agent))

    async def _clocked(self, news: News, seldom: float = 0.0, clock: Clock | None = None) -> News:
        """News with what the time bar shows, unless it was said just now; `clock`: that is filled in."""
        if time.monotonic() - self._bar_at < seldom:
            return news
        self._bar_at, filled, bar = time.monotonic(), clock, self._bar
        clock = news.clock = filled or bar.clock(self.state, self._pace.speed, self._address)
        clock.said = self._said
        if self.state != "live":
            clock.meanwhile = max(0, self._live_steps - self._steps)
        try:
            past = await self.past(wait=False)
            if filled is None:
                await past.read(lambda: bar.fill(clock, past, self.agent, self.place))
            await bar.draw(clock, past, self.agent, waits=filled is not None)
        except StepstreamError as error:
            clock.said = clock.said or ("" if self.state == "live" else str(error))
        return news
