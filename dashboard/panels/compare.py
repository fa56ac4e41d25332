"""Runs beside each other: their curves over one axis, alone or in groups, and where their settings differ."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

import numpy as np
from dash import html
from dash.development.base_component import Component

from dashboard import charts, form, groups
from dashboard.address import chosen_runs, run_link
from dashboard.axes import X_TITLES
from dashboard.controls import select
from dashboard.groups import Band
from dashboard.live.news import finite
from dashboard.panel import Drawn, History, News, Panel, attrs
from dashboard.panels.config import flat
from dashboard.panels.training import reward_of, trained
from dashboard.sql.queries import Queries
from infra.history.curves import AXES, SMOOTHINGS, Axis, Curve, Smoothing, reduce
from infra.history.series import Series
from schemas.errors import StepstreamError

RETURN = "return"
"""What is compared where the address names no metric."""
SMOOTH = "mean:100"
RELOAD_S = 3.0
TRAINING = "training"
"""The axis of a language model's training steps: y is the mean reward of their samples."""
TITLES = X_TITLES | {TRAINING: "Training step"}
PIXELS = 400
EACH = Smoothing("mean", 1)
"""Every n-th value as it is: groups are made of these, not of extremes."""
TONES = 6
"""Colours of the theme; after these the lines are dashed in another way."""
DASHES = ("solid", "dash", "dot", "dashdot")
FILLS = ("86,160,210", "220,130,40", "0,160,110", "190,110,155", "215,130,30", "130,170,120")
"""Red, green and blue of the bands: near the lines' colours of both themes."""
FEW = 8
"""Keys of a configuration that a group's label names, at most."""


class Compared:
    """One of the runs: its row in SQL, and its curve."""

    def __init__(self, run_id: str, row: dict[str, Any] | None, names: list[str]) -> None:
        self.run_id, self.row, self.names = run_id, row, names
        self.name = str((row or {}).get("name") or run_id)
        self.config = flat((row or {}).get("config"))
        self.settled = bool(self.config)
        """Whether it has named a configuration."""
        for key, column in (("algorithm", "algorithm"), ("environment", "env_id")):
            if value := (row or {}).get(column):
                self.config[key] = str(value)
        self.curve = Curve()
        self.training: list[dict[str, Any]] = []
        """Its training steps, where it has rollouts of a language model."""

    @property
    def newest(self) -> float | None:
        """The last value of its line, smoothed where it is."""
        return self.curve.mean[-1] if self.curve.mean else None


class Line:
    """One line of the chart, one row of the table: a run, or a group of runs."""

    def __init__(self, runs: list[Compared]) -> None:
        self.runs = runs
        self.label = runs[0].name
        self.band: Band | None = None

    def value(self, key: str) -> str:
        """A setting, where all of its runs have the same."""
        values = {run.config.get(key, "–") for run in self.runs}
        return values.pop() if len(values) == 1 else "various"

    def average(self) -> None:
        """Work out the band; where the runs have no part of x in common there is none."""
        if len(self.runs) > 1:
            strata = [run.config.get("environment", "") for run in self.runs]
            self.band = groups.band([run.curve for run in self.runs], strata)


