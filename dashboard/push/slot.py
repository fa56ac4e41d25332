"""Runs one panel on an open page, so that its failure or delay stops no other.

The product's own panels run in the event loop. A panel of a user runs in a thread of its own: one that sleeps
holds up neither the page nor any other.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import structlog
from msgspec import Raw

from dashboard.panel import Address, History, News, Panel

SLOW_S = 1.0
"""A panel whose draw takes longer is named as slow."""
MOST_NEWS = 1000
"""Deltas that wait for a slow panel; more are left out."""

log = structlog.get_logger(service="dashboard")


def _plain(value: Any) -> Any:
    """What panels draw with: figures, Patches, components; numpy's numbers and arrays."""
    if hasattr(value, "to_plotly_json"):
        return value.to_plotly_json()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"draw() returned a {type(value).__name__}, which no component takes")


ENCODER = msgspec.json.Encoder(enc_hook=_plain)
values_of = msgspec.json.Decoder(dict[str, Raw]).decode
"""A component's properties, as they were encoded."""


class Pieces:
    """What is to change on the page."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.props: dict[str, Raw] = {}

    def add(self, drawn: Mapping[str, Any]) -> None:
        """What a panel has drawn.

        Raises:
            TypeError: it is neither a text nor a component's properties.
        """
        for key, value in drawn.items():
            if isinstance(value, Mapping):
                self.props[key] = Raw(ENCODER.encode(value))
            elif value is None or isinstance(value, str | int | float):
                self.texts[key] = "" if value is None else str(value)
            else:
                raise TypeError(
                    f"draw() returned a {type(value).__name__} for {key!r}: no text, no properties"
                )

    def join(self, more: Pieces) -> None:
        """What was drawn later."""
        self.texts |= more.texts
        for id, values in more.props.items():
            before = self.props.get(id)
            self.props[id] = (
                values if before is None else Raw(ENCODER.encode(values_of(before) | values_of(values)))
            )

    @property
    def built(self) -> Pieces:
        """Components alone: a panel makes them once, and has then only values to say."""
        made = Pieces()
        for id, values in self.props.items():
            if (children := values_of(values).get("children")) is not None:
                made.props[id] = Raw(ENCODER.encode({"children": children}))
        return made


class Slot:
    """Runs one of the product's own panels. `now` is in seconds of a monotonic clock."""

    def __init__(self, panel: Panel, wake: Callable[[], None]) -> None:
        self.panel, self.every, self.drawn = panel, panel.every, 0.0
        self.failed_key = f"failed.{panel.id}"
        """The leaf that says how it failed."""
        self._failures: dict[str, str] = {}
        """By what it was asked for."""
        self.components: set[str] = set()
        """Ids that it has set properties of."""
        self._wake = panel.wake = wake
        self._loading: asyncio.Task[None] | None = None

    @property
    def waits(self) -> bool:
        """Whether it wants to draw."""
        return self.every > 0 and self.panel.dirty

    @property
    def failure(self) -> str:
        """What stands on the page about it."""
        return next(iter(self._failures.values()), "")

    def reset(self, address: Address, settings: Mapping[str, Any]) -> None:
        """Everything anew."""
        self.panel.address, self.panel.settings = address, settings
        self.drawn = 0.0
        self._do(self.panel.reset, "reset")

    def seek(self) -> None:
        """Another moment."""
        self._do(self.panel.seek, "seek")

    def moved(self, address: Address, settings: Mapping[str, Any]) -> None:
        """The address has changed."""
        self.panel.address, self.panel.settings = address, settings
        self._do(self.panel.moved, "moved")

    def take(self, news: News) -> None:
        """A delta."""
        self._do(lambda: self.panel.take(news), "take")

    def draw(self, now: float) -> Pieces:
        """What it has to say now."""
        self.drawn = now
        return self._do(self._render, "draw") or Pieces()

    def ready(self) -> Pieces | None:
        """What it has drawn beside the push."""
        return None

    def load(self, history: History) -> None:
        """Read what was before, beside the push."""
        if type(self.panel).load is not Panel.load:
            self.stop()
            self._loading = asyncio.create_task(self._load(history))

    def stop(self) -> None:
        """The page is gone, or asks for something else."""
        if self._loading is not None:
            self._loading.cancel()

    def failed(self, error: BaseException | str, asked: str = "page") -> None:
        """Name it on the page, and once in the log. `asked`: what it was asked for, until that succeeds."""
        said = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        text = f"{self.panel.title or type(self.panel).__name__} ({type(self.panel).__name__}): {said}"[:300]
        if text != self._failures.get(asked):
            self._failures[asked] = text
            log.warning("panel_failed", panel=type(self.panel).__name__, error=said, exc_info=_trace(error))
            self._wake()

    async def _load(self, history: History) -> None:
        try:
            await self.panel.load(history)
        except Exception as error:
            self.failed(error, "load")
        else:
            self._failures.pop("load", None)
        self._wake()

    def _render(self) -> Pieces:
        self.panel.dirty = False
        pieces = Pieces()
        pieces.add(self.panel.draw())
        self.components |= pieces.props.keys()
        return pieces

    def _do(self, call: Callable[[], Any], asked: str) -> Any:
        try:
            made = call()
        except Exception as error:
            self.failed(error, asked)
            return None
        self._failures.pop(asked, None)
        return made


