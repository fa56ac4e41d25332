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
        self.newest: tuple[Any, list[float], list[float | None]] = (None, [], [])
        """Episode, steps, rewards."""
        self.past: tuple[Any, list[float], list[float | None]] = (None, [], [])

    def layout(self) -> Component:
        head = [live("reward.title", text="", className="muted value", id="reward-title")]
        return self.card(charts.graph("reward"), head=head, className="reward-card")

    def moved(self) -> None:
        self.dirty = True

    @property
    def _chosen(self) -> int | None:
        return self.address.number("episode")

    def take(self, news: News) -> None:
        episode, x, y = self.newest
        for step in news.steps:
            if step["episode_index"] != episode:
                episode, x, y = step["episode_index"], [], []
            at, reward = step["step_index"], step["reward"]
            x.append(len(x) if at is None else at)
            y.append(reward if finite(reward) else None)
        if len(x) > MOST:
            x, y = charts.thin(x, y, MOST // 4)
        self.newest = episode, x, y
        self.dirty = self.dirty or bool(news.steps and self._chosen is None) or news.first

    async def load(self, history: History) -> None:
        chosen = self._chosen
        if chosen is None or chosen == self.past[0]:
            return
        steps = await history.episode(chosen)
        x = [float(i if step["step_index"] is None else step["step_index"]) for i, step in enumerate(steps)]
        self.past = chosen, x, [step["reward"] if finite(step["reward"]) else None for step in steps]
        self.dirty = True

    def draw(self) -> Drawn:
        episode, x, y = self.newest if self._chosen is None else self.past
        title = "" if episode is None else f"episode {episode}"
        return {"reward": charts.drawn((x, y)), "reward.title": title}
