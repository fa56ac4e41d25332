"""Numbers that an agent's steps carry: chips to choose them by, and a chart for each that is chosen."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from dash import html
from dash.development.base_component import Component

from dashboard import charts, form
from dashboard.address import Address
from dashboard.controls import patch
from dashboard.live.news import finite, parsed
from dashboard.panel import Drawn, History, News, Panel, attrs, live

PLACES = 6
"""Charts at once, at most."""
FIRST = 2
"""Charts where none is chosen."""
LIVE_POINTS = 4000


def charted(address: Address, names: list[str]) -> list[str]:
    """The numbers that are drawn: those that the address names, else the first."""
    chosen = [name for name in address.all("metric") if name != "none"]
    if chosen or address.get("metric") == "none":
        return chosen[:PLACES]
    return names[:FIRST]


class Chips(Panel):
    """A chip for each number: pressed, its chart is there."""

    title, every, width = "Charts", 0.3, 12

    def reset(self) -> None:
        self.names: list[str] = []
        self.shown: tuple[list[str], list[str]] | None = None

    def layout(self) -> Component:
        label = attrs(role="group", aria_label="Charts of the steps' numbers")
        return html.Div(id="metric-chips", className="chips", **label)

    def moved(self) -> None:
        self.dirty = True

    async def load(self, history: History) -> None:
        self._add(await history.names("steps"))

    def take(self, news: News) -> None:
        self._add(name for step in news.steps for name in step.numbers)

    def _add(self, names: object) -> None:
        known = {*self.names, *names}  # type: ignore[misc]
        if len(known) != len(self.names):
            self.names = sorted(known)
            self.dirty = True

    def draw(self) -> Drawn:
        chosen = charted(self.address, self.names)
        if (self.names, chosen) == self.shown:
            return {}
        self.shown = self.names, chosen
        head = [html.Span("Charts", className="muted")] if self.names else []
        return {"metric-chips": {"children": [*head, *(_chip(name, chosen) for name in self.names)]}}


def _chip(name: str, chosen: list[str]) -> Component:
    pressed = name in chosen
    after = [one for one in chosen if one != name] if pressed else [*chosen, name]
    marks = attrs(aria_pressed="true" if pressed else "false") | patch({"metric": after or "none"})
    return html.Button(name, key=name, type="button", className="chip", **marks)


class Metric(Panel):
    """One number over the agent's steps: the whole run from SQL, then what comes; of an open episode its own.

    Args:
        nth: its place among the charts, from 0.
    """

    every = 0.5

    def __init__(self, nth: int) -> None:
        self.nth = nth

    @property
    def id(self) -> str:
        return f"metric-{self.nth}"

    def reset(self) -> None:
        self.name = ""
        self.names: set[str] = set()
        self.seen = 0
        """Steps of the agent so far: the number of the next one."""
        self._anew()

    def _anew(self) -> None:
        self.x: list[float] = []
        self.y: list[float | None] = []
        self.episode: int | None = None
        self.live_x: deque[float] = deque(maxlen=LIVE_POINTS)
        self.live_y: deque[float] = deque(maxlen=LIVE_POINTS)
        self.made = False
        """Whether the page has a chart of it."""

    def layout(self) -> Component:
        return html.Div(id=self.id, className="metric-card")

    def take(self, news: News) -> None:
        for step in news.steps:
            self.names.update(step.numbers)
        before = self.seen
        self.seen += len(news.steps) + news.thinned + news.missed
        if news.counters is not None:
            self.seen = max(self.seen, news.counters.seen)
        self._choose()
        begin = max(self.seen - len(news.steps), before if not news.first else 0)
        for number, step in enumerate(news.steps, begin):
            if self.name in step.numbers:
                self.live_x.append(number)
                self.live_y.append(step.numbers[self.name])
                self.dirty = True

    def moved(self) -> None:
        if self.address.number("episode") != self.episode:
            self.x, self.y = [], []
        self._choose()
        self.dirty = True

    def _choose(self) -> None:
        names = charted(self.address, sorted(self.names))
        name = names[self.nth] if self.nth < len(names) else ""
        if name != self.name:
            self._anew()
            self.name, self.dirty = name, True

    async def load(self, history: History) -> None:
        if not self.names:
            self.names.update(await history.names("steps"))
            self._choose()
        name, episode = self.name, self.address.number("episode")
        if not name or history.agent_id is None:
            return
        if episode is not None:
            return self._show(name, episode, *_own(await history.episode(episode), name))
        while True:
            curve = await history.minmax("steps", name, pixels=charts.POINTS // 2)
            wide = self.seen / curve.x[-1] if curve.sampled and curve.x and curve.x[-1] else 1.0
            self._show(name, None, [x * wide for x in curve.x], list(curve.y))
            if not curve.sampled:
                return None
            await asyncio.sleep(1)

    def _show(self, name: str, episode: int | None, x: list[float], y: list[float | None]) -> None:
        if name == self.name:
            self.x, self.y, self.episode, self.dirty = x, y, episode, True

    def draw(self) -> Drawn:
        if not self.name:
            return {self.id: {"children": []}}
        x, y = [*self.x], [*self.y]
        if self.episode is None:
            last = x[-1] if x else -1.0
            fresh = [(at, value) for at, value in zip(self.live_x, self.live_y, strict=False) if at > last]
            x += [at for at, _ in fresh]
            y += [value for _, value in fresh]
        made, self.made = self.made, True
        axis = "step" if self.episode is None else f"step of episode {self.episode}"
        texts = dict(zip(self._keys, (axis, form.number(y[-1]) if y else ""), strict=True))
        if made:
            return texts | {f"{self.id}-chart": charts.drawn((x, y))}
        return texts | {self.id: {"children": self._card(x, y, texts)}}

    def _card(self, x: list[float], y: list[float | None], texts: dict[str, str]) -> Component:
        chart: Any = charts.graph(f"{self.id}-chart")
        chart.figure["data"][0]["x"], chart.figure["data"][0]["y"] = charts.thin(x, y)
        axis, value = (live(key, text=texts[key], className=key.split(".")[2]) for key in self._keys)
        title = html.H3(self.name, title=self.name)
        head = html.Div([title, html.Span(className="flex-fill"), axis, value], className="panel-head")
        return html.Section([head, chart], className="card")

    @property
    def _keys(self) -> tuple[str, str]:
        return f"metric.{self.nth}.axis", f"metric.{self.nth}.value"


def _own(steps: list[dict[str, object]], name: str) -> tuple[list[float], list[float | None]]:
    """A number over the steps of an episode."""
    x: list[float] = []
    y: list[float | None] = []
    for i, step in enumerate(steps):
        told = parsed(step["metrics"]) if isinstance(step["metrics"], str) else step["metrics"]
        value = told.get(name) if isinstance(told, dict) else None
        at = step["step_index"]
        x.append(float(at) if finite(at) else float(i))  # type: ignore[arg-type]
        y.append(value if finite(value) else None)
    return x, y
