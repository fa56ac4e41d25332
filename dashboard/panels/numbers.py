"""What is asked of a training, in the largest type: how good it is, how long episodes are, how far it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from dash import html
from dash.development.base_component import Component

from dashboard import form
from dashboard.live.news import finite, parsed
from dashboard.panel import Drawn, News, Panel, Row, attrs, live

WINDOW = 100
CELLS = {
    "return": ("Return", "Mean return of the newest episodes, at most 100"),
    "length": ("Episode length", "Mean number of steps of the newest episodes, at most 100"),
    "success": ("Success", "Of the newest episodes, at most 100, how many the worker called a success"),
    "steps": ("Steps", "Steps of this agent since the run began"),
    "progress": ("Progress", "Of the total that the run's configuration names"),
}
TOTAL_STEPS = ("total_timesteps", "total_steps", "total_env_steps", "max_steps", "num_timesteps")
TOTAL_EPISODES = ("total_episodes", "num_episodes", "n_episodes", "max_episodes", "episodes")
SUCCESS = ("success", "is_success", "outcome", "result")
_GOOD, _BAD = ("success", "win", "won", "solved"), ("failure", "failed", "fail", "loss", "lost")


class Numbers(Panel):
    """Return, episode length, success rate, steps and progress. What a run does not have is not there."""

    title, width = "Numbers", 12

    def reset(self) -> None:
        self.returns: deque[float] = deque(maxlen=2 * WINDOW)
        self.lengths: deque[int] = deque(maxlen=WINDOW)
        self.successes: deque[bool] = deque(maxlen=WINDOW)
        self.best: tuple[float, float | None] | None = None
        """The best return and its episode."""
        self.seen, self.rate, self.episodes = 0, 0.0, 0
        self.run: Mapping[str, Any] = getattr(self, "run", {})

    def layout(self) -> Component:
        cells = [_cell(key, text, title) for key, (text, title) in CELLS.items()]
        return html.Dl(cells, className="card numbers", **attrs(aria_label="Numbers"))

    def take(self, news: News) -> None:
        if news.run is not None:
            self.run = news.run
        if news.returns is not None:
            self._whole(news.returns)
        if news.row is not None:
            self.episodes = max(self.episodes, news.row.episodes)
        for episode in news.episodes:
            self._add(episode, counted=news.returns is not None)
        if news.counters is not None:
            self.seen, self.rate = news.counters.seen, news.counters.rate

    def _whole(self, returns: Mapping[str, list[Any]]) -> None:
        points = [(y, x) for x, y in zip(returns["x"], returns["y"], strict=True) if y is not None]
        self.best = max(points, default=None)
        self.returns.extend(y for y, _ in points[-2 * WINDOW :])
        self.episodes = int(returns["x"][-1]) + 1 if returns["x"] else 0

    def _add(self, episode: Row, counted: bool) -> None:
        value, index = episode["episode_return"], episode["episode_index"]
        if finite(value) and not counted:
            self.returns.append(value)
            self.episodes = self.episodes + 1 if index is None else max(self.episodes, index + 1)
        if finite(value) and (self.best is None or value > self.best[0]):
            self.best = value, index
        if episode["episode_length"] is not None:
            self.lengths.append(episode["episode_length"])
        if (succeeded := success(episode)) is not None:
            self.successes.append(succeeded)

    def draw(self) -> Drawn:
        newest = list(self.returns)[-WINDOW:]
        texts = dict.fromkeys((f"{kind}.{key}" for key in CELLS for kind in ("number", "note")), "")
        if newest:
            texts["number.return"] = form.number(_mean(newest))
            texts["note.return"] = f"{self._trend(newest)}{self._best()}"
        if self.lengths:
            texts["number.length"] = form.number(round(_mean(self.lengths), 1))
            texts["note.length"] = f"{form.compact(self.episodes)} episodes"
        if self.successes:
            texts["number.success"] = f"{100 * _mean(self.successes):.0f} %"
            texts["note.success"] = f"of {len(self.successes)}"
        texts["number.steps"] = form.compact(self.seen)
        texts["note.steps"] = f"{form.rate(self.rate)} steps/s" if self.rate and self._going else ""
        return texts | self._progress()

    @property
    def _going(self) -> bool:
        return self.run.get("status") == "running"

    def _trend(self, newest: list[float]) -> str:
        """Against the hundred episodes before."""
        before = list(self.returns)[:-WINDOW]
        if len(before) < WINDOW // 5:
            return ""
        change = _mean(newest) - _mean(before)
        return f"{'▲' if change > 0 else '▼' if change < 0 else '='} {form.number(abs(change))} · "

    def _best(self) -> str:
        if self.best is None:
            return ""
        value, index = self.best
        return f"best {form.number(value)}" + ("" if index is None else f" in episode {int(index)}")

    def _progress(self) -> dict[str, str]:
        config = parsed(self.run.get("config") or "{}")
        config = config if isinstance(config, dict) else {}
        for names, done in ((TOTAL_STEPS, self.seen), (TOTAL_EPISODES, self.episodes)):
            total = next(
                (config[name] for name in names if finite(config.get(name)) and config[name] > 0), None
            )
            if total:
                return self._of(done, total)
        return {}

    def _of(self, done: int, total: float) -> dict[str, str]:
        share = min(done / total, 1.0)
        lasted = (self.run.get("last_seen_at") or 0) - (self.run.get("started_at") or 0)
        left = lasted * (1 - share) / share if 0 < share < 1 and self._going and lasted > 0 else None
        note = f"{form.duration(left)} left" if left is not None else f"of {form.compact(total)}"
        return {"number.progress": f"{100 * share:.0f} %", "note.progress": note}


def _cell(key: str, text: str, title: str) -> Component:
    number = live(f"number.{key}", html.Dd, "", id=f"number-{key}")
    parts = [html.Dt(text), number, live(f"note.{key}", html.Small, "")]
    return html.Div(parts, title=title, className=f"number {key}")


def success(episode: Row) -> bool | None:
    """Whether an episode was a success; None where its worker does not say."""
    for told in (episode["extras"], episode["metrics"]):
        for name in SUCCESS if isinstance(told, dict) else ():
            value = told.get(name)
            if isinstance(value, bool | int | float) and value in (0, 1):
                return bool(value)
            if isinstance(value, str) and value.lower() in _GOOD + _BAD:
                return value.lower() in _GOOD
    return None


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
