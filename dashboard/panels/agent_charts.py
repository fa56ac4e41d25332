"""An agent's charts: its return, the reward of an episode, and numbers that its steps carry, by choice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from dash import html
from dash.development.base_component import Component

from dashboard import charts
from dashboard.panel import Drawn, History, News, Panel, Row, live
from dashboard.panels.chart import LONGEST_RELOAD_S, OF_RETURNS, RELOAD_S, At, Chart, drawable
from dashboard.panels.chart_choice import Choice
from dashboard.panels.chips import charted, numbers_of
from dashboard.panels.episode_chart import EpisodeChart, Point
from dashboard.panels.metric_cards import HEIGHT, card
from infra.history.curves import Curve
from infra.history.series import Series
from infra.sql.columns import Source
from schemas.errors import StepstreamError

MOST = 8000
"""Steps of the newest episode that are kept; of a longer one, lowest and highest of each stretch."""


class OneChart(Panel):
    """A chart: read out of SQL, again every few seconds while the run goes on, and grown by what comes."""

    every = 0.5
    height = HEIGHT
    look = "metric-card"
    """Its class in `theme.css`."""

    def __init__(self) -> None:
        self.built: Any = None
        """What card the page has."""
        self.choice, self.chart = Choice(), self.made(None)
        self.going, self.known = False, False
        self.gaps, self.read_at = True, 0.0
        """Whether something came that the push left out since it was read, and when that was."""
        self.until: At | None = None
        """The moment that is looked at; None: now."""
        self.whole = Curve()
        """Of the whole run, of which a moment's is a part."""
        self.agent: str | None = None

    def made(self, agent: str | None) -> Chart | None:
        """Its chart for an agent; None: it has none."""
        raise NotImplementedError

    def reset(self) -> None:
        self.choice, self.known = Choice.of(self.address), False
        self.chart, self.whole = self.made(self.agent), Curve()

    def seek(self) -> None:
        """The curve stays: `take` shows as much of it as there was."""

    def layout(self) -> Component:
        return html.Div(id=self.id, className=self.look)

    def moved(self) -> None:
        self.choice, self.dirty = Choice.of(self.address), True
        if self.chart is not None:
            self.chart.fresh = self.chart.stale = True

    def take(self, news: News) -> None:
        if news.agent != self.agent:
            self.agent, self.chart = news.agent, self.made(news.agent)
        if news.going is not None:
            if self.going and not news.going and self.chart is not None:
                self.chart.stale = True  # once more, whole
            self.going = news.going
        self.gaps = self.gaps or bool(news.thinned or news.missed)
        if news.clock is not None and news.clock.state == "live":
            self.until = None
        elif news.steps and (news.seek or news.clock is not None or self.until is not None):
            self.until = _moment(news)
        if self.until is not None and (news.seek or news.first):
            self._part()

    def _part(self) -> None:
        """Show the part of the curve that had happened."""
        if self.chart is not None and self.until is not None and self.whole.x:
            self.chart.show(self.chart.part(self.whole, self.until, self.choice), [], self.choice)
            self.dirty = True

    def add(self, came: Iterable[tuple[At, float | None]]) -> None:
        """Values that came: finite numbers, or None."""
        if self.chart is not None:
            self.chart.add(came, self.choice)
            self.dirty = self.dirty or self.chart.grown

    async def load(self, history: History) -> None:
        while True:
            chart = self.chart
            if chart is not None and self._to_read(chart):
                self.gaps, self.read_at = False, time.monotonic()
                try:
                    await chart.read(history, self.choice)
                except StepstreamError:  # the page says that SQL is away
                    self.gaps = True
                else:
                    chart.stale = False
                    self.whole = chart.curve
                    self._part()
                self.known = self.dirty = True
                self.wake()
            await asyncio.sleep(RELOAD_S if chart is None else chart.reload_s)

    def _to_read(self, chart: Chart) -> bool:
        if not self.known or chart.stale or chart.curve.sampled:
            return True
        whole = self.grows(chart) and not self.gaps and time.monotonic() - self.read_at < LONGEST_RELOAD_S
        return self.going and not chart.settled and not whole

    def grows(self, chart: Chart) -> bool:
        """Whether it is made longer by all that comes, so that it need not be read again and again."""
        return False

    def draw(self) -> Drawn:
        if self.chart is None:
            self.built, before = None, self.built
            return {self.id: {"children": []}} if before else {}
        if not self.known and not self.chart.curve.x:
            return {}
        shape = self._shape(self.chart)
        if shape == self.built:
            return self.chart.drawn(self.choice)
        self.built, self.chart.fresh = shape, True
        drawn = dict(self.chart.drawn(self.choice))
        made = self._card(self.chart, drawn.pop(self.chart.graph_id(self.choice))["figure"])
        return drawn | {self.id: {"children": made}}

    def _shape(self, chart: Chart) -> tuple[Any, ...]:
        return chart.graph_id(self.choice), chart.named == self.choice.full

    def _card(self, chart: Chart, figure: Any = None) -> Component:
        made = card(chart, self.choice, self.title, height=self.height, head=self.head(chart))
        if figure is not None:
            made.children[1].children.figure = figure
        return made

    def head(self, chart: Chart) -> list[Component]:
        """More for the card's head."""
        return []


