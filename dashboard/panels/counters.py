"""What is asked of a training, in the largest type."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from dashboard import form
from dashboard.panel import Drawn, News, Panel, live


class Counters(Panel):
    """Steps seen."""

    def reset(self) -> None:
        self.seen = 0

    def layout(self) -> Component:
        return html.Dl([html.Dt("Steps"), live("count.seen", html.Dd)], className="card counters")

    def take(self, news: News) -> None:
        if news.counters is not None:
            self.seen = news.counters.seen

    def draw(self) -> Drawn:
        return {"count.seen": form.compact(self.seen)}
