"""One screen for all who look at the same, so that twenty viewers cost little more than one.

Each takes what was said since its last delta when it has painted that: who is slow takes more at once. Who
comes later is told all that was said. Who moves, or goes its own way in time, parts from the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import structlog

from dashboard.address import Address
from dashboard.live.feeds import Feeds
from dashboard.page import Page
from dashboard.push.said import Message, Said
from dashboard.push.screen import Screen
from dashboard.push.slot import ENCODER

MOST_BEHIND = 100
"""Messages that are kept for who is slow: who is later than these is told everything again."""
STOP_S = 0.5
TOGETHER_S = 0.01
"""Between two messages for several viewers: each paints 60 times a second, but not all at once."""

log = structlog.get_logger(service="dashboard")


class Viewer(Protocol):
    """Who looks at a screen."""

    def again(self) -> None:
        """It must look anew: its screen is another's now."""

    def end(self) -> None:
        """Its screen has failed."""


class Shown:
    """A screen and who looks at it.

    Args:
        key: identifies what is looked at.
    """

    def __init__(self, screen: Screen, key: object) -> None:
        self.screen, self.key = screen, key
        self.viewers: set[Viewer] = set()
        self._count, self._log = 0, deque[bytes](maxlen=MOST_BEHIND)
        """How many messages there were, and the last of them."""
        self._said = Said(screen.row_ids)
        self._more, self._wanted, self._began = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._paint = self._drew = 0.0
        self._running = asyncio.create_task(self._run())

    @property
    def open(self) -> bool:
        """Whether others may come."""
        return self._said.whole and not self.screen.alone and not self._running.done()

    def painted(self, paint_ms: float, drew_ms: float) -> None:
        """A viewer says how long its page took."""
        self._paint, self._drew = paint_ms, max(self._drew, drew_ms)

    async def since(self, count: int) -> tuple[int, bytes]:
        """What was said after so many messages: how many there are now; the new ones, with commas between.

        Raises:
            LookupError: they are not known any more.
        """
        while self._count == count:
            self._wanted.set()
            await self._more.wait()
        behind = self._count - count
        if (count or behind == 1) and behind <= len(self._log):
            return self._count, b",".join(list(self._log)[-behind:])
        if not self._said.whole:
            raise LookupError
        return self._count, b",".join(ENCODER.encode(part) for part in self._said.parts())

    async def act(self, name: str, value: str) -> None:
        """A control of the page was used."""
        await self._began.wait()
        self.screen.act(name, value)

    async def stop(self) -> None:
        """Nobody looks at it. Cancels again where a library swallowed the first cancellation."""
        while not self._running.done():
            self._running.cancel()
            await asyncio.wait([self._running], timeout=STOP_S)
        await self.screen.stop()

    async def _run(self) -> None:
        try:
            message = await self.screen.first()
            self._began.set()
            while True:
                self._tell(message)
                told = time.monotonic()
                await asyncio.sleep(0)  # each viewer takes it,
                await asyncio.sleep(0)  # and uvloop writes when a turn of the loop ends
                self.screen.prepare()
                if len(self.viewers) > 1:
                    await asyncio.sleep(told + TOGETHER_S - time.monotonic())
                await self._wanted.wait()
                drew, self._drew = self._drew, 0.0
                message = await self.screen.next(self._paint, drew)
        except Exception:
            log.exception("push_failed", page=self.screen.page.key(self.screen.address))
            self._began.set()
            for viewer in list(self.viewers):
                viewer.end()

    def _tell(self, message: Message) -> None:
        self._said.add(message)
        self._log.append(ENCODER.encode(message))
        self._count += 1
        self._wanted.clear()
        self._more.set()
        self._more = asyncio.Event()


class Shows:
    """All screens of this process."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds
        self._shown: dict[object, Shown] = {}

    def join(
        self, viewer: Viewer, page: Page, address: Address, settings: Mapping[str, Any], alone: bool = False
    ) -> Shown:
        """The screen for one who looks at an address: another's, where one is open. `alone`: of its own."""
        key = (page.key(address), address, msgspec.json.encode(settings, order="sorted"))
        shown = None if alone else self._shown.get(key)
        if shown is None or not shown.open:
            shown = Shown(Screen(page, self._feeds, address, settings), key)
            if not alone:
                self._shown[key] = shown
        shown.viewers.add(viewer)
        return shown

    async def leave(self, viewer: Viewer, shown: Shown) -> None:
        """It looks at something else, or is gone."""
        shown.viewers.discard(viewer)
        if not shown.viewers:
            if self._shown.get(shown.key) is shown:
                del self._shown[shown.key]
            await shown.stop()
