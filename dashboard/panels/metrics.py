"""The charts of a run's numbers: its metrics, what its episodes and its steps carry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from dash import html
from dash.development.base_component import Component

from dashboard.panel import Drawn, History, News, Panel
from dashboard.panels.chart import OF_EPISODES, OF_STEPS, RELOAD_S, At, Chart, drawable
from dashboard.panels.chart_choice import FIRST, Choice
from dashboard.panels.metric_cards import button, card, group
from infra.history.series import Series
from infra.sql.columns import Source
from schemas.errors import StepstreamError


class MetricCharts(Panel):
    """A chart for each number, in groups; the newest points come live, the rest out of SQL."""

    title, every, width, of_run = "Metrics", 0.5, 12, True

    def __init__(self) -> None:
        self.built: Any = None
        """What cards the page has."""

    def reset(self) -> None:
        self.choice = Choice.of(self.address)
        self.charts: dict[str, Chart] = {}
        self.known = self.out = self.more = 0
        """How many there are, shown or not; are hidden; would be shown by the button."""
        self.read = self.going = False

    def layout(self) -> Component:
        return html.Div(html.P("Reading the run's metrics", className="none muted"), id="metric-charts")

    def moved(self) -> None:
        self.choice = Choice.of(self.address)
        for chart in self.charts.values():
            chart.fresh = True

    async def load(self, history: History) -> None:
        history = msgspec.structs.replace(history, agent_id=await self._agent(history))
        await self._read(history)
        while True:
            sampled = any(chart.curve.sampled for chart in self.charts.values())
            await asyncio.sleep(min((chart.reload_s for chart in self.charts.values()), default=RELOAD_S))
            try:
                if sampled or self.going:
                    await self._read(history)
            except StepstreamError:
                pass  # the page says already that SQL is away

    async def _read(self, history: History) -> None:
        every = [Chart(one) for one in await self._series(history)]
        wanted = [chart for chart in every if self.choice.shows(chart.named)]
        wanted.sort(key=lambda chart: chart.named not in self.choice.pinned)
        shown = [self.charts.get(chart.id, chart) for chart in wanted[: self.choice.count]]
        await asyncio.gather(*(chart.read(history, self.choice) for chart in shown))
        self.known, self.more = len(every), len(wanted) - len(shown)
        self.out = sum(chart.named in self.choice.hidden for chart in every)
        self.charts = {chart.id: chart for chart in shown}
        self.read = self.dirty = True
        self.wake()

    def take(self, news: News) -> None:
        if news.going is not None:
            self.going = news.going
        for point in news.points:
            at = At(point.event_time / 1000, None if point.global_step is None else float(point.global_step))
            for name, value in point.metrics.items():
                chart = self.charts.get(Chart(Series("", "metrics", name)).id)
                if chart is not None:
                    chart.add([(at, drawable(value))], self.choice)
                    self.dirty = self.dirty or chart.grown

    def draw(self) -> Drawn:
        if not self.read:
            return {}
        drawn: dict[str, Any] = {}
        shape = self._shape()
        if shape != self.built:
            self.built = shape
            drawn["metric-charts"] = {"children": self._body()}
            for chart in self.charts.values():
                chart.fresh = True
        for chart in self.charts.values():
            drawn |= chart.drawn(self.choice)
        return drawn

    def _shape(self) -> Any:
        """What the cards say, and which they are."""
        choice = self.choice
        graphs = [chart.graph_id(choice) for chart in self.charts.values()]
        return graphs, choice.pinned, choice.hidden, choice.full, self.known, self.more, self.out

    async def _agent(self, history: History) -> str | None:
        """Whose steps and episodes: the one that the address names, else the first that acts."""
        agents = await history.queries.agents(history.run_id)
        acting = [row["agent_id"] for row in agents if row["steps"] or row["episodes"]]
        return self.choice.agent or history.agent_id or (acting[0] if acting else None)

    async def _series(self, history: History) -> list[Series]:
        """Every series of the run, by groups and names."""
        run_id, agent = history.run_id, history.agent_id
        found = [Series(run_id, "metrics", name) for name in sorted(await history.names("metrics"))]
        sources: dict[Source, dict[str, str]] = {"episodes": OF_EPISODES, "steps": OF_STEPS}
        for source, own in sources.items() if agent is not None else ():
            names = [*own, *sorted(await history.names(source))]
            found += [Series(run_id, source, name, agent) for name in names]
        return found

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
            pinned = chart.named in self.choice.pinned
            groups.setdefault("Pinned" if pinned else chart.group, []).append(
                card(chart, self.choice, pinned=pinned)
            )
        return groups.items()

    def _rest(self) -> list[Component]:
        found = []
        if self.more > 0:
            text = f"Show {min(self.more, FIRST)} more of {self.more}"
            found.append(button(text, {"n": self.choice.count + FIRST}))
        if self.out:
            found.append(button(f"Show {self.out} hidden", {"hide": None}))
        return [html.Div(found, className="chips")] if found else []
