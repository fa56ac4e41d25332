"""Two of the compared runs side by side at one moment: at the same step, episode, time or task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import dash_bootstrap_components as dbc
from dash import dcc, html
from dash.development.base_component import Component

from dashboard import form
from dashboard.address import Address, chosen_runs, run_link
from dashboard.controls import option, select
from dashboard.live.news import finite
from dashboard.panel import Drawn, History, News, Panel
from dashboard.panels.frame import grid_of, picture
from dashboard.time.past import Pasts
from infra.history import moment
from infra.history.finder import OutsideError
from infra.history.moment import State
from schemas import positions as at
from schemas.errors import StepstreamError
from schemas.positions import Position

ALIGN = {
    "step": "the same step of the run",
    "episode": "the same episode",
    "time": "the same time since the start",
    "training": "the same training step",
    "task": "the same first observation: prompt or task",
}
BY_AXIS = {"episode": "episode", "relative": "time", "time": "time", "training": "training"}
"""What is aligned where the address does not say: what the chart's x axis is."""
SIDES = ("left", "right")
STEPS = 8
MEAN_OF = 100


class Span(NamedTuple):
    """How far a run reaches along what is aligned."""

    last: int
    start: int
    """Event time of its first record, µs."""


class Side:
    """One of the two runs."""

    def __init__(self, run_id: str) -> None:
        self.run_id, self.name, self.agent, self.said = run_id, run_id, "", ""
        self.span = Span(0, 0)
        self.tasks: dict[str, int] = {}
        """First observation of an episode → the first such episode."""
        self.trained: list[tuple[int, int]] = []
        """Its training steps, each with the event time of its first rollout, µs."""
        self.state: State | None = None
        self.picture: list[Component] = []
        """Of the step, or why there is none."""

    @property
    def newest(self) -> dict[str, Any]:
        """The step that is shown; empty: none."""
        return self.state.steps[-1] if self.state and self.state.steps else {}


class Beside(Panel):
    """A slider, and beside each other what each run was when it had come there."""

    title, every, width, of_run = "Side by side", 0.05, 12, True

    def reset(self) -> None:
        self.sides: list[Side] = []
        self.tasks: list[tuple[int, int]] = []
        """Episodes of both runs that begin alike."""
        self.key: Any = None
        self.shown: Any = None

    def layout(self) -> Component:
        both = [html.Section(id=f"beside-{side}", className="card beside-side") for side in SIDES]
        return html.Section(
            [
                html.Div(html.H3(self.title), className="panel-head"),
                html.Div(id="beside-bar", className="table-bar"),
                html.Div(both, className="beside-sides"),
            ],
            id="beside",
            className="beside",
        )

    @property
    def align(self) -> str:
        """What both have in common."""
        named = self.address.get("align")
        return named if named in ALIGN else self._default_align

    @property
    def _default_align(self) -> str:
        return BY_AXIS.get(self.address.get("x", "episode"), "step")

    @property
    def along(self) -> float:
        """How far along it is."""
        return number(self.address.get("along"))

    async def load(self, history: History) -> None:
        wanted = _pair(self.address)
        key = (wanted, self.align)
        if key != self.key:
            self.sides = list(await asyncio.gather(*(self._opened(history, run_id) for run_id in wanted)))
            self.tasks = _in_common(*(side.tasks for side in self.sides)) if len(wanted) == len(SIDES) else []
            self.key, self.shown = key, None
        shift = number(self.address.get("shift"))
        await asyncio.gather(*(self._read(history.pasts, i, shift * i) for i in range(len(self.sides))))
        self.dirty = True
        self.wake()  # numbers do not wait for pictures, which may come from Kafka
        await asyncio.gather(*(_illustrate(history.pasts, side) for side in self.sides))
        self.dirty = True

    def take(self, news: News) -> None:
        """Nothing of it is news."""

    def draw(self) -> Drawn:
        if len(self.sides) < len(SIDES):
            return {}
        runs = chosen_runs(self.address)
        places = {run_id: place for place, run_id in enumerate(runs)}
        drawn = {
            f"beside-{name}": {"children": _side(side), "data-run": places.get(side.run_id, -2)}
            for name, side in zip(SIDES, self.sides, strict=True)
        }
        if self.shown != self.key:
            self.shown = self.key
            drawn["beside-bar"] = {"children": self._bar()}
        return drawn

    async def _opened(self, history: History, run_id: str) -> Side:
        queries = history.queries
        side, header = Side(run_id), await queries.run(run_id)
        if header is None:
            side.said = "SQL does not know this run."
            return side
        side.name = str(header.run.get("name") or run_id)
        agents = await queries.agents(run_id)
        side.agent = str(agents[0]["agent_id"]) if agents else ""
        past, align = await history.pasts.fresh(run_id, 0.0), self.align
        side.span = await past.read(lambda: _span(past.history, align))
        if align == "training":
            side.trained = await past.read(past.history.training_steps)
        if self.align == "task":
            side.tasks = await queries.first_observations(run_id, side.agent)
        return side

    async def _read(self, pasts: Pasts, place: int, shift: float) -> None:
        side = self.sides[place]
        side.picture = []
        position = self._position(side, place, shift)
        if not side.agent or position is None:
            return
        try:
            past = await pasts.of(side.run_id)
            side.state = await past.read(lambda: past.history.state(position, side.agent, STEPS))
            side.said = ""
        except OutsideError as error:
            side.state, side.said = None, str(error)

    def _position(self, side: Side, place: int, shift: float) -> Position | None:
        here = self.along + shift
        if self.align == "task":
            if not self.tasks:
                side.said = "No episode of the two begins with the same observation."
                return None
            return Position(at.Episode(self.tasks[min(int(self.along), len(self.tasks) - 1)][place]))
        if self.align == "training":
            reached = [time for step, time in side.trained if step >= here]
            side.said = "" if side.trained else "This run has no training steps."
            return Position(at.Time(reached[0]) if reached else at.End()) if side.trained else None
        if self.align == "time":
            return Position(at.Time(side.span.start + round(here * 1e6)))
        return Position((at.Step if self.align == "step" else at.Episode)(max(0, int(here))))

    def _bar(self) -> list[Component]:
        runs = {run_id: run_id for run_id in chosen_runs(self.address)}
        last = len(self.tasks) - 1 if self.align == "task" else max(side.span.last for side in self.sides)
        shift, (left, right) = self.address.get("shift", "0"), self.sides
        return [
            select("left", "Left", runs, left.run_id, default=next(iter(runs))),
            select("right", "Right", runs, right.run_id, default=_other(runs, left.run_id)),
            select("align", "At", ALIGN, self.align, default=self._default_align),
            option(
                "shift",
                "Right is later by",
                dbc.Input(id="beside-shift", value=shift, size="sm", debounce=True),
                "0",
            ),
            option(
                "along",
                f"0 to {max(last, 0):,}{' s' if self.align == 'time' else ''}",
                dcc.Input(
                    id="beside-along",
                    type="range",
                    min=0,
                    max=max(last, 0),
                    step=1,
                    value=min(self.along, max(last, 0)),
                    className="form-range",
                ),
                "0",
                "option beside-along",
            ),
        ]