class Return(OneChart):
    """The learning curve: its card is there at once, its first points come with the first delta."""

    title, every, width, height, look = "Return per episode", 0.45, 8, 252, "curve"

    def __init__(self) -> None:
        super().__init__()
        assert self.chart is not None
        self.built = self._shape(self.chart)

    @property
    def id(self) -> str:
        return "curve"

    def made(self, agent: str | None) -> Chart:
        return Chart(Series(self.address.run or "", "episodes", "episode_return", agent))

    def layout(self) -> Component:
        chart = self.made(None)
        return html.Div(self._card(chart), id=self.id, className=self.look)

    def take(self, news: News) -> None:
        super().take(news)
        if news.returns is not None and self.chart is not None:
            whole = news.returns
            curve = Curve(list(whole["x"]), list(whole["y"]), list(whole["mean_x"]), list(whole["mean"]))
            curve.total = len(curve.x)
            if self._plain(self.chart):
                self.chart.show(curve, list(whole["tail"]), self.choice)
                self.dirty = True
        self.add((_of_episode(episode), drawable(episode["episode_return"])) for episode in news.episodes)

    def grows(self, chart: Chart) -> bool:
        return chart.zoom(self.choice) is None and chart.axis(self.choice) != "step"  # by steps x counts on

    def _plain(self, chart: Chart) -> bool:
        """Whether the curve of the first delta is what is to be seen."""
        choice = self.choice
        return (
            chart.axis(choice) == "episode"
            and chart.smoothing(choice) == OF_RETURNS
            and chart.zoom(choice) is None
        )


