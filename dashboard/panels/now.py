"""The newest step, and its picture: of now, or of the moment that the viewer has chosen."""

from __future__ import annotations

from typing import Any

from dash import html
from dash.development.base_component import Component

from dashboard import form
from dashboard.panel import Drawn, News, Panel, live
from dashboard.panels.frame import Frame

FACTS = {"episode": "Episode", "step": "Step", "action": "Action", "reward": "Reward"}


class Now(Panel):
    """With every delta: texts only."""

    title = "Newest step"

    def reset(self) -> None:
        self.texts = {f"now.{name}": form.NONE for name in FACTS} | {"agent.seq": ""}
        self.live = True

    def layout(self) -> Component:
        facts = [
            html.Div([html.Dt(text), live(f"now.{key}", html.Dd, id=f"now-{key}")], className=key)
            for key, text in FACTS.items()
        ]
        head = html.Div([live("now.title", html.H3, self.title, id="now-title")], className="panel-head")
        newest = html.Div([Frame().layout(), html.Dl(facts, className="now")], className="newest")
        return html.Section([head, newest], className="card now-card")

    def take(self, news: News) -> None:
        if news.clock is not None:
            self.live = news.clock.state == "live"
        if news.steps:
            step = news.steps[-1]
            self.texts = {
                "now.episode": _index(step["episode_index"]),
                "now.step": _index(step["step_index"]),
                "now.action": form.line(step.text("action"), 80),
                "now.reward": form.number(step["reward"]),
                "agent.seq": str(step["seq"]),
            }

    def draw(self) -> Drawn:
        title = f"Step {self.texts['now.step']} of episode {self.texts['now.episode']}"
        return self.texts | {"now.title": self.title if self.live else title}


def _index(value: Any) -> str:
    return form.NONE if value is None else str(value)