def _call_soon(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the dashboard ends
        loop.call_soon_threadsafe(wake)


def _trace(error: BaseException | str) -> Any:
    return error if isinstance(error, BaseException) else None


class GuestSlot(Slot):
    """Runs a user's panel in a thread of its own. `now` is in seconds of a monotonic clock."""

    def __init__(self, panel: Panel, wake: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(panel, partial(_call_soon, loop, wake))
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._news: deque[News] = deque(maxlen=MOST_NEWS)
        self._ready: deque[Pieces] = deque()
        self._busy_since = 0.0
        self._asked = False
        threading.Thread(target=self._work, daemon=True, name=f"panel {panel.id}").start()

    @property
    def waits(self) -> bool:
        """Whether it wants to draw; not while it does."""
        return self.every > 0 and self.panel.dirty and not self._asked

    def reset(self, address: Address, settings: Mapping[str, Any]) -> None:
        """Everything anew."""
        self._news.clear()
        self._calls.put(lambda: Slot.reset(self, address, settings))

    def seek(self) -> None:
        """Another moment."""
        self._news.clear()
        self._calls.put(lambda: Slot.seek(self))

    def moved(self, address: Address, settings: Mapping[str, Any]) -> None:
        """The address has changed."""
        self._calls.put(lambda: Slot.moved(self, address, settings))

    def take(self, news: News) -> None:
        """A delta, when the thread comes to it."""
        self._news.append(news)
        if len(self._news) <= 1:  # asked after it is there: the thread may just have found nothing
            self._calls.put(self._take)
        if self._busy_since and time.monotonic() - self._busy_since > SLOW_S:
            self.failed(f"slow: it has not answered for {time.monotonic() - self._busy_since:.0f} s", "slow")

    def draw(self, now: float) -> Pieces:
        """Ask for it; it is ready later."""
        self.drawn = now
        if not self._asked:
            self._asked = True
            self._calls.put(self._draw)
        return Pieces()

    def ready(self) -> Pieces | None:
        """What it has drawn meanwhile."""
        return self._ready.popleft() if self._ready else None

    def load(self, history: History) -> None:
        """Read what was before."""
        if type(self.panel).load is not Panel.load:
            self._calls.put(lambda: asyncio.run(self._load(history)))

    def stop(self) -> None:
        """The page is gone: the thread ends when it has done what it does."""
        self._calls.put(None)

    def _take(self) -> None:
        while True:
            try:
                news = self._news.popleft()
            except IndexError:
                return
            super().take(news)

    def _draw(self) -> None:
        begun = time.monotonic()
        pieces = self._do(self._render, "draw")
        took = time.monotonic() - begun
        if pieces is not None:
            self._ready.append(pieces)
            if took > SLOW_S:
                self.failed(f"slow: it took {took:.1f} s to draw", "slow")
        self._asked = False

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self._busy_since = time.monotonic()
            self._do(call, "call")
            self._busy_since = 0.0
            self._wake()
