"""Runs beside each other: their curves over one axis, and where their configurations differ."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import dash_bootstrap_components as dbc
from dash import html
from dash.development.base_component import Component

from dashboard import charts, form
from dashboard.address import Address, run_link
from dashboard.panel import Drawn, History, News, Panel, attrs
from dashboard.panels.config import flat
from dashboard.sql.queries import Queries
from infra.history.curves import AXES, SMOOTHINGS, Axis, Curve, Smoothing
from infra.history.series import Series
from schemas.errors import StepstreamError

MAX_RUNS = 100
RETURN = "return"
"""What is compared where the address names no metric."""
SMOOTH = "mean:100"
RELOAD_S = 3.0
PIXELS = 400
TONES = 6
"""Colours of the theme; after these the lines are dashed in another way."""
DASHES = ("solid", "dash", "dot", "dashdot")


def chosen_runs(address: Address) -> list[str]:
    """The runs that an address compares, each once, at most a hundred."""
    values = address.all("runs")
    named = values if len(values) > 1 else "".join(values).split(",")
    return list(dict.fromkeys(filter(None, named)))[:MAX_RUNS]


def compare_link(run_ids: list[str]) -> str:
    """The link to the page of these runs: `?runs=A,B`, or one part each where an id has a comma."""
    if any("," in run_id for run_id in run_ids):
        return Address("/compare").to(runs=run_ids)
    return Address("/compare").to(runs=",".join(run_ids)).replace("%2C", ",")


class Compared:
    """One of the runs: its row in SQL, and its curve."""

    def __init__(self, run_id: str, row: dict[str, Any] | None, names: list[str]) -> None:
        self.run_id, self.row, self.names = run_id, row, names
        self.name = str((row or {}).get("name") or run_id)
        self.config = flat((row or {}).get("config"))
        self.curve = Curve()

    @property
    def newest(self) -> float | None:
        """The last value of its line, smoothed where it is."""
        line = self.curve.mean or self.curve.y
        return line[-1] if line else None


class Compare(Panel):
    """The curves, a legend that is a table, and the settings that differ."""

    title, every, width, of_run = "Compare", 1.0, 12, True

    def reset(self) -> None:
        self.runs: list[Compared] = []
        self.read = False
        self.shape: Any = None
        """What the choices offer: they are drawn again only where that has changed."""
        self.going: set[str] = set()
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
    def axis(self) -> Axis:
        """What x is; the episode by default, a metric's step."""
        named = self.address.get("x")
        default: Axis = "episode" if self.series == RETURN else "step"
        return next((axis for axis in AXES if axis == named), default)

    @property
    def smoothing(self) -> Smoothing:
        """How the lines are smoothed."""
        return Smoothing.read(self.address.get("smooth", SMOOTH))

    async def load(self, history: History) -> None:
        self.history, self.next_read = history, time.monotonic() + RELOAD_S
        self.runs = await asyncio.gather(*(self._run(history.queries, name) for name in self._wanted()))
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
        shape = (names, self.series, self.axis, self.smoothing)
        if shape != self.shape:
            drawn["compare-bar"] = {"children": self._bar(names)}
            self.shape = shape
        return drawn

    def _wanted(self) -> list[str]:
        return chosen_runs(self.address)

    async def _again(self, history: History) -> None:
        try:
            await self.load(history)
        except StepstreamError:  # the page says already that SQL is away
            return
        self.wake()

    async def _run(self, queries: Queries, run_id: str) -> Compared:
        header = await queries.run(run_id)
        found = Compared(run_id, header.run if header else None, await queries.names(run_id, "metrics"))
        if header is not None:
            found.curve = await queries.minmax(self._series(run_id), None, None, PIXELS, self.smoothing)
        return found

    def _series(self, run_id: str) -> Series:
        if self.series == RETURN:
            return Series(run_id, "episodes", "episode_return", None, self.axis)
        return Series(run_id, "metrics", self.series, None, self.axis)

    def _bar(self, metrics: list[str]) -> list[Component]:
        offered = {RETURN: "Return per episode"} | {name: name for name in metrics}
        return [
            _select("of", "Compare", offered, self.series),
            _select("x", "by", charts.X_TITLES, self.axis),
            _select("smooth", "Smoothing", SMOOTHINGS, self.smoothing.text or "none"),
        ]

    def _figure(self) -> charts.Figure:
        lines = [self._line(place, run) for place, run in enumerate(self.runs)]
        layout = charts.line_layout(420, charts.X_TITLES[self.axis], self.series)
        layout["xaxis"]["type"] = "date" if self.axis == "time" else "linear"
        return {"data": lines, "layout": layout}

    def _line(self, place: int, run: Compared) -> charts.Figure:
        smoothed = bool(run.curve.mean)
        x, y = (run.curve.mean_x, run.curve.mean) if smoothed else (run.curve.x, run.curve.y)
        line = charts.line(x, y, run.name)
        line["line"] |= {"dash": DASHES[place // TONES % len(DASHES)]}
        return line | {"hovertemplate": f"%{{y:.5~g}} {charts.plain(run.name)}<extra></extra>"}

    def _table(self) -> Component:
        known = [run for run in self.runs if run.row is not None]
        keys = sorted({key for run in known for key in run.config})
        differs = [key for key in keys if len({run.config.get(key) for run in known}) > 1]
        head = ["", "Run", "Status", "Episodes", "Last", *differs]
        rows = [self._row(place, run, differs) for place, run in enumerate(self.runs)]
        return html.Table(
            [html.Thead(html.Tr([html.Th(word) for word in head])), html.Tbody(rows)], className="config"
        )

    def _row(self, place: int, run: Compared, differs: list[str]) -> Component:
        key = html.I(className="line-key", **attrs(data_tone=str(place % TONES)))
        name = html.Td(html.A(run.name, href=run_link(run.run_id)))
        if run.row is None:
            return html.Tr([html.Td(key), name, html.Td("unknown", colSpan=3 + len(differs))])
        cells = [str(run.row["status"]), form.compact(run.row["episodes"]), form.number(run.newest)]
        cells += [run.config.get(word, "–") for word in differs]
        return html.Tr([html.Td(key), name, *map(html.Td, cells)])


def _select(name: str, label: str, values: dict[str, str], chosen: str) -> Component:
    known = values if chosen in values else values | {chosen: chosen}
    options: Any = [{"value": value, "label": words} for value, words in known.items()]
    field = dbc.Select(id=f"compare-{name}", options=options, value=chosen, size="sm")
    return html.Label([html.Span(label), field], className="option", **attrs(data_address=name))
