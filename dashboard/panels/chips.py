"""Which of the numbers that an agent's steps carry have a chart: a chip each."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from dashboard.address import Address
from dashboard.controls import patch
from dashboard.panel import Drawn, History, News, Panel, attrs
from infra.sql.columns import Source

PLACES = 6
"""Charts of the steps' numbers at once, at most."""
FIRST = 2
"""Charts where none is chosen."""


async def numbers_of(history: History) -> tuple[Source, list[str]]:
    """Names of what an agent's steps carry; where none carries any, of the run's metrics."""
    if names := await history.names("steps"):
        return "steps", names
    return "metrics", await history.names("metrics")


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
        self._add((await numbers_of(history))[1])

    def take(self, news: News) -> None:
        self._add(news.numbers())

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
