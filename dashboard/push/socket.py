"""The push: one WebSocket a page, one delta in flight.

    page    {"url": "/runs/r?agent=a", "settings": {…}}                what the address bar says is looked at
    server  {"n": 1, "page": "run r", "url": "/runs/r?agent=a", "parts": [{"texts": {key: text},
             "props": {id: props}, "draw": {id: props}}, …]}           the address, where it has changed
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
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct
from starlette.websockets import WebSocket, WebSocketDisconnect

from dashboard.address import Address
from dashboard.page import Pages
from dashboard.push.shown import STOP_S, Shown, Shows
from dashboard.push.slot import ENCODER
from infra.metrics import PUSH_SECONDS, VIEWERS

HELLO_S = 20
"""Seconds within which a page must say what it looks at."""
LEADS = "lead"
"""The act of one who gives out a link by which others follow."""


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


async def live(socket: WebSocket, pages: Pages, shows: Shows) -> None:
    """Serve one page until it goes."""
    await socket.accept()
    line = _Line(socket, pages, shows)
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

    def __init__(self, socket: WebSocket, pages: Pages, shows: Shows) -> None:
        self._socket, self._pages, self._shows = socket, pages, shows
        self._n = 0
        self._painted, self._changing = asyncio.Event(), asyncio.Lock()
        self._key = self._url = ""
        self._address, self._settings = Address(), dict[str, Any]()
        self._shown: Shown | None = None
        self._serving: asyncio.Task[None] | None = None
        self._asked: asyncio.Task[None] | None = None

    async def hear(self, text: str) -> None:
        word = _WORD.decode(text)
        if word.url is not None:
            async with self._changing:
                await self._look(Address.of(word.url), word.settings)
                self._url = word.url
        elif word.act:
            async with self._changing:
                await self._act(word)
        elif word.ack == self._n and self._shown is not None:
            self._shown.screen.failed(word.failed)
            self._shown.painted(word.paint, word.drew)
            self._painted.set()

    def again(self) -> None:
        """Look anew: the screen is another's now."""
        self._asked = asyncio.create_task(self._anew())

    def end(self) -> None:
        """The screen has failed: the page comes again by itself."""
        self._asked = asyncio.create_task(self._socket.close(1011))

    async def stop(self) -> None:
        """The page is gone."""
        async with self._changing:
            await self._part()

    async def _look(self, address: Address, settings: dict[str, Any]) -> None:
        page, shown = self._pages.of(address), self._shown
        stays = shown is not None and page.key(address) == self._key
        self._key, self._address, self._settings = page.key(address), address, settings
        if shown is not None and stays and len(shown.viewers) == 1:
            shown.screen.move(address, settings)
        elif shown is None or not stays or not shown.screen.looks(address, settings):
            await self._begin()

    async def _act(self, word: Word) -> None:
        shown = self._shown
        if shown is None:
            return
        if word.act == LEADS:  # who follows the link follows this screen: it is no other's
            shown.screen.lead()
            for viewer in shown.viewers - {self}:
                viewer.again()
        else:
            if len(shown.viewers) > 1:
                shown = await self._begin(alone=True)
            await shown.act(word.act, word.value)

    async def _anew(self) -> None:
        async with self._changing:
            if self._shown is not None:
                await self._begin()

    async def _begin(self, alone: bool = False) -> Shown:
        await self._part()
        page = self._pages.of(self._address)
        shown = self._shown = self._shows.join(self, page, self._address, self._settings, alone)
        self._serving = asyncio.create_task(self._serve(shown))
        return shown

    async def _part(self) -> None:
        """End what is being served. Cancels again where a library swallowed the first cancellation."""
        while self._serving is not None and not self._serving.done():
            self._serving.cancel()
            await asyncio.wait([self._serving], timeout=STOP_S)
        if self._shown is not None:
            await self._shows.leave(self, self._shown)
        self._serving, self._shown = None, None

    async def _serve(self, shown: Shown) -> None:
        count = 0
        with suppress(WebSocketDisconnect, RuntimeError):  # the page went between two words
            while True:
                try:
                    count, parts = await shown.since(count)
                except LookupError:
                    self.again()
                    return
                self._painted.clear()
                sent = time.monotonic()
                await self._send(parts)
                await self._painted.wait()
                PUSH_SECONDS.observe(time.monotonic() - sent)

    async def _send(self, parts: bytes) -> None:
        self._n += 1
        head: dict[str, Any] = {"n": self._n, "page": self._key}
        if self._url:
            head["url"], self._url = self._url, ""
        await self._socket.send_text((ENCODER.encode(head)[:-1] + b',"parts":[' + parts + b"]}").decode())
