"""The newest step, and its picture."""

from __future__ import annotations

import base64

from dash import html
from dash.development.base_component import Component

from dashboard import form
from dashboard.panel import Drawn, News, Panel, live, live_attr


class Now(Panel):
    """With every delta: texts only."""

    title = "Newest step"

    def reset(self) -> None:
        self.texts: dict[str, str] = {"frame": "", "frame.text": ""}

    def layout(self) -> Component:
        names = {"episode": "Episode", "step": "Step", "action": "Action", "reward": "Reward"}
        facts = [html.Div([html.Dt(name), live(f"now.{key}", html.Dd)]) for key, name in names.items()]
        image = html.Img(alt="Newest frame", **live_attr(src="frame"))
        frame = html.Div([image, live("frame.text", html.Pre, "")], className="frame", id="frame")
        return self.card(frame, html.Dl(facts, className="facts now"), className="now-card")

    def take(self, news: News) -> None:
        if news.frame is not None:
            image = news.frame.media_type.startswith("image/")
            data = news.frame.data
            coded = f"data:{news.frame.media_type};base64,{base64.b64encode(data).decode()}" if image else ""
            self.texts |= {"frame": coded, "frame.text": "" if image else data.decode(errors="replace")}
        if news.steps:
            step = news.steps[-1]
            self.texts |= {
                "now.episode": form.number(step["episode_index"]),
                "now.step": form.number(step["step_index"]),
                "now.action": form.line(step.text("action"), 80),
                "now.reward": form.number(step["reward"]),
                "agent.seq": str(step["seq"]),
            }

    def draw(self) -> Drawn:
        return self.texts
