"""The training's main numbers, in the largest type: return, episode length, success, progress.

number=<name>   (repeated) numbers of the agent's own beside them, as its steps, episodes or metrics carry;
                of a run of metrics alone the first few, where none is chosen
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import dash_bootstrap_components as dbc
from dash import Dash, html, no_update
from dash.development.base_component import Component

from dashboard import controls, form
from dashboard.address import Address
from dashboard.controls import patched
from dashboard.live.news import finite, parsed
from dashboard.panel import Drawn, History, News, Panel, Row, attrs, live, live_attr
from dashboard.sql.queries import PageRequest
from infra.sql.columns import Source
from schemas.errors import StepstreamError

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
MOST_OWN = 4
"""Numbers of the agent's own at once, at most."""
SOURCES: tuple[Source, ...] = ("episodes", "steps", "metrics")
AGAIN_S = 3.0
_GOOD, _BAD = ("success", "win", "won", "solved"), ("failure", "failed", "fail", "loss", "lost")


def register(app: Dash) -> None:
    """The agent's own numbers that are chosen, to the address."""

    def chosen(address: Address, names: list[str] | None) -> Any:
        wanted = (names or [])[-MOST_OWN:]
        same = sorted(wanted) == sorted(address.all("number"))
        return no_update if same else address.search(number=wanted or None)

    controls.to_address(app, "own-numbers", "value", chosen)