class Compare(Panel):
    """The curves, a legend that is a table, and the settings that differ."""

    title, every, width, of_run = "Compare", 1.0, 12, True

    def reset(self) -> None:
        self.runs: list[Compared] = []
        self.lines: list[Line] = []
        self.read = False
        self.shape: Any = None
        """What the choices offer: they are drawn again only where that has changed."""
        self.going: set[str] = set()
        self.asked: Any = None
        self.next_read = 0.0
        self.history: History | None = None
        self.task: asyncio.Task[None] | None = None

    def layout(self) -> Component:
        return html.Div(
            [
                html.Div(
                    html.P("Reading the runs", className="none muted"),
                    id="compare-bar",
                    className="table-bar",
                ),
                html.Section(charts.graph("compare-chart", height=420), className="card"),
                html.Section(id="compare-table", className="card"),
            ],
            className="compare",
        )

    @property
    def series(self) -> str:
        """`return`, or the name of a metric."""
        return self.address.get("of", RETURN)

    @property
    def axis(self) -> Axis | Literal["training"]:
        """What x is; the episode by default, a metric's step."""
        named = self.address.get("x")
        if named == TRAINING and self.series == RETURN:
            return "training"
        return next((axis for axis in AXES if axis == named), self._default_axis)

    @property
    def _default_axis(self) -> Axis:
        return "episode" if self.series == RETURN else "step"

    @property
    def smoothing(self) -> Smoothing:
        """How the lines are smoothed."""
        return Smoothing.read(self.address.get("smooth", SMOOTH))

    @property
    def group(self) -> str:
        """What groups are made by: `seed` (all but it), `none` or a key."""
        return self.address.get("group", groups.default())

    async def load(self, history: History) -> None:
        asked = (self._wanted(), self.series, self.axis, self.smoothing, self.group)
        if asked == self.asked:
            return  # another part of the address has changed
        self.asked, self.history, self.next_read = asked, history, time.monotonic() + RELOAD_S
        self.runs = await asyncio.gather(*(self._run(history.queries, name) for name in self._wanted()))
        self.lines = await asyncio.to_thread(self._lines)
        self.read = self.dirty = True

    def take(self, news: News) -> None:
        """Running ones are read again after a while."""
        for row in news.runs:
            (self.going.add if row["status"] == "running" else self.going.discard)(row["run_id"])
        due = self.history is not None and time.monotonic() > self.next_read
        if due and self.history is not None and self.going.intersection(self._wanted()):
            self.next_read = time.monotonic() + RELOAD_S
            self.task = asyncio.ensure_future(self._again(self.history))

    def draw(self) -> Drawn:
        if not self.read:
            return {}
        drawn = {"compare-chart": {"figure": self._figure()}, "compare-table": {"children": self._table()}}
        names = sorted({name for run in self.runs for name in run.names} | {self.series} - {RETURN})
        chosen = (self.series, self.axis, self.smoothing, self.group)
        shape = (names, self._differing(), self._trained(), *chosen)
        if shape != self.shape:
            drawn["compare-bar"] = {"children": self._bar(names)}
            self.shape = shape
        return drawn

    def _wanted(self) -> list[str]:
        return chosen_runs(self.address)

    async def _again(self, history: History) -> None:
        self.asked = None
        try:
            await self.load(history)
        except StepstreamError:  # the page says already that SQL is away
            return
        self.wake()

    async def _run(self, queries: Queries, run_id: str) -> Compared:
        header = await queries.run(run_id)
        found = Compared(run_id, header.run if header else None, await queries.names(run_id, "metrics"))
        if header is None:
            return found
        found.training = await queries.training_steps(run_id)
        smoothing = self.smoothing if self.smoothing.text else EACH
        if self.axis == "training":
            found.curve = by_training(found.training, smoothing)
        else:
            found.curve = await queries.minmax(self._series(run_id, self.axis), None, None, PIXELS, smoothing)
        return found

    def _lines(self) -> list[Line]:
        whole = self.group == groups.SEED
        configs = [run.config if run.settled or not whole else {} for run in self.runs]
        places = groups.grouped(configs, self.group)
        lines = [Line([self.runs[place] for place in group]) for group in places]
        differing = self._differing()
        for line in lines:
            line.average()
            if len(line.runs) > 1:
                line.label = self._label(line, differing)
        return [one for line in lines for one in _drawable(line)]

    def _label(self, line: Line, differing: list[str]) -> str:
        named = [self.group] if self.group != groups.SEED else differing
        said = [f"{key}={line.value(key)}" for key in named if not groups.is_seed(key)]
        return ", ".join(said[:FEW]) or "all runs"

    def _trained(self) -> bool:
        """Whether one of them has training steps."""
        return any(run.training for run in self.runs)

    def _differing(self) -> list[str]:
        """Keys in which the runs differ."""
        known = [run for run in self.runs if run.row is not None]
        keys = sorted({key for run in known for key in run.config})
        return [key for key in keys if len({run.config.get(key) for run in known}) > 1]

    def _series(self, run_id: str, axis: Axis) -> Series:
        if self.series == RETURN:
            return Series(run_id, "episodes", "episode_return", None, axis)
        return Series(run_id, "metrics", self.series, None, axis)

    def _bar(self, metrics: list[str]) -> list[Component]:
        offered = {RETURN: "Return per episode"} | {name: name for name in metrics}
        by = {groups.SEED: "All but the seed", groups.NONE: "No groups"}
        settings = {key: key for key in self._differing()}
        axes = TITLES if self.series == RETURN and self._trained() else X_TITLES
        return [
            _select("of", "Compare", offered, self.series, RETURN),
            _select("x", "by", axes, self.axis, self._default_axis),
            _select("group", "Groups", by | settings, self.group, groups.default()),
            _select("smooth", "Smoothing", SMOOTHINGS, self.smoothing.text or "none", SMOOTH),
        ]

    def _figure(self) -> charts.Figure:
        lines = [self._line(place, line) for place, line in enumerate(self.lines)]
        areas = [
            charts.area(line.band.x, line.band.low, line.band.high, f"rgba({FILLS[place % TONES]},0.2)")
            for place, line in enumerate(self.lines)
            if line.band is not None
        ]
        layout = charts.line_layout(420, TITLES[self.axis], self.series)
        layout["xaxis"]["type"] = "date" if self.axis == "time" else "linear"
        layout["annotations"] = [charts.note(self._said(bool(areas)))]
        return {"data": lines + areas, "layout": layout}

    def _said(self, bands: bool) -> str:
        """How the lines were made."""
        words = ["interquartile mean, 95 % bootstrap interval"] if bands else []
        words += [self.smoothing.words] if self.smoothing.text else []
        words += ["a sample, reading the rest"] if any(run.curve.sampled for run in self.runs) else []
        return " · ".join(words)

    def _line(self, place: int, of: Line) -> charts.Figure:
        curve = of.runs[0].curve
        x, y = (curve.mean_x, curve.mean) if self.smoothing.text else (curve.x, curve.y)
        if of.band is not None:
            x, y = of.band.x, of.band.y
        line = charts.line(x, y, of.label)
        line["line"] |= {"dash": DASHES[place // TONES % len(DASHES)]}
        line["meta"] = self.runs.index(of.runs[0]) if len(of.runs) == 1 else -1  # for a click
        return line | {"hovertemplate": f"%{{y:.5~g}} {charts.plain(of.label)}<extra></extra>"}

    def _table(self) -> Component:
        grouped = any(line.band for line in self.lines)
        differs = self._differing()
        head = ["", "Group" if grouped else "Run", *(["n"] if grouped else []), "Status", "Episodes", "Last"]
        rows = [self._row(place, line, differs, grouped) for place, line in enumerate(self.lines)]
        return html.Table(
            [html.Thead(html.Tr([html.Th(word) for word in head + differs])), html.Tbody(rows)],
            className="config",
        )

    def _row(self, place: int, line: Line, differs: list[str], grouped: bool) -> Component:
        key = html.I(className="line-key", **attrs(data_tone=str(place % TONES)))
        count = [str(len(line.runs))] if grouped else []
        known = [run.row for run in line.runs if run.row is not None]
        if not known:
            return html.Tr(
                [html.Td(key), html.Td(_named(line)), html.Td("unknown", colSpan=4 + len(differs))]
            )
        statuses = ", ".join(sorted({str(row["status"]) for row in known}))
        episodes = form.compact(sum(row["episodes"] for row in known))
        cells = [*count, statuses, episodes, _last(line), *(line.value(word) for word in differs)]
        return html.Tr([html.Td(key), html.Td(_named(line)), *map(html.Td, cells)])


def by_training(steps: list[dict[str, Any]], smoothing: Smoothing) -> Curve:
    """The mean reward of each training step; of evaluations where nothing was trained."""
    found = {step["training_step"]: reward_of(step)[1] for step in trained(steps) if step["samples"]}
    x, y = np.array([point for point in found.items() if finite(point[1])], np.float64).reshape(-1, 2).T
    return reduce(x, y, 2 * PIXELS, smoothing.of(y))


def _drawable(line: Line) -> list[Line]:
    """A group; its runs one by one, where no part of x is common to them."""
    return [line] if line.band is not None or len(line.runs) == 1 else [Line([run]) for run in line.runs]


def _named(line: Line) -> Component:
    """A run's name; a group's, which opens to those of its runs."""
    links = [html.A(run.name, href=run_link(run.run_id)) for run in line.runs]
    if len(links) == 1:
        return links[0]
    return html.Details([html.Summary(line.label), *(html.Div(link) for link in links)])


def _last(line: Line) -> str:
    """The newest value; of a group with its interval."""
    if line.band is None:
        return form.number(line.runs[0].newest)
    low, high = form.number(line.band.low[-1]), form.number(line.band.high[-1])
    return f"{form.number(line.band.y[-1])} ({low} to {high})"


def _select(name: str, label: str, values: dict[str, str], chosen: str, default: str) -> Component:
    return select(name, label, values, chosen, default=default, of="compare")
