"""The charts of a run's numbers: its metrics, what its episodes and its steps carry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from dash import html
from dash.development.base_component import Component

from dashboard import charts
from dashboard.panel import Drawn, History, News, Panel
from dashboard.panels.metric_cards import (
    FIRST,
    OF_EPISODES,
    OF_STEPS,
    Chart,
    Choice,
    button,
    card,
    group,
    named,
)
from dashboard.sql.queries import Series
from infra.history.curves import Curve, reduce_lists
from schemas.errors import StepstreamError

PIXELS = 500
FULL_PIXELS = 1600
RELOAD_S = 3.0
SAMPLE_S = 1.0


class MetricCharts(Panel):
    """A chart for each number, in groups; the newest points come live, the rest out of SQL."""

    title, every, width, of_run = "Metrics", 0.5, 12, True

    def reset(self) -> None:
        self.choice = Choice.of(self.address)
        self.charts: dict[str, Chart] = {}
        self.known = 0
        """How many there are, shown or not."""
        self.out = 0
        """How many of them are hidden."""
        self.read = self.rebuild = False
        self.going = False
        self.next_read = 0.0
        self.history: History | None = None
        self.task: asyncio.Task[None] | None = None

    def layout(self) -> Component:
        return html.Div(html.P("Reading the run's metrics", className="none muted"), id="metric-charts")

    def moved(self) -> None:
        self.choice = Choice.of(self.address)

    async def load(self, history: History) -> None:
        self.history = history
        self.next_read = time.monotonic() + RELOAD_S
        every = await self._series(history)
        wanted = [one for one in every if self.choice.shows(named(one))]
        self.known = len(every)
        self.out = sum(named(one) in self.choice.hidden for one in every)
        wanted.sort(key=lambda one: named(one) not in self.choice.pinned)
        shown = wanted[: self.choice.count]
        curves = await asyncio.gather(*(self._curve(one) for one in shown))
        made = {chart.id: chart for chart in map(Chart, shown, curves)}
        self.rebuild = self.rebuild or not self.read or list(made) != list(self.charts) or self._reshaped()
        self.charts, self.read, self.dirty = made, True, True
        self.more = len(wanted) - len(shown)
        if any(chart.curve.sampled for chart in made.values()):
            self.task = asyncio.ensure_future(self._again(history, SAMPLE_S))

    def take(self, news: News) -> None:
        if news.going is not None:
            self.going = news.going
        for point in news.points:
            for name, value in point.metrics.items():
                self._add(name, point.global_step, point.event_time / 1000, value)
        if self.history is not None and time.monotonic() > self.next_read and self.going:
            self.next_read = time.monotonic() + RELOAD_S
            self.task = asyncio.ensure_future(self._again(self.history))

    def draw(self) -> Drawn:
        if not self.read:
            return {}
        drawn: dict[str, Any] = {}
        scale, smoothed = self.choice.scale, self.choice.smoothing.words
        if self.rebuild:
            drawn["metric-charts"] = {"children": self._body()}
        for id, chart in self.charts.items():
            if chart.fresh or self.rebuild:
                drawn |= self._whole(id, chart)
            elif chart.grown:
                drawn[chart.graph_id] = charts.curve_drawn(chart.curve, scale, smoothed)
            drawn[f"value.{id}"] = chart.newest
            chart.fresh = chart.grown = False
        self.rebuild = False
        return drawn

    async def _series(self, history: History) -> list[Series]:
        """Every series of the run, by groups and names."""
        run_id, axis = history.run_id, self.choice.scale.x
        agent = self.choice.agent or await _first_agent(history)
        names = history.queries.names
        metrics = [
            Series(run_id, "metrics", name, None, axis) for name in sorted(await names(run_id, "metrics"))
        ]
        if agent is None:
            return metrics
        episodes = [*OF_EPISODES, *sorted(await names(run_id, "episodes", agent))]
        steps = [*OF_STEPS, *sorted(await names(run_id, "steps", agent))]
        of_episodes = [Series(run_id, "episodes", name, agent, axis) for name in episodes]
        return [*metrics, *of_episodes, *(Series(run_id, "steps", name, agent, axis) for name in steps)]

    async def _curve(self, series: Series) -> Curve:
        assert self.history is not None
        begin, end = self.choice.zoom or (None, None)
        pixels = FULL_PIXELS if named(series) == self.choice.full else PIXELS
        return await self.history.queries.minmax(series, begin, end, pixels, self.choice.smoothing)

    async def _again(self, history: History, after: float = 0.0) -> None:
        await asyncio.sleep(after)
        with suppress(StepstreamError):  # the page says already that SQL is away
            await self.load(history)
            self.wake()

    def _reshaped(self) -> bool:
        """Whether the cards themselves say something else than before."""
        shape = (self.choice.pinned, self.choice.hidden, self.choice.full, self.choice.count, self.out)
        before, self.shape = getattr(self, "shape", None), shape
        return before != shape

    def _add(self, name: str, step: int | None, at: float, value: float | None) -> None:
        chart = self.charts.get(Chart(Series("", "metrics", name)).id)
        if chart is None or value is None or self.choice.zoom is not None:
            return
        curve = chart.curve
        x = {"time": at, "relative": (at - curve.origin) / 1000}.get(self.choice.scale.x, step)
        if x is None or (curve.x and x <= curve.x[-1]):
            return
        curve.x.append(float(x))
        curve.y.append(value)
        curve.total += 1
        if len(curve.x) > 4 * PIXELS:
            curve.x, curve.y = reduce_lists(curve.x, curve.y, 2 * PIXELS)
        chart.grown = self.dirty = True

    def _whole(self, id: str, chart: Chart) -> dict[str, Any]:
        figure = charts.curve_figure(chart.curve, chart.title, self.choice.scale, self.choice.smoothing.words)
        zoom = self.choice.zoom
        figure["layout"]["uirevision"] = f"{zoom} {self.choice.scale}"
        if zoom is not None:
            figure["layout"]["xaxis"] |= {"range": list(zoom), "autorange": False}
        label = f"{chart.series.name}, {chart.curve.total:,} points"
        return {chart.graph_id: {"figure": figure}, f"{id}-box": {"aria-label": label}}

    def _body(self) -> list[Component]:
        if not self.known:
            call = html.Code('run.log({"loss": 0.3})')
            return [html.P(["This run has sent no numbers. ", call, " sends one."], className="none muted")]
        if not self.charts:
            return [html.P("No metric matches.", className="none muted"), *self._rest()]
        return [*(group(name, cards) for name, cards in self._groups()), *self._rest()]

    def _groups(self) -> Iterable[tuple[str, list[Component]]]:
        groups: dict[str, list[Component]] = {}
        for chart in self.charts.values():
            name = "Pinned" if chart.named in self.choice.pinned else chart.group
            groups.setdefault(name, []).append(card(chart, self.choice))
        return groups.items()

    def _rest(self) -> list[Component]:
        found = []
        if self.more > 0:
            text = f"Show {min(self.more, FIRST)} more of {self.more}"
            found.append(button(text, {"n": self.choice.count + FIRST}))
        if self.out:
            found.append(button(f"Show {self.out} hidden", {"hide": None}))
        return [html.Div(found, className="chips")] if found else []


async def _first_agent(history: History) -> str | None:
    agents = await history.queries.agents(history.run_id)
    acting = [row["agent_id"] for row in agents if row["steps"] or row["episodes"]]
    return history.agent_id or (acting[0] if acting else None)
