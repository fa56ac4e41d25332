"""Reward per step of one episode: the newest, or the one that the address names."""

from __future__ import annotations

from typing import Any

from dash.development.base_component import Component

from dashboard import charts
from dashboard.live.news import finite
from dashboard.panel import Drawn, History, News, Panel, live

MOST = 8000
"""Steps of one episode that are kept; of a longer one, lowest and highest of each stretch."""


class Reward(Panel):
    """The newest episode grows as it is played; one of the past is read whole."""

    title, every = "Reward per step", 0.35

    def reset(self) -> None:
        self.episode: Any = None
        self.x: list[float] = []
        self.y: list[float | None] = []

    def layout(self) -> Component:
        head = [live("reward.title", text="", className="muted value", id="reward-title")]
        return self.card(charts.graph("reward"), head=head, className="reward-card")

    def moved(self) -> None:
        if self._chosen is None and self.episode is not None:
            self.reset()  # the newest episode comes with its next step
            self.dirty = True

    @property
    def _chosen(self) -> int | None:
        return self.address.number("episode")

    def take(self, news: News) -> None:
        if self._chosen is not None:
            return
        for step in news.steps:
            if step["episode_index"] != self.episode:
                self.episode, self.x, self.y = step["episode_index"], [], []
            at, reward = step["step_index"], step["reward"]
            self.x.append(len(self.x) if at is None else at)
            self.y.append(reward if finite(reward) else None)
        if len(self.x) > MOST:
            self.x, self.y = charts.thin(self.x, self.y, MOST // 4)
        self.dirty = self.dirty or bool(news.steps) or news.first

    async def load(self, history: History) -> None:
        chosen = self._chosen
        if chosen is None or history.agent_id is None:
            return
        steps = await history.episode(chosen)
        self.episode = chosen
        self.x = [float(i if step["step"] is None else step["step"]) for i, step in enumerate(steps)]
        self.y = [step["reward"] if finite(step["reward"]) else None for step in steps]
        self.dirty = True

    def draw(self) -> Drawn:
        title = "" if self.episode is None else f"episode {self.episode}"
        return {"reward": charts.drawn((self.x, self.y)), "reward.title": title}