class Metric(OneChart):
    """A number that steps carry: over the whole run; while an episode is open, over that episode's steps.

    Args:
        nth: its place among the charts, from 0.
    """

    def __init__(self, nth: int) -> None:
        self.nth = nth
        self.names: set[str] = set()
        self.source: Source = "steps"
        self.seen = 0
        """Steps of the agent so far: the number of the next one."""
        super().__init__()

    @property
    def id(self) -> str:
        return f"metric-{self.nth}"

    def made(self, agent: str | None) -> Chart | None:
        names = charted(self.address, sorted(self.names))
        if self.nth >= len(names):
            return None
        series = Series(self.address.run or "", self.source, names[self.nth], agent)
        episode = self.address.number("episode")
        return EpisodeChart(series, episode) if episode is not None and self._of_steps else Chart(series)

    @property
    def _of_steps(self) -> bool:
        return self.source == "steps"

    def seek(self) -> None:
        self.seen = 0

    def reset(self) -> None:
        self.names, self.source, self.seen = set(), "steps", 0
        super().reset()

    def moved(self) -> None:
        super().moved()
        self._choose()

    def take(self, news: News) -> None:
        super().take(news)
        names = news.numbers()
        if not names <= self.names:
            self._named("steps", names)
        before = self.seen
        self.seen += len(news.steps) + news.thinned + news.missed
        if news.counters is not None:
            self.seen = max(self.seen, news.counters.seen)
        if self.chart is None or isinstance(self.chart, EpisodeChart) or not self._of_steps:
            return
        begin = max(self.seen - len(news.steps), before if not news.first else 0)
        name = self.chart.series.name
        self.add(zip(At.of_steps(news, begin), [step.numbers.get(name) for step in news.steps], strict=True))

    def grows(self, chart: Chart) -> bool:
        return self._of_steps and not isinstance(chart, EpisodeChart) and chart.zoom(self.choice) is None

    def draw(self) -> Drawn:
        """Not before SQL was asked: the steps of the first delta may be a sample, and count as the newest."""
        return super().draw() if self.known or self.chart is None else {}

    async def load(self, history: History) -> None:
        if not self.names:
            self._named(*await numbers_of(history))
        await super().load(history)

    def _named(self, source: Source, names: Iterable[str]) -> None:
        self.names = {*(self.names if source == self.source else ()), *names}
        self.source = source
        self._choose()

    def _choose(self) -> None:
        """The chart that the address wants now; the same where it wants the same."""
        chart, now = self.made(self.agent), self.chart
        of = [(type(one), one.named, getattr(one, "episode", None)) if one else None for one in (chart, now)]
        if of[0] != of[1]:
            self.chart, self.known, self.dirty = chart, False, True


class Reward(OneChart):
    """Reward per step: of the newest episode as it is played, or of the one that the address names."""

    title, every, look = "Reward per step", 0.45, "reward-card"

    def __init__(self) -> None:
        self.newest: tuple[int | None, list[Point]] = (None, [])
        super().__init__()
        assert self.chart is not None
        self.built = self._shape(self.chart)

    @property
    def id(self) -> str:
        return "reward"

    def made(self, agent: str | None) -> EpisodeChart:
        series = Series(self.address.run or "", "steps", "reward", agent)
        return EpisodeChart(series, self.address.number("episode"))

    def reset(self) -> None:
        self.newest = None, []
        super().reset()

    def seek(self) -> None:
        self.newest = None, []

    def layout(self) -> Component:
        return html.Div(self._card(self.made(None)), id=self.id, className=self.look)

    def head(self, chart: Chart) -> list[Component]:
        return [live("reward.title", text="", className="muted value", id="reward-title")]

    def moved(self) -> None:
        super().moved()
        if self.made(self.agent).episode != self._open:
            self.chart, self.known, self.dirty = self.made(self.agent), self._open is None, True

    @property
    def _open(self) -> int | None:
        return getattr(self.chart, "episode", None)

    def take(self, news: News) -> None:
        super().take(news)
        episode, points = self.newest
        for step in news.steps:
            if step["episode_index"] != episode:
                episode, points = step["episode_index"], []
            at, value = step["step_index"], step["reward"]
            points.append((float(len(points) if at is None else at), step["event_time"], value))
        if len(points) > MOST:
            kept, _ = charts.thin(range(len(points)), [drawable(y) for *_, y in points], MOST // 4)
            points = [points[i] for i in kept]
        self.newest = episode, points
        if (news.steps or news.first) and self._open is None:
            self.dirty = self.known = True

    def draw(self) -> Drawn:
        if self._open is None and self.known and isinstance(self.chart, EpisodeChart):
            self.chart.of_steps(self.newest[1], self.choice)
        episode = self.newest[0] if self._open is None else self._open
        return {**super().draw(), "reward.title": "" if episode is None else f"episode {episode}"}


def _of_episode(episode: Row) -> At:
    return At(episode["event_time"], episode["episode_length"], episode["episode_index"])


def _moment(news: News) -> At:
    """The moment of the newest step, on each axis of a chart."""
    newest, finished = news.steps[-1], news.returns["x"] if news.returns else None
    steps = float(news.counters.seen - 1) if news.counters is not None else None
    episode = finished[-1] if finished else (newest["episode_index"] or 0) - 1
    return At(newest["event_time"], steps, episode)
