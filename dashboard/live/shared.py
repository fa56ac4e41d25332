"""What pages share, so that twenty viewers cost Redis and SQL what one does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

KEPT_S = 60.0

T = TypeVar("T")


class Shared(Generic[T]):
    """One reading serves all callers. An old one is returned at once while the next is read: live news
    must not wait for SQL on its way to the screen.
    """

    def __init__(self, read: Callable[..., Awaitable[T]], seconds: float, kept: float = KEPT_S) -> None:
        self._read, self._seconds, self._kept = read, seconds, kept
        self._held: dict[tuple[str, ...], tuple[float, T]] = {}
        self._reading: dict[tuple[str, ...], asyncio.Task[T]] = {}

    async def __call__(self, *name: str, fresh: bool = False) -> T:
        """What was read last; `fresh`: not older than `seconds`.

        Raises:
            whatever reading raises, where nothing was read before.
        """
        held = self._held.get(name)
        if held is None or time.monotonic() - held[0] > self._seconds:
            reading = self._reading.get(name) or self._begin(name)
            if held is None or fresh:
                return await asyncio.shield(reading)
        return held[1]

    def _begin(self, name: tuple[str, ...]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(self._read(*name))
        self._reading[name] = task
        task.add_done_callback(lambda done: self._end(name, done))
        return task

    def _end(self, name: tuple[str, ...], done: asyncio.Task[T]) -> None:
        del self._reading[name]
        now = time.monotonic()
        self._held = {key: one for key, one in self._held.items() if now - one[0] < self._kept}
        if not done.cancelled() and done.exception() is None:
            self._held[name] = (now, done.result())
        else:
            self._held.pop(name, None)  # the next caller gets the error
