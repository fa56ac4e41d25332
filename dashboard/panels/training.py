"""How the training of a language model goes: numbers of its last step, and charts over all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2s
from typing import Any, NamedTuple

from dash import html
from dash.development.base_component import Component

from dashboard import charts, form
from dashboard.panel import Drawn, History, News, Panel, attrs, live, live_attr
from dashboard.visible import plain
from schemas.errors import StepstreamError

LOOK_S = 0.5
REST_S = 3.0
MOST_CHARTS = 24
SPLITS = ("train", "eval", "")
HEIGHT = 190
CELLS = {
    "reward": ("Reward", "Mean reward of the last training step"),
    "samples": ("Samples", "Rollouts of this run that count"),
    "length": ("Answer length", "Mean output tokens of a rollout of the last training step"),
    "truncated": ("Truncated", "Rollouts of the last training step that were cut off"),
    "signal": ("No signal", "Groups of the last training step whose rewards are all equal"),
    "staleness": (
        "Staleness",
        "Training steps since the version of the policy that began a rollout, mean of the last step",
    ),
}

Step = Mapping[str, Any]


class Drawing(NamedTuple):
    """A chart over the training step: its name, and its value of one step."""

    name: str
    value: Callable[[Step], float | None]

    @property
    def id(self) -> str:
        """Of its graph."""
        return f"training-{blake2s(self.name.encode(errors='replace'), digest_size=6).hexdigest()}"


class Training(Panel):
    """Big numbers and charts, where the run has rollouts; nothing where it has none."""

    title, every, width, of_run = "Training", 0.5, 12, True

    def reset(self) -> None:
        self.steps: list[dict[str, Any]] = getattr(self, "steps", [])
        self.going, self.there = True, False
        self.charts: list[tuple[str, tuple[str, ...]]] = getattr(self, "charts", [])
        """What the page has: it stays when everything is told anew."""
        self.dirty = bool(self.steps)

    def layout(self) -> Component:
        cells = [_cell(key, text, title) for key, (text, title) in CELLS.items()]
        numbers = html.Dl(cells, className="numbers", **attrs(aria_label="Numbers of the training"))
        parts = [
            html.Section(numbers, className="card numbers-card"),
            html.Div(id="training-charts", className="small-charts"),
        ]
        return html.Div(parts, className="training", **live_attr(data_some="training.there"))

    def take(self, news: News) -> None:
        if news.run is not None:
            self.there = bool(news.run.get("rollouts"))
        if news.going is not None:
            self.going = news.going

    async def load(self, history: History) -> None:
        """Poll SQL until the page is closed."""
        while True:
            steps = self.steps
            if self.there:
                with suppress(StepstreamError):  # the page says already that SQL is away
                    steps = await history.queries.training_steps(history.run_id, fresh=True)
            if steps != self.steps:
                self.steps, self.dirty = steps, True
                self.wake()
            await asyncio.sleep(LOOK_S if self.going else REST_S)

    def draw(self) -> Drawn:
        if not self.steps:
            return {"training.there": ""}
        drawn: dict[str, Any] = {"training.there": "yes"} | numbers(self.steps)
        found = drawings(self.steps)
        lines = {one: _lines(self.steps, one) for one in found}
        shapes = [(one.id, tuple(split for split, _, _ in lines[one])) for one in found]
        if shapes != self.charts:
            self.charts = shapes
            cards = [_card(one, [split for split, _, _ in lines[one]]) for one in found]
            drawn["training-charts"] = {"children": cards}
        return drawn | {one.id: charts.drawn(*((x, y) for _, x, y in lines[one])) for one in found}


def functions(steps: Iterable[Step]) -> list[str]:
    """Names of the reward functions of a run, in order."""
    return sorted({name for step in steps for name in step["rewards"] or ()})


def last_step(steps: Sequence[Step]) -> Step:
    """The last training step; of an evaluation where nothing was trained."""
    return trained(steps)[-1]


def trained(steps: Sequence[Step]) -> Sequence[Step]:
    """The steps of a training; of evaluations where nothing was trained."""
    return [step for step in steps if step["split"] != "eval" and step["samples"]] or steps


def reward_of(step: Step) -> tuple[str, float | None]:
    """The mean reward of a step; where its files have no total, that of its first function, with its name."""
    if step["reward"] is not None:
        return "", step["reward"]
    return next(iter(sorted((step["rewards"] or {}).items())), ("", None))


def learning(steps: Sequence[Step], points: int = 40) -> dict[str, Any]:
    """What the list of runs says of a training: its rewards over the steps, and that of the last one."""
    rewards = [
        value for step in steps if step["split"] != "eval" and (value := reward_of(step)[1]) is not None
    ]
    if not rewards:
        return {}
    return {"curve": rewards[:: -(-len(rewards) // points)], "mean_return": rewards[-1]}


def numbers(steps: Sequence[Step]) -> dict[str, str]:
    """The texts of the big numbers and of the notes beside them."""
    last = last_step(steps)
    name, reward = reward_of(last)
    before = [reward_of(step)[1] for step in steps if step["split"] == last["split"] and step is not last]
    samples, count = sum(step["samples"] for step in steps), last["samples"]
    texts = dict.fromkeys((f"{kind}.training-{key}" for key in CELLS for kind in ("number", "note")), "")
    if reward is not None:
        texts["number.training-reward"] = form.number(reward)
        texts["note.training-reward"] = " · ".join(
            filter(None, [plain(name)[:40], _change(reward, before), f"step {last['training_step']}"])
        )
    texts["number.training-samples"] = form.compact(samples)
    texts["note.training-samples"] = f"{count:,} in step {last['training_step']}"
    if last["output_tokens"] is not None:
        texts["number.training-length"] = form.compact(round(last["output_tokens"]))
        texts["note.training-length"] = "tokens"
    if count:
        texts["number.training-truncated"] = f"{100 * last['truncated'] / count:.0f} %"
        texts["note.training-truncated"] = f"{last['failed']:,} failed" if last["failed"] else ""
    if count > last["groups"]:
        texts["number.training-signal"] = f"{100 * last['zero_signal_groups'] / last['groups']:.0f} %"
        texts["note.training-signal"] = f"of {last['groups']:,} groups"
    if last["staleness"] is not None:
        texts["number.training-staleness"] = form.number(round(last["staleness"], 2))
        texts["note.training-staleness"] = "steps"
    return texts


def _change(reward: float, before: Sequence[float | None]) -> str:
    """Against the step before."""
    known = [value for value in before if value is not None]
    if not known:
        return ""
    change = reward - known[-1]
    return f"{'▲' if change > 0 else '▼' if change < 0 else '='} {form.number(abs(change))}"


def drawings(steps: Sequence[Step]) -> list[Drawing]:
    """The charts of what is there."""
    found = [
        Drawing("Reward", lambda step: step["reward"]),
        *(Drawing(f"Reward: {name}", _of_function(name)) for name in functions(steps)),
        Drawing("Answer length (tokens)", lambda step: step["output_tokens"]),
        Drawing("Truncated (share)", lambda step: step["truncated"] / step["samples"]),
        Drawing("Groups without a signal (share)", _flat),
        Drawing("Turns", lambda step: step["turns"]),
        Drawing("Staleness (steps)", lambda step: step["staleness"]),
    ]
    counted = [step for step in steps if step["samples"]]
    return [one for one in found if _is_telling([one.value(step) for step in counted], one.name)][
        :MOST_CHARTS
    ]


def _flat(step: Step) -> float | None:
    return step["zero_signal_groups"] / step["groups"] if step["samples"] > step["groups"] else None


def _of_function(name: str) -> Callable[[Step], float | None]:
    return lambda step: (step["rewards"] or {}).get(name)


def _is_telling(values: Iterable[float | None], name: str) -> bool:
    """Rewards always are; of the others a line that is always 0, or always one turn, is none."""
    known = {value for value in values if value is not None}
    return (
        bool(known)
        if name.startswith("Reward")
        else bool(known - {0.0} - ({1.0} if name == "Turns" else set()))
    )


def _lines(steps: Sequence[Step], one: Drawing) -> list[tuple[str, list[int], list[float]]]:
    """A line for each split that has values: its name, x and y."""
    found = []
    for split in SPLITS:
        mine = [step for step in steps if step["split"] == split and step["samples"]]
        points = [(step["training_step"], value) for step in mine if (value := one.value(step)) is not None]
        if points:
            found.append((split, [x for x, _ in points], [y for _, y in points]))
    return found


def _card(one: Drawing, splits: Sequence[str]) -> Component:
    names = [split or "all" for split in splits]
    graph = charts.graph(one.id, len(splits), HEIGHT, x_title="Training step", names=names, dots=True)
    keys = [
        html.Small(
            [html.Span(className="line-key", **attrs(data_tone=str(i))), f" {split}"], className="muted"
        )
        for i, split in enumerate(splits)
        if split
    ]
    head = html.Div(
        [html.H3(plain(one.name), title=plain(one.name)), html.Span(className="flex-fill"), *keys],
        className="panel-head",
    )
    box = html.Div(graph, role="img", **attrs(aria_label=f"{plain(one.name)} over the training step"))
    return html.Section([head, box], className="card training-chart")


def _cell(key: str, text: str, title: str) -> Component:
    number = live(f"number.training-{key}", html.Dd, "", id=f"training-number-{key}")
    parts = [html.Dt(text), number, live(f"note.training-{key}", html.Small, "")]
    some = live_attr(data_some=f"number.training-{key}")
    return html.Div(parts, title=title, className=f"number {key}", **some)
