"""Makes the messages of one open page from its panels, one for each delta.

A message holds `texts` by key of a live leaf, `props` by component id, set at once, and `draw`: props of what
is heavy, which the page sets one after each paint. Panels with `every` 0 speak with each delta. The others
take it, and one of them draws, while the page paints: no number waits for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from dash.development.base_component import Component
from dash_ag_grid import AgGrid
from msgspec import Raw

from dashboard.address import Address
from dashboard.controls import patched
from dashboard.history import History
from dashboard.live.feeds import Feed, Feeds
from dashboard.live.news import News
from dashboard.page import Page, apart
from dashboard.plugins import Plugin
from dashboard.push.said import Message
from dashboard.push.slot import ENCODER, GuestSlot, Pieces, Slot
from dashboard.push.turns import Turns

AT_ONCE_S = 0.005
"""News that are there are read within this time."""
PROMPT_S = 0.1
"""After a jump, panels that draw at least this often come with the numbers; others take turns."""


class Screen:
    """One open page: its panels, and the feed behind them."""

    def __init__(self, page: Page, feeds: Feeds, address: Address, settings: Mapping[str, Any]) -> None:
        self.page, self.address, self._settings = page, address, settings
        self._feeds = feeds
        self._feed: Feed = page.feed(feeds, address)
        self._wake = asyncio.Event()
        self._slots = [Slot(panel, self._wake.set) for panel in page.panels(address)]
        self._slots += [_guest(plugin, self._wake.set) for plugin in page.plugins()]
        self._turns = Turns()
        self._later: list[News] = []
        """What panels that take turns have not taken yet."""
        self._anew: list[Slot] = []
        """Panels that show another agent: they draw as soon as the numbers stand."""
        self._unread: list[Slot] = []
        """Panels that have to read history, when they have taken what came."""
        self._ahead: dict[Slot, Pieces] = {}
        """What was drawn while the page painted."""
        self._heavy = False
        """Whether the page still draws: how long that takes is known when it has."""
        self._said: dict[str, str] = {}
        self._waiting: asyncio.Task[News] | None = None
        self._agent: str | None = None
        self._moved_to: Address | None = None
        self._moved = False

    @property
    def row_ids(self) -> dict[str, str]:
        """The field that identifies a row, by the id of each table that changes by rows."""
        return {id: field for slot in self._slots for id, field in slot.panel.row_ids.items()}

    @property
    def alone(self) -> bool:
        """Whether it is one viewer's own, who has moved, or stands where no other does."""
        return self._moved or self._feed.own

    async def first(self) -> Message:
        """All there is: the numbers, then the charts, then the tables."""
        message = self._message(await self._feed.first())
        _, heavy = apart(self.page.layout(self.address))
        texts = {"page.crumb": self.page.crumb(self.address)} | message["texts"]
        return message | {"texts": texts, "draw": _placed(heavy, message["draw"])}

    async def next(self, paint_ms: float, drew_ms: float) -> Message:
        """What is new, or changed with the address; otherwise what is still to draw."""
        self._turns.drew(drew_ms, paint_ms, time.monotonic())
        self._heavy = False
        alone_at = self._turns.alone(time.monotonic())
        while True:
            if self._moved_to is not None:
                return await self._move()
            news = await self._overtaken(paint_ms) or await self._news(alone_at)
            if news is not None:
                news.paint_ms = paint_ms
                return self._message(news)
            if not self._ahead:
                self.prepare()
                alone_at = self._turns.alone(time.monotonic())
            if (not self._ahead or time.monotonic() >= alone_at) and (message := self._drawn()):
                return message

    def move(self, address: Address, settings: Mapping[str, Any]) -> None:
        """The page has another address, and stays the same page."""
        if self.looks(address, settings):
            return
        self._moved_to, self._settings, self._moved = address, settings, True
        self._wake.set()

    def looks(self, address: Address, settings: Mapping[str, Any]) -> bool:
        """Whether it is at this address."""
        return (self._moved_to or self.address, self._settings) == (address, settings)

    def lead(self) -> None:
        """Others are to follow it in time: from now on it is one viewer's own."""
        self._moved = True

    def failed(self, errors: Mapping[str, str]) -> None:
        """What the page could not set, by component id."""
        for component, error in errors.items():
            for slot in self._slots:
                if component in slot.components:
                    slot.failed(f"{component}: {error}")

    async def stop(self) -> None:
        """The page is gone."""
        await self._cancel()
        await self._feed.stop()
        for slot in self._slots:
            slot.stop()

    async def _news(self, alone_at: float) -> News | None:
        """The next delta; None where something else is to do first. What is drawn waits for it until then."""
        self._waiting = self._waiting or asyncio.create_task(self._feed.next())
        woken = asyncio.create_task(self._wake.wait())
        try:
            now = time.monotonic()
            left = max(alone_at - now, 0) if self._ahead else self._turns.left(self._slots, now)
            await asyncio.wait([self._waiting, woken], timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        self._wake.clear()
        return self._came()

    def _came(self) -> News | None:
        """What the feed has given, once."""
        if self._waiting is None or not self._waiting.done():
            return None
        task, self._waiting = self._waiting, None
        return task.result()

    async def _overtaken(self, paint_ms: float) -> News | None:
        """News that came while the page drew are old by now: they are taken, and said with what followed."""
        old = self._came()
        if old is None or old.first or old.first_of_agent or old.address:
            return old
        self._waiting = asyncio.create_task(self._feed.next())
        old.paint_ms = paint_ms
        if old.steps:
            self._turns.stepped(time.monotonic())
        for slot in self._slots:
            _give(slot, old)
        await asyncio.wait([self._waiting], timeout=AT_ONCE_S)
        return self._came() or News(agent=old.agent, notice=old.notice)

    async def _move(self) -> Message:
        address, self._moved_to = self._moved_to or self.address, None
        self.address = address
        for slot in self._slots:
            slot.moved(address, self._settings)
        if not self._feed.moves(address):
            self.prepare()
            message = self._message(News(agent=self._agent))
        else:
            await self._cancel()
            message = self._message(await self._feed.move(address))
        self._unread = [*self._slots]
        return message

    async def _cancel(self) -> None:
        """End the wait. Cancels again where a library swallowed the first cancellation."""
        while self._waiting is not None and not self._waiting.done():
            self._waiting.cancel()
            await asyncio.wait([self._waiting], timeout=0.5)
        if self._waiting is not None and not self._waiting.cancelled():
            with suppress(Exception):
                self._waiting.result()
        self._waiting = None

    def _message(self, news: News) -> Message:
        self._agent = news.agent
        fresh = [
            slot for slot in self._slots if news.first or (news.first_of_agent and not slot.panel.of_run)
        ]
        if news.first:
            self._said = {}
        self._renew(fresh, news.seek)
        whole = news.first or news.seek  # what is laid out comes at once
        for slot in self._slots:
            if whole or not slot.every:
                _give(slot, news)
        if not whole:
            self._later.append(news)
            self._anew = fresh
        if not news.seek:
            self._unread = [*fresh]
        pieces, now = Pieces(), time.monotonic()
        pieces.texts["page.notice"] = news.notice
        for slot in self._slots:
            if not slot.every:
                pieces.join(slot.draw(now))
        if news.steps:
            self._turns.stepped(now)
        goes = news.steps or whole or not self._turns.holds(now)
        heavy = self._taken() if goes else Pieces()
        for slot in fresh:
            if slot.waits and (news.first or (news.seek and slot.every <= PROMPT_S)):
                heavy.join(slot.draw(now))
        message = self._drawn(pieces, heavy)
        return message | self._readdressed(news.address) if news.address else message

    def _renew(self, fresh: list[Slot], seek: bool) -> None:
        """These show another moment, or another agent, or all is sent again."""
        for slot in fresh:
            if seek:
                slot.seek()
                continue
            slot.reset(self.address, self._settings)
            if slot in self._ahead:  # of what was before; but what it has built, it does not build again
                self._ahead[slot] = self._ahead[slot].built

    def prepare(self) -> None:
        """While the page paints: what takes its time. What is drawn goes with the next message."""
        for news in self._later:
            for slot in self._slots:
                if slot.every:
                    _give(slot, news)
        self._later.clear()
        self._load()
        now = time.monotonic()
        turns = [slot for slot in self._anew if slot.waits]
        self._anew.clear()
        if not (turns or self._ahead or self._heavy) and (turn := self._turns.next(self._slots, now)):
            turns = [turn]
        self._ahead |= {slot: slot.draw(now) for slot in turns}

    def _readdressed(self, changes: dict[str, Any]) -> Message:
        """The part of a message that changes the page's address."""
        self._moved = True
        self.address = Address.of(self.address.to(**changes))
        for slot in self._slots:
            slot.moved(self.address, self._settings)
        return {"address": patched(**changes)}

    def act(self, name: str, value: str) -> None:
        """A control of the page was used."""
        self._moved = True
        self._feed.act(name, value)

    def _load(self) -> None:
        history = History(self._feeds.queries, self._feeds.pasts, self.address.run or "", self._agent)
        for slot in self._unread:
            slot.load(history)
        self._unread.clear()

    def _drawn(self, pieces: Pieces | None = None, heavy: Pieces | None = None) -> Message:
        """The message, with what was drawn ahead. Empty: there is nothing to say."""
        pieces, heavy = pieces or Pieces(), heavy or self._taken()
        for slot in self._slots:
            if (ready := slot.ready()) is not None:
                heavy.join(ready)
        texts = pieces.texts | heavy.texts | self._failures()
        said, self._said = self._said, self._said | texts
        texts = {key: text for key, text in texts.items() if said.get(key) != text}
        self._heavy = bool(heavy.props)
        message = {"texts": texts, "props": pieces.props, "draw": heavy.props}
        return message if pieces.texts or any(message.values()) else {}

    def _taken(self) -> Pieces:
        """What was drawn ahead."""
        taken = Pieces()
        for ahead in self._ahead.values():
            taken.join(ahead)
        self._ahead.clear()
        return taken

    def _failures(self) -> dict[str, str]:
        return {slot.failed_key: slot.failure for slot in self._slots}


def _placed(heavy: Mapping[str, Component], draw: Mapping[str, Raw]) -> dict[str, Raw]:
    """What is drawn first, with the charts and tables that it is drawn in."""
    tables = {place: one for place, one in heavy.items() if isinstance(one, AgGrid)}
    last = {str(one.id) for one in tables.values()}
    placed = {place: Raw(ENCODER.encode({"children": one})) for place, one in heavy.items()}

    def order(item: tuple[str, Raw]) -> tuple[bool, ...]:
        return item[0] in last, item[0] in tables, item[0] not in heavy

    return dict(sorted([*placed.items(), *draw.items()], key=order))


def _give(slot: Slot, news: News) -> None:
    if not slot.panel.of_run and news.first != news.first_of_agent:
        news = msgspec.structs.replace(news, first=True)  # to its panels another agent is all anew
    slot.take(news)


def _guest(plugin: Plugin, wake: Any) -> Slot:
    return GuestSlot(plugin.panel(), wake)
