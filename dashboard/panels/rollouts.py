"""The table of a run's rollouts: every sample out of SQL, new ones as they are stored.

The address has all of its state: `q` (words), `sort`, `filter` (AG Grid's model), `superseded`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import dash_bootstrap_components as dbc
from dash import Dash, Input, Output, State, html, no_update
from dash.development.base_component import Component

from dashboard import controls, grids
from dashboard.address import Address
from dashboard.controls import patch, patched
from dashboard.page import Services
from dashboard.panel import Drawn, History, News, Panel, attrs, live, live_attr
from dashboard.panels.training import functions
from dashboard.sql.queries import PageRequest
from dashboard.sql.rollouts import NATURAL, REWARD, Chosen, Key, is_column
from dashboard.visible import plain
from schemas.errors import StepstreamError

GRID = "rollouts-grid"
LOOK_S = 0.25
"""Seconds between two polls of SQL while the run goes on."""
REST_S = 2.0
MOST_FUNCTIONS = 30
SOMETIMES = ("reward", "output_tokens", "staleness")
_TEXT = {"filter": "agTextColumnFilter"}
_NUMBER = {"filter": "agNumberColumnFilter", "type": "rightAligned"}


class Rollouts(Panel):
    """The table and how much it holds."""

    title, every, width, of_run = "Rollouts", 0.1, 12, True

    def reset(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.read = False
        self.made = getattr(self, "made", False)
        """Whether the page has the table: it stays when everything is told anew."""
        self.going, self.stored = True, 0
        self.shown: tuple[Any, ...] = ()
        self.view = view(self.address)
        self.columns: list[dict[str, Any]] = getattr(self, "columns", [])
        self.problem = ""

    def layout(self) -> Component:
        superseded = html.Div(
            dbc.Checkbox(id="superseded", label="Superseded", value=self.address.flag("superseded")),
            className="option",
            title="Also rollouts that a later attempt or another copy replaces",
            **attrs(data_address="superseded"),
        )
        clear = patch({"q": None, "filter": None, "sort": None}) | live_attr(hidden="rollouts.plain")
        bar = html.Div(
            [
                controls.search("q", "Search prompts, answers, tools", self.address.get("q")),
                superseded,
                html.Button("Clear filters", type="button", className="chip", **clear),
                html.Span(className="flex-fill"),
                live("rollouts.count", html.Span, "", className="muted"),
            ],
            className="table-bar",
        )
        problem = html.P(id="rollouts-problem", role="alert", className="panel-failure")
        table = html.Div(id="rollouts-table", className="rollouts-grid", **attrs(data_hold=""))
        parts = [
            bar,
            problem,
            live("rollouts.problem", html.P, "", className="panel-failure"),
            table,
            controls.held(),
        ]
        return html.Section(parts, className="card table-card", **live_attr(data_shown="rollouts.state"))

    def moved(self) -> None:
        self.dirty = True

    def take(self, news: News) -> None:
        if news.going is not None:
            self.going = news.going
        if news.counts is not None and news.counts["in_sql"] != self.stored:
            self.stored = news.counts["in_sql"]
            self.dirty = True

    async def load(self, history: History) -> None:
        """Poll SQL until the page is closed."""
        while True:
            try:
                steps = await history.queries.training_steps(history.run_id, fresh=True)
                changed, self.problem = steps != self.steps or bool(self.problem), ""
                self.steps = steps
            except StepstreamError as error:
                changed, self.problem = self.problem != str(error), str(error)
            if changed or not self.read:
                self.read = self.dirty = True
                self.wake()
            await asyncio.sleep(LOOK_S if self.going else REST_S)

    def draw(self) -> Drawn:
        if not self.read:
            return {}
        texts = {"rollouts.count": self._count(), "rollouts.problem": self.problem, "rollouts.state": "read"}
        columns, before = definitions(self.address, self.steps), self.view
        self.view = view(self.address)
        texts["rollouts.plain"] = (
            "" if any(self.view[name] for name in ("words", "sort", "filter")) else "hidden"
        )
        held = (self.stored, self.steps)
        if not self.made:
            self.made, self.columns, self.shown = True, columns, held
            return texts | {"rollouts-table": {"children": table(columns, self.view["filter"])}}
        props: dict[str, Any] = {}
        if columns != self.columns:
            self.columns = props["columnDefs"] = columns
        if self.view["filter"] != before["filter"]:
            props["filterModel"] = self.view["filter"]
        if self.view != before:
            props["api"] = ["purgeInfiniteCache"]
        elif held != self.shown:
            props["api"] = ["refreshInfiniteCache"]
        self.shown = held
        return texts | ({GRID: props} if props else {})

    def _count(self) -> str:
        samples, superseded = (sum(step[name] for step in self.steps) for name in ("samples", "superseded"))
        if not samples:
            return ""
        steps = len({step["training_step"] for step in self.steps})
        more = f", {superseded:,} superseded" if superseded else ""
        return f"{samples:,} samples of {steps:,} training step{'s' * (steps != 1)}{more}"


def view(address: Address) -> dict[str, Any]:
    """What the address says about the list. Names that are no column are left out."""
    try:
        model = json.loads(address.get("filter") or "{}")
    except (ValueError, RecursionError):
        model = {}
    by = address.get("sort")
    filters = model.items() if isinstance(model, dict) else ()
    return {
        "words": address.get("q"),
        "sort": by if is_column(by.removeprefix("-")) else "",
        "filter": {name: one for name, one in filters if is_column(name) and isinstance(one, dict)},
        "superseded": address.flag("superseded"),
    }


def chosen(address: Address) -> Chosen:
    """Which rollouts are listed."""
    return Chosen(address.run or "", address.get("q"), address.flag("superseded"))


def sorting(address: Address) -> list[dict[str, str]]:
    """AG Grid's sort model."""
    by = view(address)["sort"]
    return [{"colId": by.removeprefix("-"), "sort": "desc" if by.startswith("-") else "asc"}] if by else []


