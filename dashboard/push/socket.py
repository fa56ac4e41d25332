"""The push: one WebSocket a page, one delta in flight.

    page    {"url": "/runs/r?agent=a", "settings": {…}}                what the address bar says is looked at
    server  {"n": 1, "page": "run r", "url": "/runs/r?agent=a", "texts": {key: text}, "props": {id: props},
             "draw": {id: props}}                                      the address, where it has changed
    page    {"act": "play", "value": ""}                               a control of the page was used
    page    {"ack": 1, "paint": 9.1, "drew": 14.2, "failed": {id: error}}   it is painted; ms, and what failed
    server  {"n": 2, …}                                                what came since
    …

The page's acknowledgement of a painted delta is the credit for the next. So a slow page gets fewer and
larger deltas, a hidden one none, and nothing queues for either.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from starlette.websockets import WebSocket, WebSocketDisconnect

from dashboard.address import Address
from dashboard.live.feeds import Feeds
from dashboard.page import Pages
from dashboard.push.screen import Message, Screen
from dashboard.push.slot import ENCODER
from infra.metrics import PUSH_SECONDS, VIEWERS

HELLO_S = 20
"""Seconds within which a page must say what it looks at."""
STOP_S = 0.5

log = structlog.get_logger(service="dashboard")


class Word(Struct):
    """What a page says: what it looks at, which control was used, or that it has painted."""

    url: str | None = None
    settings: dict[str, Any] = {}
    act: str = ""
    value: str = ""
    ack: int = 0
    paint: float = 0.0
    drew: float = 0.0
    failed: dict[str, str] = {}


_WORD = msgspec.json.Decoder(Word)


async def live(socket: WebSocket, pages: Pages, feeds: Feeds) -> None:
    """Serve one page until it goes."""
    await socket.accept()
    line = _Line(socket, pages, feeds)
    VIEWERS.inc()
    try:
        async with asyncio.timeout(HELLO_S):
            await line.hear(await socket.receive_text())
        while True:
            await line.hear(await socket.receive_text())
    except (WebSocketDisconnect, TimeoutError, msgspec.DecodeError, RuntimeError):
        pass  # it went, or speaks another language: nothing to mend
    finally:
        VIEWERS.dec()
        await line.stop()


class _Line:
    """One connection: what its page looks at, and its credit."""

    def __init__(self, socket: WebSocket, pages: Pages, feeds: Feeds) -> None:
        self._socket, self._pages, self._feeds = socket, pages, feeds
        self._n = 0
        self._word, self._painted = Word(), asyncio.Event()
        self._key = self._url = ""
        self._screen: Screen | None = None
        self._serving: asyncio.Task[None] | None = None

    async def hear(self, text: str) -> None:
        word = _WORD.decode(text)
        if word.url is not None:
            await self._look(Address.of(word.url), word.settings)
            self._url = word.url
        elif word.act and self._screen is not None:
            self._screen.act(word.act, word.value)
        elif word.ack == self._n and self._screen is not None:
            self._word = word
            self._screen.failed(word.failed)
            self._painted.set()

    async def stop(self) -> None:
        """End what is being served. Cancels again where a library swallowed the first cancellation."""
        while self._serving is not None and not self._serving.done():
            self._serving.cancel()
            await asyncio.wait([self._serving], timeout=STOP_S)
        if self._screen is not None:
            await self._screen.stop()
        self._serving, self._screen = None, None

    async def _look(self, address: Address, settings: dict[str, Any]) -> None:
        page = self._pages.of(address)
        key = page.key(address)
        if self._screen is not None and key == self._key:
            return self._screen.move(address, settings)
        await self.stop()
        self._key, self._painted = key, asyncio.Event()
        self._screen = Screen(page, self._feeds, address, settings)
        self._serving = asyncio.create_task(self._serve(self._screen))
        return None

    async def _serve(self, screen: Screen) -> None:
        try:
            message = await screen.first()
            while True:
                self._painted.clear()
                sent = time.monotonic()
                await self._send(message)
                await asyncio.sleep(0)  # uvloop writes when a turn of the loop ends
                screen.prepare()
                await self._painted.wait()
                PUSH_SECONDS.observe(time.monotonic() - sent)
                message = await screen.next(self._word.paint, self._word.drew)
        except (WebSocketDisconnect, RuntimeError):
            pass  # the page went between two words
        except Exception:
            log.exception("push_failed", page=self._key)
            await self._socket.close(1011)  # the page comes again by itself

    async def _send(self, message: Message) -> None:
        self._n += 1
        whole: Message = {"n": self._n, "page": self._key} | message
        if self._url:
            whole["url"], self._url = self._url, ""
        await self._socket.send_text(ENCODER.encode(whole).decode())