def _pair(address: Address) -> list[str]:
    """The two that are looked at: those that the address names, else the first two."""
    runs = chosen_runs(address)
    left = address.get("left") or (runs[0] if runs else "")
    right = address.get("right") or _other(runs, left)
    return [run_id for run_id in (left, right) if run_id]


def _other(runs: Iterable[str], left: str) -> str:
    return next((run for run in runs if run != left), "")


def number(text: str) -> float:
    """A number of the address; 0 where it is none."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if finite(value) and abs(value) < 1e12 else 0.0


def _span(history: moment.History, align: str) -> Span:
    index = history.index
    first = index.moment(dict.fromkeys(index.streams, 0), index.streams)
    start = first[0] if first else 0
    if align == "time":
        return Span(max(0, (index.newest_time - start) // 1_000_000), start)
    if align == "training":
        return Span(max((step for step, _ in history.training_steps()), default=0), start)
    if align == "episode":
        newest = (blocks.episodes[-1] for blocks in index.streams.values() if blocks.episodes)
        return Span(max(newest, default=0), start)
    return Span(max(0, index.steps - 1), start)


def _in_common(left: dict[str, int], right: dict[str, int]) -> list[tuple[int, int]]:
    return sorted((episode, right[text]) for text, episode in left.items() if text in right)


def _side(side: Side) -> list[Component]:
    state = side.state
    there = {"agent": side.agent, "at": _position(state)} if state else {}
    link = html.A(side.name, href=run_link(side.run_id, **there))
    head = html.Div(html.H3(link), className="panel-head")
    if state is None:
        return [head, html.P(side.said or "This run has no agent yet.", className="none muted")]
    rows = [html.Div([html.Dt(word), html.Dd(value)]) for word, value in _facts(state, side.newest).items()]
    frame = html.Div(side.picture, className="frame")
    return [head, frame, html.Dl(rows, className="now beside-facts")]


def _position(state: State) -> str:
    """The moment in the words of `at=` and of replay's `--from` and `--to`."""
    return f"step:{state.step - 1}" if state.step else "beginning"


def _facts(state: State, newest: dict[str, Any]) -> dict[str, str]:
    returns = [value for _, value in state.returns]
    tail = returns[-MEAN_OF:]
    moment = None if state.moment is None else state.moment[0] / 1000
    episode = newest.get("episode_index")
    return {
        "Step": f"{state.step - 1:,}" if state.step else form.NONE,
        "Position": _position(state),
        "Episode": form.NONE if episode is None else f"{episode:,}",
        "Action": form.line(newest.get("action"), 80),
        "Reward": form.number(newest.get("reward")),
        "Newest return": form.number(returns[-1] if returns else None),
        f"Mean of {len(tail)}": form.number(sum(tail) / len(tail) if tail else None),
        "Best": form.number(max(returns) if returns else None),
        "Episodes": form.compact(state.run.episodes),
        "Observation": form.line(newest.get("observation"), 200),
        "When": form.clock(moment),
    }


async def _illustrate(pasts: Pasts, side: Side) -> None:
    """Give a side the picture of its step: its grid, else Kafka's."""
    if not (newest := side.newest):
        return
    if (drawn := grid_of(newest.get("extras"))) is not None:
        side.picture = [picture(drawn)]
        return
    found = None
    with suppress(StepstreamError):
        found = await pasts.frames.of(side.run_id, newest["stream_id"], newest["seq"])
    if found is None or found.frame is None:
        side.picture = [html.P(found.said if found else "No picture of this step can be read now.")]
        return
    side.picture = [picture(found.frame), html.P(found.caption(newest["step_index"]), className="of")]
