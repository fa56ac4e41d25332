"""The push: one WebSocket a page, one delta in flight.

    page    {"n": 3, "view": {…}, "since": cursor or null}   look at this from now on
    server  {"n": 3, "full": true, "since": cursor, …}       what there is
    page    {"ack": 3}                                       it is painted
    server  {"n": 3, "since": cursor, …}                     what came since; empty every few seconds
    …

The page's word that a delta is painted is the credit for the next one. So a slow page gets fewer and
larger deltas, a hidden one none, and nothing queues for either.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from starlette.websockets import WebSocket, WebSocketDisconnect

from dashboard.live.feeds import Feeds, Wish
from dashboard.live.wire import encode

HELLO_S = 20
"""A page that has not said what it looks at by then is none."""

STOP_S = 0.5

log = structlog.get_logger()


class Word(Struct):
    """What a page says: what it looks at, or that it has painted."""

    n: int = 0
    view: Wish | None = None
    since: str | None = None
    ack: int = 0


_WORD = msgspec.json.Decoder(Word)


async def live(socket: WebSocket, feeds: Feeds) -> None:
    """Serve one page until it goes."""
    await socket.accept()
    page = _Page(socket, feeds)
    try:
        async with asyncio.timeout(HELLO_S):
            await page.hear(await socket.receive_text())
        while True:
            await page.hear(await socket.receive_text())
    except (WebSocketDisconnect, TimeoutError, msgspec.DecodeError, RuntimeError):
        pass  # it went, or speaks another language: nothing to mend
    finally:
        await page.stop()


class _Page:
    """One page: what it looks at, and its credit."""

    def __init__(self, socket: WebSocket, feeds: Feeds) -> None:
        self._socket = socket
        self._feeds = feeds
        self._n = 0
        self._painted = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def hear(self, text: str) -> None:
        word = _WORD.decode(text)
        if word.view is not None:
            await self.stop()
            self._n, self._painted = word.n, asyncio.Event()
            self._serving = asyncio.create_task(self._serve(word.n, word.view, word.since))
        elif word.ack == self._n:
            self._painted.set()

    async def stop(self) -> None:
        """End what is being served. Asked again where a library under it swallowed the first asking."""
        while self._serving is not None and not self._serving.done():
            self._serving.cancel()
            await asyncio.wait([self._serving], timeout=STOP_S)
        self._serving = None

    async def _serve(self, n: int, wish: Wish, since: str | None) -> None:
        try:
            feed = self._feeds.of(wish)
            delta = await feed.first(since)
            while True:
                self._painted.clear()
                await self._send({"n": n} | delta)
                await self._painted.wait()
                delta = await feed.next()
        except (WebSocketDisconnect, RuntimeError):
            pass  # the page went between two words
        except Exception:
            log.exception("push_failed", view=msgspec.to_builtins(wish))
            await self._socket.close(1011)  # the page comes again by itself

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send_text(encode(message))
