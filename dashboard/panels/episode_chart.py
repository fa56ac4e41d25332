"""A chart of one episode's steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import numpy as np
from msgspec import structs

from dashboard.axes import Scale
from dashboard.live.news import finite, parsed
from dashboard.panel import History
from dashboard.panels.chart import PIXELS, Chart
from dashboard.panels.chart_choice import Choice
from infra.history.curves import Axis, reduce
from infra.history.series import Series

Pair = tuple[float, float]
EPISODES = 20
"""The axes hold as many that were drawn: one that has just begun moves them no more than the last."""

Point = tuple[float, float, Any]
"""A step of an episode: its number, when it was (ms since 1970), its value."""


class EpisodeChart(Chart):
    """A number over the steps of one episode. Its zoom is its own.

    Args:
        series: of steps.
        episode: its index; None: no episode yet.
    """

    def __init__(self, series: Series, episode: int | None) -> None:
        super().__init__(series)
        self.episode = episode
        self._ends: deque[tuple[Axis, Pair, Pair]] = deque(maxlen=EPISODES)

    @property
    def named(self) -> str:
        return f"episode:{self.series.name}"

    @property
    def csv(self) -> str:
        one, of = self.series, {} if self.episode is None else {"episode": self.episode}
        asked = {"kind": "steps", "run": one.run_id, "agent": one.agent_id or ""}
        return "/download?" + urlencode(asked | of)

    def axis(self, choice: Choice) -> Axis:
        return choice.axis if choice.axis in ("relative", "time") else "step"

    def zoom(self, choice: Choice) -> None:
        return None

    def scale(self, choice: Choice) -> Scale:
        scale = super().scale(choice)
        ends = np.array([(x, y) for axis, x, y in self._ends if axis == scale.x]).reshape(-1, 2, 2)
        return structs.replace(scale, reach=(ends[:, 0].ravel(), ends[:, 1].ravel()))

    def graph(self, choice: Choice) -> dict[str, str]:
        return {"type": "alone", "axis": self.axis(choice), "name": self.id}

    async def read(self, history: History, choice: Choice) -> None:
        if self.episode is not None:
            steps, before = _newest(await history.episode(self.episode)), self.curve.total
            self.of_steps([_point(i, step, self.series.name) for i, step in enumerate(steps)], choice)
            self.settled = self.curve.total == before

    def of_steps(self, points: Sequence[Point], choice: Choice) -> None:
        """Take the episode's steps."""
        found = np.array([point for point in points if finite(point[2])], dtype=np.float64).reshape(-1, 3)
        steps, times, y = found.T
        begin = times[0] if len(times) else 0.0
        x = {"time": times, "relative": (times - begin) / 1000}.get(self.axis(choice), steps)
        smoothing = self.smoothing(choice)
        mean = smoothing.of(y) if smoothing.kind != "none" else None
        curve = reduce(x, y, 2 * PIXELS, mean)
        self.curve, self.grown = curve, self.grown or curve != self.curve
        if curve.x:
            self._ends.append((self.axis(choice), (curve.x[0], curve.x[-1]), (min(curve.y), max(curve.y))))


def _newest(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of an episode whose number comes again, as in a run that began again: the steps of the newest."""
    newest = max(steps, key=lambda one: one["event_time"] or 0, default=None)
    return [step for step in steps if newest is not None and step["stream_id"] == newest["stream_id"]]


def _point(i: int, step: Mapping[str, Any], name: str) -> Point:
    """A step out of SQL: its number, when it was, its value."""
    told = parsed(step["metrics"]) if isinstance(step["metrics"], str) else step["metrics"]
    value = step["reward"] if name == "reward" else told.get(name) if isinstance(told, dict) else None
    return (
        float(i if step["step_index"] is None else step["step_index"]),
        float(step["event_time"] or 0),
        value,
    )
