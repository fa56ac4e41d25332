"""Waits for live news or for an action of the viewer, whichever comes first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from dashboard.live.news import News

LONGEST_REST_S = 0.5
"""Of a share: what took long may have waited itself, for SQL or for its turn on a busy machine."""
MOST_ASKING = 8
"""More who ask for a share do not make it smaller."""


class LiveOrWoken:
    """One wait for live news goes on over several waits here, so that none is lost.

    Args:
        live: gives the next live news. Cancelled, it has taken nothing.
    """

    def __init__(self, live: Callable[[], Awaitable[News]]) -> None:
        self._live = live
        self._next: asyncio.Task[News] | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """End the wait that is going on, or the next one."""
        self._woken.set()

    async def next(self, seconds: float, *, live: bool = True) -> News | None:
        """Live news; None: it was woken, or the time is over. Cancelled, nothing is taken.

        Args:
            seconds: how long to wait.
            live: False: live news are not asked for now.
        """
        if live:
            self._next = self._next or asyncio.ensure_future(self._live())
        woken = asyncio.create_task(self._woken.wait())
        waits = [woken, self._next] if live and self._next else [woken]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if self._next is not None and not self._next.done():
                await self.stop()
            raise
        finally:
            woken.cancel()
        self._woken.clear()
        if not live or self._next is None or not self._next.done():
            return None
        done, self._next = self._next, None
        return done.result()

    async def stop(self) -> None:
        """End the wait for live news. Cancels again where a library swallowed the first cancellation."""
        task, self._next = self._next, None
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.5)


class Share:
    """Lets what is done within it take a share of the time, one after the other, whoever asks for it.

    Args:
        share: of the time, 0 to 1; less while more than one asks, as what follows takes time, too.
    """

    def __init__(
        self,
        share: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._share, self._clock, self._sleep = share, clock, sleep
        self._one = asyncio.Lock()
        self._asking = 0
        self._free_at = 0.0

    @asynccontextmanager
    async def taken(self, *, rests: bool = True) -> AsyncIterator[None]:
        """Inside, it is one's turn; it is the next one's after a rest, if somebody else needs the time."""
        self._asking += 1
        try:
            async with self._one:
                if (left := self._free_at - self._clock()) > 0:
                    await self._sleep(left)
                began = self._clock()
                try:
                    yield
                finally:
                    ended = self._clock()
                    share = self._share / min(self._asking, MOST_ASKING) if rests else 1.0
                    self._free_at = ended + min((ended - began) * (1 / share - 1), LONGEST_REST_S)
        finally:
            self._asking -= 1