def wanted(address: Address) -> PageRequest:
    """The list's order and filters."""
    return PageRequest(sort=sorting(address), filters=view(address)["filter"])


def table(columns: list[dict[str, Any]], model: Mapping[str, Any]) -> Any:
    """The grid."""
    options = {
        "rowClassRules": {"superseded": "params.data && params.data.superseded"},
        "suppressFieldDotNotation": True,
        "blockLoadDebounceMillis": 20,
    }
    more = {"filterModel": dict(model), "eventListeners": {"cellClicked": ["stepstreamOpen(params)"]}}
    return grids.list_grid(GRID, columns, options=options, **more)


def definitions(address: Address, steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table's columns, one for each reward function among them; a click on a head sorts.

    Where no training step has a mean of a column, it is not there.
    """
    names = functions(steps)
    made: list[dict[str, Any]] = [
        _column(NATURAL, "Step", 84, "whole"),
        _column("split", "Split", 84, "word"),
        _column("group_id", "Group", 96, "word"),
        _column("sample_id", "Sample", 92, "word"),
        _column("reward", "Reward", 92, "number"),
        *(_column(REWARD + name, plain(name), 120, "number") for name in names[:MOST_FUNCTIONS]),
        _column("advantage", "Advantage", 104, "number", derived=True),
        _column("final_text", "Last answer", 280, "line"),
        _column("output_tokens", "Tokens", 88, "whole"),
        _column("turns", "Turns", 76, "whole"),
        _column("status", "Status", 96, "word"),
        _column("stop_reason", "Stop reason", 112, "word"),
        _column("staleness", "Staleness", 96, "whole"),
    ]
    empty = {name for name in SOMETIMES if steps and all(step[name] is None for step in steps)}
    made = [one for one in made if one["field"] not in empty]
    by = view(address)["sort"] or f"-{NATURAL}"
    for one in made:
        name = one["field"]
        down = by == f"-{name}"
        one["headerComponentParams"] = {
            "patch": patched(sort=name if down else f"-{name}"),
            "by": "desc" if down else "asc" if by == name else "",
        }
    return made


_FORMATS = {
    "whole": "stepstreamPlain",
    "number": "stepstreamNumber",
    "word": "stepstreamPlain",
    "line": "stepstreamLine",
}


def _column(field: str, name: str, width: int, kind: str, *, derived: bool = False) -> dict[str, Any]:
    more: dict[str, Any] = dict(_NUMBER if kind in ("whole", "number") else _TEXT)
    more |= {"headerComponent": "SortHead", "floatingFilter": True, "suppressHeaderMenuButton": True}
    more["valueFormatter"] = {"function": f"{_FORMATS[kind]}(params.value)"}
    if derived:
        more["cellClassRules"] = {"derived": "params.data && params.data.derived"}
        more["headerTooltip"] = "In italics: derived from the rewards of the group, as the file has none"
    if kind == "line":
        more |= {"flex": 1, "minWidth": width}
    return grids.column(field, name, width, **more)


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row with hidden signs visible, and what a click on it changes in the address."""
    made = {name: plain(value) if isinstance(value, str) else value for name, value in row.items()}
    key = Key(row["stream_id"], row["seq"])
    return made | {"stream_id": row["stream_id"], "patch": patched(rollout=key.name)}


def register(app: Dash, services: Services) -> None:
    """Fill the table; keep its filters in the address."""

    @app.callback(
        Output(GRID, "getRowsResponse"),
        Output("rollouts-problem", "children"),
        Input(GRID, "getRowsRequest"),
        State("url", "pathname"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    async def fill(request: dict[str, Any] | None, path: str, search: str) -> Any:
        if not request:
            return no_update, no_update
        address = Address.of((path or "/") + (search or ""))
        try:
            asked = PageRequest.of(dict(request) | {"sortModel": sorting(address)})
            page = await services.queries.rollouts(chosen(address), asked)
        except StepstreamError as error:
            return {"rowData": [], "rowCount": 0}, f"These rows cannot be shown. {error}"
        return {"rowData": [shown(row) for row in page.rows], "rowCount": page.total}, said(page, address)

    def filtered(address: Address, model: dict[str, Any] | None) -> Any:
        if (model or {}) == view(address)["filter"]:
            return no_update
        return address.search(filter=json.dumps(model) if model else None)

    controls.to_address(app, GRID, "filterModel", filtered)


def said(page: Any, address: Address) -> str:
    """What stands over the table about what is not in it."""
    if page.capped:
        return f"Sorted, filtered or searched, only the first {page.total:,} rows are shown."
    if page.total:
        return ""
    view_of = view(address)
    return "No rollout matches." if view_of["words"] or view_of["filter"] else "This run has no rollouts yet."
