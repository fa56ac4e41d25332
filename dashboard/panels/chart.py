"""One chart of a series: the whole run out of SQL, then what comes; as the address wants it drawn."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from hashlib import blake2s
from typing import Any, NamedTuple
from urllib.parse import urlencode

from msgspec import structs

from dashboard import charts, form
from dashboard.axes import Scale
from dashboard.live.news import News, finite
from dashboard.panel import Drawn, History
from dashboard.panels.chart_choice import Choice
from infra.history.curves import ROLLING, Axis, Curve, Smoothing, reduce_lists
from infra.history.series import Series

PIXELS, FULL_PIXELS = 500, 1600
SAMPLE_S = 1.0
RELOAD_S, LONGEST_RELOAD_S = 3.0, 15.0
"""Seconds between two readings of SQL, which has the steps that the push left out; of a long run fewer."""
MOST_TAIL = 10_000
RECENT = 1000
OF_RETURNS = Smoothing("mean", float(ROLLING))
OF_EPISODES = {"episode_return": "return", "episode_length": "length"}
OF_STEPS = {"reward": "reward"}
TITLES: dict[str, dict[str, str]] = {"metrics": {}, "episodes": OF_EPISODES, "steps": OF_STEPS}


_SIMPLE = {"step": 1, "episode": 2}
"""Axes on which a value of a step stands where its `At` says."""


class At(NamedTuple):
    """The x of a live value on each axis."""

    time: float
    """ms since 1970."""
    step: float | None = None
    """The global step; of an episode its length."""
    episode: float | None = None

    @classmethod
    def of_steps(cls, news: News, begin: int) -> list[At]:
        """Of the steps of a delta, made once for all charts. `begin`: the global step of the first."""

        def made() -> list[At]:
            records: Any = [step.record for step in news.steps]
            return [
                cls(one.event_time / 1000, float(number), one.episode_index)
                for number, one in enumerate(records, begin)
            ]

        return news.once(f"at {begin}", made)


class Smoother:
    """A smoothed line that goes on with values that come.

    Args:
        smoothing: how.
        curve: what it goes on from.
        tail: the newest values before, as many as a mean takes.
    """

    def __init__(self, smoothing: Smoothing, curve: Curve, tail: list[float]) -> None:
        self._smoothing, self._count = smoothing, curve.total
        self._tail = deque(tail, maxlen=max(int(smoothing.amount), 1))
        self._sum = sum(self._tail)
        self._mean = 0.0
        if smoothing.kind == "ema" and curve.mean:
            self._mean = curve.mean[-1] * (1 - smoothing.amount**curve.total)

    def next(self, value: float) -> float:
        """The line at the next value."""
        if self._smoothing.kind == "ema":  # debiased, as `curves.exponential_mean`
            weight = self._smoothing.amount
            self._count += 1
            self._mean = weight * self._mean + (1 - weight) * value
            return float(self._mean / (1 - weight**self._count))
        self._sum += value - (self._tail[0] if len(self._tail) == self._tail.maxlen else 0.0)
        self._tail.append(value)
        return self._sum / len(self._tail)


class Chart:
    """A series, what is read of it, and what came since.

    Args:
        series: its run, name and agent; the axis is the choice's.
    """

    def __init__(self, series: Series) -> None:
        self.series = series
        self.curve = Curve()
        self.fresh, self.grown = True, False
        """What is to be drawn: all of it, or new points."""
        self.stale = True
        """It was not read as the address wants it."""
        self.settled = False
        """Nothing more comes: it need not be read again."""
        self._smoother = Smoother(Smoothing(), self.curve, [])
        self._recent: deque[tuple[At, float | None]] = deque(maxlen=RECENT)

    @property
    def named(self) -> str:
        """As the address names it."""
        return named(self.series)

    @property
    def title(self) -> str:
        """As the page names it."""
        name = self.series.name
        return TITLES[self.series.source].get(name, name.partition("/")[2] or name)

    @property
    def group(self) -> str:
        """The part of its name before the slash; of episodes and steps what they are."""
        if self.series.source != "metrics":
            return {"episodes": "Episodes", "steps": "Steps"}[self.series.source]
        head, slash, _ = self.series.name.partition("/")
        return head if slash else "Metrics"

    @property
    def id(self) -> str:
        """Of its component: the same for each agent."""
        return f"metric-{blake2s(self.named.encode(errors='replace'), digest_size=6).hexdigest()}"

    @property
    def csv(self) -> str:
        """Where every point is as CSV."""
        one = self.series
        asked = {"kind": "series", "run": one.run_id, "source": one.source, "name": one.name}
        return "/download?" + urlencode(asked | ({"agent": one.agent_id} if one.agent_id else {}))

    def axis(self, choice: Choice) -> Axis:
        """What x is: episodes stand by their number, all else by the step, where nothing is chosen."""
        if choice.axis == "episode" and self.series.source == "metrics":
            return "step"  # metrics are of no episode
        return choice.axis or ("episode" if self.series.source == "episodes" else "step")

    def smoothing(self, choice: Choice) -> Smoothing:
        """How it is smoothed: a return by its mean, where nothing is chosen."""
        of_returns = OF_RETURNS if self.series.name == "episode_return" else Smoothing()
        return of_returns if choice.smoothing is None else choice.smoothing

    def scale(self, choice: Choice) -> Scale:
        """How its axes are drawn."""
        return Scale(self.axis(choice), choice.log, choice.outliers)

    def zoom(self, choice: Choice) -> tuple[float, float] | None:
        """The part of x that is looked at, if it is of this chart's axis."""
        return choice.zoom if choice.zoomed in (None, self.axis(choice)) else None

    def graph(self, choice: Choice) -> dict[str, str]:
        """The id of its graph, by which a zoom knows its axis."""
        return {"type": "zoomed", "axis": self.axis(choice), "name": self.id}

    def graph_id(self, choice: Choice) -> str:
        """The same, as the push names it."""
        return json.dumps(self.graph(choice), sort_keys=True, separators=(",", ":"))

    async def read(self, history: History, choice: Choice) -> None:
        """Read it out of SQL.

        Raises:
            DatabaseError: SQL does not answer.
        """
        source, name, smoothing = self.series.source, self.series.name, self.smoothing(choice)
        begin, end = self.zoom(choice) or (None, None)
        asked: dict[str, Any] = {"axis": self.axis(choice), "smoothing": smoothing}
        asked["pixels"] = FULL_PIXELS if self.named == choice.full else PIXELS
        curve = await history.minmax(source, name, begin=begin, end=end, **asked)
        tail: list[float] = []
        if smoothing.kind == "mean" and end is None:
            tail = (await history.latest(source, name, min(int(smoothing.amount), MOST_TAIL))).y
        self.show(curve, tail, choice)

    def show(self, curve: Curve, tail: list[float], choice: Choice) -> None:
        """Take a curve, and go on from it with what came meanwhile. `tail`: its newest values."""
        self.curve, self.grown = curve, self.grown or curve != self.curve
        self._smoother = Smoother(self.smoothing(choice), curve, tail)
        if not (self.axis(choice) == "step" and self.series.source == "episodes"):  # there x counts on
            self._grow(self._recent, choice)

    def part(self, whole: Curve, until: At, choice: Choice) -> Curve:
        """What of a curve had happened by a moment."""
        of_time = until.time - (whole.origin if self.axis(choice) == "relative" else 0.0)
        ends = {"time": of_time, "relative": of_time / 1000, "step": until.step, "episode": until.episode}
        end = ends[self.axis(choice)]
        count = bisect_right(whole.x, end) if end is not None else 0
        mean = bisect_right(whole.mean_x, end) if end is not None else 0
        self._recent.clear()
        return structs.replace(
            whole,
            x=whole.x[:count],
            y=whole.y[:count],
            mean_x=whole.mean_x[:mean],
            mean=whole.mean[:mean],
            total=round(whole.total * count / (len(whole.x) or 1)),
        )

    def add(self, came: Iterable[tuple[At, float | None]], choice: Choice) -> None:
        """Values that came, oldest first: finite numbers, or None."""
        numbers = [one for one in came if one[1] is not None]
        self._recent += numbers
        self._grow(numbers, choice)

    def _grow(self, came: Iterable[tuple[At, Any]], choice: Choice) -> None:
        if self.zoom(choice) is not None:
            return
        curve, axis, smooth = self.curve, self.axis(choice), self.smoothing(choice).kind != "none"
        last, before = curve.x[-1] if curve.x else None, curve.total
        simple = _SIMPLE.get(axis) if self.series.source != "episodes" else None
        for at, value in came:
            x = at[simple] if simple is not None else self._x(at, last, axis)
            if x is None or (last is not None and x <= last):
                continue
            curve.x.append(x)
            curve.y.append(value)
            curve.total, last = curve.total + 1, x
            if smooth:
                curve.mean_x.append(x)
                curve.mean.append(self._smoother.next(value))
        if len(curve.x) > 4 * PIXELS:
            curve.x, curve.y = reduce_lists(curve.x, curve.y, 2 * PIXELS)
        if len(curve.mean) > 4 * PIXELS:
            curve.mean_x, curve.mean = reduce_lists(curve.mean_x, curve.mean, 2 * PIXELS)
        self.grown = self.grown or curve.total > before

    def _x(self, at: At, last: float | None, axis: Axis) -> float | None:
        of_episodes = self.series.source == "episodes"
        if axis in ("time", "relative"):
            self.curve.origin = self.curve.origin or at.time
            return at.time if axis == "time" else (at.time - self.curve.origin) / 1000
        if axis == "episode":
            return (
                at.episode
                if at.episode is not None or not of_episodes
                else (-1 if last is None else last) + 1
            )
        return (last or 0) + (at.step or 1) if of_episodes else at.step

    @property
    def reload_s(self) -> float:
        """Seconds until it should be read again: what came in them is less than a hundredth of it."""
        if self.curve.sampled:
            return SAMPLE_S
        age = time.time() - self.curve.origin / 1000 if self.curve.origin else 0.0
        return min(max(age / 100, RELOAD_S), LONGEST_RELOAD_S)

    @property
    def newest(self) -> str:
        """Its newest value; of a smoothed line, that one's."""
        found = self.curve.mean or self.curve.y
        return form.number(found[-1]) if found else ""

    def drawn(self, choice: Choice) -> Drawn:
        """What to change on the page."""
        fresh, grown, self.fresh, self.grown = self.fresh, self.grown, False, False
        if fresh or (grown and self.zoom(choice) is not None):
            return {self.graph_id(choice): {"figure": self._figure(choice)}, **self._texts()}
        if grown:
            drawn = charts.curve_drawn(self.curve, *self._looks(choice))
            return {self.graph_id(choice): drawn, **self._texts()}
        return {}

    def _looks(self, choice: Choice) -> tuple[str, Scale, str, int]:
        """Its name, scale, smoothing in words, and how many points are drawn."""
        wide = self.named == choice.full or self.zoom(choice) is not None
        points = 2 * FULL_PIXELS if wide else charts.POINTS
        return self.title, self.scale(choice), self.smoothing(choice).words, points

    def _texts(self) -> dict[str, str]:
        about = "about " if self.curve.sampled else ""
        label = f"{self.series.name}, {about}{self.curve.total:,} points"
        return {f"value.{self.id}": self.newest, f"label.{self.id}": label, f"csv.{self.id}": self.csv}

    def _figure(self, choice: Choice) -> dict[str, Any]:
        zoom, scale = self.zoom(choice), self.scale(choice)
        figure = charts.curve_figure(self.curve, *self._looks(choice))
        figure["layout"]["uirevision"] = f"{zoom} {scale.x} {scale.log} {scale.outliers}"
        if zoom is not None:
            figure["layout"]["xaxis"] |= {"range": list(zoom), "autorange": False}
        return figure


def drawable(value: Any) -> float | None:
    """A value for a chart: what is no finite number is none."""
    return value if finite(value) else None


def named(series: Series) -> str:
    """A series as an address names it: a metric by its name, others with their source."""
    return series.name if series.source == "metrics" else f"{series.source}:{series.name}"
