"""History for charts by one contract: the newest points, or the extremes of every pixel, of any series.

    series = Series("run", "metrics", "train/loss", axis="step")
    await queries.latest(series, 500)                    # the newest 500 points
    await queries.minmax(series, 1e6, 2e6, pixels=800)   # of that part the least and most of each pixel

A series is read once, in pages, into columns that stay in memory for whoever zooms; what was added since is
read then. A long one is not waited for: until it is read, the answer is made of some rows, evenly chosen,
and says so (`Curve.sampled`): ask again a second later.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from sqlalchemy import Connection, select

from dashboard.curves import Curve, Numbers, Smoothing, reduce
from dashboard.sql import columns, rows
from dashboard.sql.columns import OWN, TABLES, Columns, Place, Source

Axis = Literal["step", "episode", "relative", "time"]

PIXELS = 1000
PAGE = 20_000
"""So many rows are read at once; more of them in pages, while a sample of about as many is shown."""
PAUSE_S = 0.01
"""Between two pages: what is live goes first."""
FRESH_S = 1.0
MAX_ROWS = 5_000_000
"""Of a longer series the first are read to the last; the rest is seen as it comes."""
MAX_BYTES = 384 * 1024 * 1024
NAMES_FROM = 300
"""Names are looked for in so many rows at each end of a run."""


class Series(Struct, frozen=True):
    """Some numbers of a run over an axis.

    `name` is a name in the column `metrics` of the source's table, or a column: `reward` of steps,
    `episode_return`, `episode_length` and `duration` of episodes. The axis `step` is the global step: of
    steps their number from 0, of episodes the steps up to their end. `relative` is in seconds since the first
    row, `time` in ms since 1970.
    """

    run_id: str
    source: Source
    name: str
    agent_id: str | None = None
    axis: Axis = "step"

    @property
    def place(self) -> Place:
        """The rows that hold it."""
        return Place(self.run_id, self.agent_id, self.source)


class History:
    """The series that were looked at last. One per process and event loop.

    Args:
        ask: runs a read with a connection in a thread.
    """

    def __init__(self, ask: Callable[..., Awaitable[Any]]) -> None:
        self._ask = ask
        self._held: OrderedDict[Place, tuple[float, Columns]] = OrderedDict()
        self._locks: dict[Place, asyncio.Lock] = {}
        self._wanted: dict[Place, set[str]] = {}
        self._samples: dict[Place, Columns] = {}
        self._reading: dict[Place, asyncio.Task[Columns]] = {}

    async def minmax(
        self,
        series: Series,
        begin: float | None = None,
        end: float | None = None,
        pixels: int = PIXELS,
        smoothing: Smoothing | None = None,
    ) -> Curve:
        """The series from `begin` to `end` (of its axis; both inclusive) for a chart of so many pixels."""
        held, sampled = await self._columns(series)
        x, y = points_of(held, series)
        curve = await asyncio.to_thread(_between, x, y, (begin, end), 2 * pixels, smoothing)
        curve.sampled = sampled
        return curve

    async def latest(self, series: Series, count: int) -> Curve:
        """The newest points, oldest first; not reduced."""
        held, sampled = await self._columns(series)
        x, y = points_of(held, series)
        begin = max(0, len(y) - count)
        return Curve(x=x[begin:].tolist(), y=y[begin:].tolist(), total=len(y), sampled=sampled)

    async def _columns(self, series: Series) -> tuple[Columns, bool]:
        """Its rows as columns, and whether they are only some of all."""
        place, name = series.place, series.name
        self._wanted.setdefault(place, set()).add(name)
        held = self._held.get(place)
        if (held is None or name not in held[1].names) and await self._ask(columns.total, place) > PAGE:
            found = await self._sample(place, name)
            self._begin(place, name)
            return found, True
        return await self._whole(place, name), False

    def _begin(self, place: Place, name: str) -> None:
        """Read all of it in the background: whoever asks later gets it."""
        if place not in self._reading:
            task = asyncio.ensure_future(self._whole(place, name))
            self._reading[place] = task
            task.add_done_callback(lambda done: self._end(place, done))

    def _end(self, place: Place, done: asyncio.Task[Columns]) -> None:
        del self._reading[place]
        if not done.cancelled() and done.exception() is not None:  # whoever asks next tries again
            self._samples.pop(place, None)

    async def _whole(self, place: Place, name: str) -> Columns:
        async with self._locks.setdefault(place, asyncio.Lock()):
            await asyncio.sleep(0)  # whoever asks for other names of these rows in the same moment
            read_at, held = self._held.get(place, (0.0, Columns.empty([])))
            if name not in held.names:
                held, read_at = Columns.empty(sorted(self._wanted[place])), 0.0
            if time.monotonic() - read_at > FRESH_S:
                held = await self._grown(place, held)
            self._keep(place, held)
            return held

    async def _grown(self, place: Place, held: Columns) -> Columns:
        names, position = sorted(held.names), dict(held.position)
        parts: list[Columns] = []
        while len(held) + sum(map(len, parts)) < MAX_ROWS:
            read = await self._ask(columns.page, place, position, names, PAGE)
            parts += read
            position |= {stream: line for part in read for stream, line in part.position.items()}
            if all(len(part) < PAGE for part in read):
                break
            await asyncio.sleep(PAUSE_S)
        return await asyncio.to_thread(held.plus, parts) if parts else held

    def _keep(self, place: Place, held: Columns) -> None:
        self._samples.pop(place, None)
        self._held[place] = time.monotonic(), held
        self._held.move_to_end(place)
        while len(self._held) > 1 and sum(one.size for _, one in self._held.values()) > MAX_BYTES:
            oldest, _ = self._held.popitem(last=False)
            self._wanted.pop(oldest, None)
            self._locks.pop(oldest, None)

    async def _sample(self, place: Place, name: str) -> Columns:
        found = self._samples.get(place)
        if found is None or name not in found.names:
            names = sorted(self._wanted[place])
            found = self._samples[place] = await self._ask(columns.sample, place, names, PAGE)
        return found


def points_of(held: Columns, series: Series) -> tuple[Numbers, Numbers]:
    """x and y of a series where it has a value, x ascending."""
    y = held.value(series.name)
    x = _axis(held, series)
    some = np.isfinite(y) & np.isfinite(x)
    x, y = x[some], y[some]
    if np.any(np.diff(x) < 0):
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
    return x, y


def _axis(held: Columns, series: Series) -> Numbers:
    moments, counted = held.data["time"], np.arange(len(held), dtype=np.float64)
    if series.axis == "time":
        return moments
    if series.axis == "relative":
        return (moments - moments[0]) / 1000 if len(moments) else moments
    if series.axis == "episode" and series.source != "metrics":
        index = held.data["episode"]
        return counted if np.isnan(index).any() else index
    if series.source == "episodes":
        return np.cumsum(np.nan_to_num(held.data["at"], nan=1.0))
    return counted if series.source == "steps" else held.data["at"]


def _between(
    x: Numbers, y: Numbers, ends: tuple[float | None, float | None], points: int, smoothing: Smoothing | None
) -> Curve:
    """Smoothed as a whole, then cut: the line does not depend on the part that is looked at."""
    begin, end = ends
    low = 0 if begin is None else int(np.searchsorted(x, begin, side="left"))
    high = len(x) if end is None else int(np.searchsorted(x, end, side="right"))
    mean = smoothing.of(y)[low:high] if smoothing is not None and smoothing.kind != "none" else None
    return reduce(x[low:high], y[low:high], points, mean)


def names(connection: Connection, run_id: str, agent_id: str | None, source: Source) -> list[str]:
    """Names of the numbers that a source's rows carry, as far as the first and the newest tell."""
    table = TABLES[source]
    of = rows.of(table, run_id, agent_id)
    keys = (
        [table.c.stream_id, table.c.seq]
        if agent_id is None or source == "metrics"
        else [table.c.episode_index]
    )
    found: dict[str, None] = {}
    for ends in ([key.asc() for key in keys], [key.desc() for key in keys]):
        statement = select(rows.text_of(table.c.metrics)).where(of, table.c.metrics.is_not(None))
        for text in connection.execute(statement.order_by(*ends).limit(NAMES_FROM)).scalars():
            found |= dict.fromkeys(rows.parsed(text))
    return list(found)


__all__ = ["OWN", "Axis", "History", "Series", "Source", "names", "points_of"]