class Numbers(Panel):
    """Return, episode length, success rate, steps and progress. What a run does not have is not there."""

    title, width = "Numbers", 12

    def __init__(self) -> None:
        self.offered: tuple[list[str], list[str]] = ([], [])
        """Names to choose from and those that are chosen, as the page has them."""

    def reset(self) -> None:
        self.returns: deque[float] = deque(maxlen=2 * WINDOW)
        self.lengths: deque[int] = deque(maxlen=WINDOW)
        self.successes: deque[bool] = deque(maxlen=WINDOW)
        self.best: tuple[float, float | None] | None = None
        """The best return and its episode."""
        self.best_length: int | None = None
        self.seen, self.rate, self.episodes = 0, 0.0, 0
        self.run: Mapping[str, Any] = getattr(self, "run", {})
        self.own: dict[str, tuple[Source, float | None]] = {}
        """The agent's own numbers: where each is from, and its newest value where it is known."""
        self.heard = False

    def layout(self) -> Component:
        cells = [_cell(key, text, title) for key, (text, title) in CELLS.items()]
        own = [_own_cell(i) for i in range(MOST_OWN)]
        choices = html.Div(dbc.Checklist(id="own-numbers", options=[], value=[]), className="menu")
        summary = html.Summary("+", title="Choose numbers", **attrs(aria_label="Choose numbers"))
        drop = html.Details(
            [summary, choices], className="drop own-numbers", **live_attr(data_some="own.some")
        )
        listed = html.Dl([*cells, *own], className="numbers", **attrs(aria_label="Numbers"))
        return html.Div([listed, drop], className="card numbers-card", **live_attr(style="numbers.look"))

    def take(self, news: News) -> None:
        self.heard = True
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
        for name, value in news.steps[-1].numbers.items() if news.steps else ():
            self.own[name] = "steps", value

    async def load(self, history: History) -> None:
        known = False
        while True:
            try:
                if self._going or not known or (self.best is not None and self.best_length is None):
                    await self._read(history)
                    known = True
                    self.wake()
            except StepstreamError:
                pass  # the page says that SQL is away
            await asyncio.sleep(AGAIN_S)

    async def _read(self, history: History) -> None:
        """Names to choose from, the newest values of those chosen, and how long the best episode was."""
        for source in SOURCES:
            for name in await history.names(source):
                self.own.setdefault(name, (source, None))
        for name in self._shown:
            source, _ = self.own.get(name, ("metrics", None))
            if source != "steps" or not self._going:
                newest = (await history.latest(source, name, 1)).y
                self.own[name] = source, newest[-1] if newest else None
        index = self.best[1] if self.best is not None else None
        if index is not None and self.best_length is None and history.agent_id is not None:
            asked = history.run_id, history.agent_id, PageRequest(0, 1), int(index)
            rows = (await history.queries.episodes(*asked)).rows
            self.best_length = rows[0]["episode_length"] if rows else None

    @property
    def _chosen(self) -> list[str]:
        return self.address.all("number")[:MOST_OWN]

    @property
    def _shown(self) -> list[str]:
        return self._chosen or ([] if self._acts else sorted(self.own)[:MOST_OWN])

    @property
    def _acts(self) -> bool:
        """Whether it has steps or episodes, as far as is known."""
        return bool(self.seen or self.episodes) or not self.heard

    def _whole(self, returns: Mapping[str, list[Any]]) -> None:
        best = returns["best"]
        self.best = (best[0], best[1]) if best else None
        self.returns.extend([y for y in returns["y"] if y is not None][-2 * WINDOW :])
        self.episodes = int(returns["x"][-1]) + 1 if returns["x"] else 0

    def _add(self, episode: Row, counted: bool) -> None:
        value, index = episode["episode_return"], episode["episode_index"]
        if finite(value) and not counted:
            self.returns.append(value)
            self.episodes = self.episodes + 1 if index is None else max(self.episodes, index + 1)
        if finite(value) and (self.best is None or value > self.best[0]):
            self.best, self.best_length = (value, index), episode["episode_length"]
        if episode["episode_length"] is not None:
            self.lengths.append(episode["episode_length"])
        if (succeeded := success(episode)) is not None:
            self.successes.append(succeeded)

    def draw(self) -> Drawn:
        newest = list(self.returns)[-WINDOW:]
        texts = dict.fromkeys((f"{kind}.{key}" for key in CELLS for kind in ("number", "note")), "")
        if newest:
            texts["number.return"] = form.number(_mean(newest))
            texts["note.return"] = self._trend(newest)
        if self.lengths:
            texts["number.length"] = form.number(round(_mean(self.lengths), 1))
            texts["note.length"] = f"{form.compact(self.episodes)} episodes"
        if self.successes:
            texts["number.success"] = f"{100 * _mean(self.successes):.0f} %"
            texts["note.success"] = f"of {len(self.successes)}"
        texts["number.steps"] = form.compact(self.seen)
        texts["note.steps"] = f"{form.rate(self.rate)} steps/s" if self.rate and self._going else ""
        texts["agent.acts"] = "yes" if self._acts else "no"
        progress = self._progress()
        texts["numbers.look"] = "" if self._acts or progress or self.own else "display: none"
        return texts | self._best() | progress | self._own()

    @property
    def _going(self) -> bool:
        return self.run.get("status") == "running"

    def _trend(self, newest: list[float]) -> str:
        """Against the hundred episodes before."""
        before = list(self.returns)[:-WINDOW]
        if len(before) < WINDOW // 5:
            return ""
        change = _mean(newest) - _mean(before)
        return f"{'▲' if change > 0 else '▼' if change < 0 else '='} {form.number(abs(change))} "

    def _best(self) -> dict[str, str]:
        if self.best is None:
            return {"best": "", "best.patch": ""}
        value, index = self.best
        words = f"best {form.number(value)}"
        if index is not None:
            words += f" in episode {int(index)}"
        if self.best_length is not None:
            words += f", {form.compact(self.best_length)} steps"
        patch = "" if index is None else patched(episode=int(index), table="steps", at=None, step=None)
        return {"best": words, "best.patch": patch}

    def _own(self) -> dict[str, Any]:
        shown, chosen, names = self._shown, self._chosen, sorted(self.own)
        drawn: dict[str, Any] = {"own.some": "yes" if names else ""}
        for i in range(MOST_OWN):
            name = shown[i] if i < len(shown) else ""
            drawn[f"own.{i}.name"] = name
            drawn[f"own.{i}"] = form.number(self.own.get(name, ("metrics", None))[1]) if name else ""
        if (names, chosen) != self.offered:
            before, self.offered = self.offered, (names, chosen)
            drawn["own-numbers"] = {"options": [{"value": name, "label": name} for name in names]}
            if chosen != before[1]:  # a value that is set calls back, also the same
                drawn["own-numbers"]["value"] = chosen
        return drawn

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
    parts = [html.Dt(text), live(f"number.{key}", html.Dd, "", id=f"number-{key}")]
    notes: list[Component] = [live(f"note.{key}", text="")]
    if key == "return":
        notes.append(html.A("", href="#agent", id="best", **live_attr(text="best", data_patch="best.patch")))
    some = live_attr(data_some=f"number.{key}")
    return html.Div([*parts, html.Small(notes)], title=title, className=f"number of-{key}", **some)


def _own_cell(i: int) -> Component:
    name = html.Dt("", **live_attr(text=f"own.{i}.name", title=f"own.{i}.name"))
    value = live(f"own.{i}", html.Dd, "")
    return html.Div([name, value], className="number own-number", **live_attr(data_some=f"own.{i}"))


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
