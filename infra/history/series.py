"""History for charts by one contract: the newest points, or the extremes of every pixel, of any series.

    series = Series("run", "metrics", "train/loss", axis="step")
    await reader.latest(series, 500)                           # the newest 500 points
    await reader.minmax(series, 1e6, 2e6, 800, Smoothing())    # of that part the least and most of each pixel

A series is read once, in pages, into columns that stay in memory for whoever zooms; what was added since is
read then. A long one is not waited for: until it is read, the answer is made of some rows, evenly chosen,
and says so (`Curve.sampled`): ask again a second later.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock
from typing import Any

import numpy as np
from msgspec import Struct

from infra.history.curves import Axis, Curve, Numbers, Smoothing, reduce
from infra.sql import columns
from infra.sql.columns import Columns, Place, Source

__all__ = ["PIXELS", "Axis", "Series", "SeriesReader", "Source"]

PIXELS = 1000
PAGE = 20_000
"""So many rows are read at once; more of them in pages, while a sample of about as many is shown."""
LATER_S = 0.5
"""Before the first page of a long series: its sample goes first."""
FRESH_S = 1.0
MAX_ROWS = 5_000_000
"""Of a longer series the first are read to the last; the rest is seen as it comes."""
MAX_BYTES = 384 * 1024 * 1024


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


class SeriesReader:
    """The series that were looked at last. One per process; any thread and any event loop may ask.

    Args:
        ask: runs a read with a connection.
        beside: does so in another process: a long series is read there.
    """

    def __init__(self, ask: Callable[..., Any], beside: Callable[..., Any]) -> None:
        self._ask, self._beside = ask, beside
        self._held: OrderedDict[Place, tuple[float, Columns]] = OrderedDict()
        self._samples: dict[Place, Columns] = {}
        self._wanted: dict[Place, set[str]] = {}
        self._locks: dict[Place, Lock] = {}
        self._reading: dict[Place, Future[Columns]] = {}
        self._readers = ThreadPoolExecutor(2, "series")  # few: what is live has threads of its own
        self._background = ThreadPoolExecutor(1, "series-background")
        self._closed = Event()

    def close(self) -> None:
        """End what is being read."""
        self._closed.set()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._background.shutdown(wait=False, cancel_futures=True)

    async def minmax(
        self, series: Series, begin: float | None, end: float | None, pixels: int, smoothing: Smoothing
    ) -> Curve:
        """The series from `begin` to `end` (of its axis; both inclusive) for a chart of so many pixels."""
        self._wanted.setdefault(series.place, set()).add(series.name)

        def read() -> Curve:
            held, sampled = self._columns(series)
            curve = _between(*points_of(held, series), (begin, end), 2 * pixels, smoothing)
            curve.total = round(curve.total * held.each)
            curve.sampled, curve.origin = sampled, held.data["time"][0] if len(held) else 0.0
            return curve

        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    async def latest(self, series: Series, count: int) -> Curve:
        """The newest points, oldest first; not reduced."""
        self._wanted.setdefault(series.place, set()).add(series.name)

        def read() -> Curve:
            held, sampled = self._columns(series)
            x, y = points_of(held, series)
            begin = max(0, len(y) - count)
            total = round(len(y) * held.each)
            return Curve(x=x[begin:].tolist(), y=y[begin:].tolist(), total=total, sampled=sampled)

        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    async def points(self, series: Series) -> AsyncIterator[list[tuple[Any, ...]]]:
        """Every point in pages: step, episode, ms since 1970, value. Workers side by side come in turns."""
        position: dict[str, int] = {}
        begun = 0.0
        while True:
            ask, place = self._ask, series.place
            parts = await asyncio.to_thread(ask, columns.page, place, position, [series.name], PAGE)
            if not parts:
                return
            position |= {stream: line for part in parts for stream, line in part.position.items()}
            read = Columns.empty([series.name]).plus(parts)
            steps = begun + _axis(read, series)
            begun = float(steps[-1]) + (series.source == "steps") if series.source != "metrics" else 0.0
            named = (steps, read.data["episode"], read.data["time"], read.value(series.name))
            yield [tuple(map(_plain, row)) for row in zip(*named, strict=True) if np.isfinite(row[-1])]

    def _columns(self, series: Series) -> tuple[Columns, bool]:
        """Its rows as columns, and whether they are only some of all."""
        place, name = series.place, series.name
        held = self._held.get(place)
        if (held is None or name not in held[1].names) and self._ask(columns.total, place) > PAGE:
            found = self._sample(place, name)
            if place not in self._reading:
                self._reading[place] = task = self._background.submit(self._later, place, name)
                task.add_done_callback(lambda _: self._reading.pop(place, None))
            return found, True
        return self._whole(place, name, self._ask), False

    def _whole(self, place: Place, name: str, ask: Callable[..., Any]) -> Columns:
        with self._locks.setdefault(place, Lock()):
            read_at, held = self._held.get(place, (0.0, Columns.empty([])))
            if name not in held.names:
                held, read_at = Columns.empty(sorted(self._wanted[place] | {name})), 0.0
            if time.monotonic() - read_at > FRESH_S:
                held = self._grown(place, held, ask)
            self._keep(place, held)
            return held

    def _later(self, place: Place, name: str) -> Columns:
        self._closed.wait(LATER_S)
        return self._whole(place, name, self._beside)

    def _grown(self, place: Place, held: Columns, ask: Callable[..., Any]) -> Columns:
        names, position = sorted(held.names), dict(held.position)
        parts: list[Columns] = []
        while not self._closed.is_set() and len(held) + sum(map(len, parts)) < MAX_ROWS:
            read = ask(columns.page, place, position, names, PAGE)
            parts += read
            position |= {stream: line for part in read for stream, line in part.position.items()}
            if all(len(part) < PAGE for part in read):
                break
        return held.plus(parts) if parts else held

    def _keep(self, place: Place, held: Columns) -> None:
        self._samples.pop(place, None)
        self._held[place] = time.monotonic(), held
        self._held.move_to_end(place)
        while len(self._held) > 1 and sum(one.size for _, one in list(self._held.values())) > MAX_BYTES:
            oldest, _ = self._held.popitem(last=False)
            self._wanted[oldest] = set()

    def _sample(self, place: Place, name: str) -> Columns:
        found = self._samples.get(place)
        if found is None or name not in found.names:
            names = sorted(self._wanted[place] | {name})
            found = self._samples[place] = self._ask(columns.sample, place, names, PAGE)
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


def _plain(value: float) -> Any:
    """A number for CSV: a whole one without its point, none as nothing."""
    return "" if np.isnan(value) else int(value) if value == int(value) else round(float(value), 12)


def _axis(held: Columns, series: Series) -> Numbers:
    """The x of each row. Where x counts, a sample is as wide as the whole: each row counts for several."""
    moments, counted = held.data["time"], np.rint(held.each * np.arange(len(held)))
    if series.axis == "time":
        return moments
    if series.axis == "relative":
        return (moments - moments[0]) / 1000 if len(moments) else moments
    if series.axis == "episode" and series.source != "metrics":
        index = held.data["episode"]
        return counted if np.isnan(index).any() else index
    if series.source == "episodes":
        return np.rint(held.each * np.cumsum(np.nan_to_num(held.data["at"], nan=1.0)))
    return counted if series.source == "steps" else held.data["at"]


def _between(
    x: Numbers, y: Numbers, ends: tuple[float | None, float | None], points: int, smoothing: Smoothing
) -> Curve:
    """Smoothed as a whole, then cut: the line does not depend on the part that is looked at."""
    begin, end = ends
    low = 0 if begin is None else int(np.searchsorted(x, begin, side="left"))
    high = len(x) if end is None else int(np.searchsorted(x, end, side="right"))
    mean = smoothing.of(y)[low:high] if smoothing.kind != "none" else None
    return reduce(x[low:high], y[low:high], points, mean)
