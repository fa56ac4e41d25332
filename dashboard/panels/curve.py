"""Return per episode with its rolling mean."""

from __future__ import annotations

from collections import deque
from typing import Any

from dash import Dash, Input, Output
from dash.development.base_component import Component

from dashboard import charts, form
from dashboard.live.news import finite
from dashboard.panel import Drawn, News, Panel, live

WINDOW = 100


def register(app: Dash) -> None:
    """A click on an episode opens it; a double click, which resets the zoom, does not."""
    in_browser: Any = app.clientside_callback  # untyped in Dash
    in_browser(_PICK, Output("url", "search"), Input("curve", "clickData"), prevent_initial_call=True)


_PICK = """(picked) => !picked ? dash_clientside.no_update : new Promise((answer) => {
  const search = () => {
    const query = new URLSearchParams(location.search);
    for (const name of ["at", "step", "rows"]) query.delete(name);
    query.set("episode", picked.points[0].x);
    query.set("table", "steps");
    return `?${query}`;
  };
  const twice = () => { clearTimeout(once); answer(dash_clientside.no_update); };
  const once = setTimeout(() => { removeEventListener("dblclick", twice); answer(search()); }, 350);
  addEventListener("dblclick", twice, { once: true });
})"""


class Curve(Panel):
    """The learning curve: the whole run, then what comes."""

    title, every, width = "Return per episode", 0.4, 8

    def reset(self) -> None:
        self.x: list[float] = []
        self.y: list[float | None] = []
        self.mean_x: list[float] = []
        self.mean: list[float] = []
        self.tail: deque[float] = deque(maxlen=WINDOW)

    def layout(self) -> Component:
        return self.card(
            charts.graph("curve", 2, 252, x_title="Episode"),
            head=[live("curve.mean", text="")],
            className="curve",
        )

    def take(self, news: News) -> None:
        if news.returns is not None:
            whole = news.returns
            self.x, self.y = list(whole["x"]), list(whole["y"])
            self.mean_x, self.mean = list(whole["mean_x"]), list(whole["mean"])
            self.tail.extend(whole["tail"])
        else:
            for episode in news.episodes:
                self._add(episode["episode_index"], episode["episode_return"])
        self.dirty = self.dirty or news.first or bool(news.episodes)

    def _add(self, index: int | None, value: float | None) -> None:
        if value is None or not finite(value):
            return
        last = self.x[-1] if self.x else -1.0
        x = float(index) if index is not None and index > last else last + 1
        self.tail.append(value)
        self.x.append(x)
        self.y.append(value)
        self.mean_x.append(x)
        self.mean.append(sum(self.tail) / len(self.tail))

    def draw(self) -> Drawn:
        mean = f"{form.number(self.mean[-1])} mean of {len(self.tail)}" if self.mean else ""
        return {"curve": charts.drawn((self.x, self.y), (self.mean_x, self.mean)), "curve.mean": mean}
