"""The tables of every row: AG Grids with the infinite row model over SQL, community features only.

A grid is made when its table is looked at first, and stays: one that goes while an answer is under way
fails in the browser. Another agent or episode only empties its cache.
"""

from __future__ import annotations

from typing import Any

import dash_ag_grid
from dash import Dash, Input, Output, State, dcc, html, no_update

from dashboard import wire
from dashboard.merge import natural_index
from dashboard.queries import Page, PageRequest, Queries
from schemas.errors import StepstreamError

KINDS = ("steps", "episodes")
BLOCK = 100


def layout() -> html.Div:
    """Dash's part of the page: for each table whether it is open, what it shows, and its place."""
    return html.Div([part for kind in KINDS for part in _parts(kind)], className="history-all")


def _parts(kind: str) -> list[Any]:
    place = html.Div(id=f"history-{kind}", className="history-slot", hidden=True)
    return [dcc.Store(id=f"open-{kind}"), dcc.Store(id=f"view-{kind}"), place]


def _problem(kind: str) -> html.P:
    """Why the grid below it is empty or not whole; no text, no line."""
    return html.P(id=f"problem-{kind}", role="alert", className="history-problem")


def register(app: Dash, queries: Queries) -> None:
    """Two callbacks for each table: one makes its grid, one fills it."""
    for kind in KINDS:
        _register(app, queries, kind)


def _register(app: Dash, queries: Queries, kind: str) -> None:
    @app.callback(
        Output(f"history-{kind}", "children"), Input(f"open-{kind}", "data"), prevent_initial_call=True
    )
    async def make(_: Any) -> Any:
        return [_problem(kind), grid(kind)]

    @app.callback(
        Output(f"grid-{kind}", "getRowsResponse"),
        Output(f"problem-{kind}", "children"),
        Input(f"grid-{kind}", "getRowsRequest"),
        State(f"view-{kind}", "data"),
        prevent_initial_call=True,
    )
    async def fill(request: dict[str, Any] | None, view: dict[str, Any] | None) -> Any:
        if not request or not view:
            return no_update, no_update
        return await answer(queries, view | {"kind": kind}, request)


async def answer(
    queries: Queries, view: dict[str, Any], request: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """The grid's `getRowsResponse`, and what to say above the grid: why rows are missing, else ""."""
    try:
        page = await read(queries, view, request)
    except StepstreamError as error:
        return {"rowData": [], "rowCount": 0}, f"These rows cannot be shown. {error}"
    capped = f"Sorted or filtered so, only the first {page.total:,} rows are shown." if page.capped else ""
    return {"rowData": page.rows, "rowCount": page.total}, capped


async def read(queries: Queries, view: dict[str, Any], request: dict[str, Any]) -> Page:
    """One page of the chosen table."""
    run_id, agent_id = str(view.get("run")), view.get("agent")
    asked = PageRequest.of(request)
    index = natural_index(view.get("episode"))
    if index is not None and not asked.sort:
        asked = PageRequest(asked.start, asked.end, [{"colId": "step", "sort": "asc"}], asked.filters)
    if view.get("kind") == "episodes":
        page = await queries.episodes(run_id, agent_id, asked, index)
        return Page([wire.light(row) for row in page.rows], page.total, page.capped)
    page = await queries.steps(run_id, agent_id, asked, index)
    return Page([wire.short(row) for row in page.rows], page.total, page.capped)


def grid(kind: str) -> dash_ag_grid.AgGrid:
    """The empty grid of one kind."""
    return dash_ag_grid.AgGrid(
        id=f"grid-{kind}",
        rowModelType="infinite",
        columnDefs=EPISODES if kind == "episodes" else STEPS,
        defaultColDef={"sortable": True, "resizable": True, "filter": False, "minWidth": 64},
        columnSize=None,
        getRowId="params.data.stream_id + '/' + params.data.seq",
        dashGridOptions={
            "theme": {"function": _THEME},
            "rowHeight": 28,
            "headerHeight": 32,
            "cacheBlockSize": BLOCK,
            "maxBlocksInCache": 20,
            # with two requests at once, a block at an edge can stay blank for good
            "maxConcurrentDatasourceRequests": 1,
            "blockLoadDebounceMillis": 40,
            "animateRows": False,
            "suppressCellFocus": False,
            "enableCellTextSelection": True,
            "ensureDomOrder": True,
        },
        eventListeners={
            "cellClicked": ["stepstreamOpen(params)"],
            "cellFocused": ["stepstreamFocus(params)"],
        },
        style={"height": "100%", "width": "100%"},
        dangerously_allow_code=False,
    )


_THEME = """themeQuartz.withParams({
  backgroundColor: 'var(--card)', foregroundColor: 'var(--text)', accentColor: 'var(--accent)',
  borderColor: 'var(--grid)', headerBackgroundColor: 'var(--card)', headerTextColor: 'var(--muted)',
  headerFontSize: 12, headerFontWeight: 400, rowHoverColor: 'var(--raised)', fontFamily: 'inherit',
  fontSize: 13, cellHorizontalPadding: 12, wrapperBorder: false, wrapperBorderRadius: 0,
  oddRowBackgroundColor: 'transparent', headerColumnResizeHandleColor: 'transparent',
  browserColorScheme: 'inherit'
})"""


def _column(field: str, name: str, width: int, form: str = "", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"field": field, "headerName": name, "width": width} | more
    if form:
        made["valueFormatter"] = {"function": f"{form}(params.value)"}
    return made


_RIGHT = {"type": "rightAligned"}
_NUMBER = _RIGHT | {"filter": "agNumberColumnFilter"}
_TEXT = {"filter": "agTextColumnFilter"}
_PLAIN = {"sortable": False}
"""Columns that no index and no name of SQL's stands for."""

STEPS = [
    _column("timestamp", "Timestamp", 112, "stepstreamClock"),
    _column("agent", "Agent", 110, "stepstreamPlain"),
    _column("episode", "Episode", 92, "stepstreamPlain", **_NUMBER),
    _column("step", "Step", 80, "stepstreamPlain", **_NUMBER),
    _column("episode_seed", "Episode seed", 108, "stepstreamPlain", **_RIGHT, **_PLAIN),
    _column("action", "Action", 110, "stepstreamLine", **_TEXT),
    _column("reward", "Reward", 96, "stepstreamNumber", **_NUMBER),
    _column("terminated", "Terminated", 104, "stepstreamYesNo"),
    _column("truncated", "Truncated", 98, "stepstreamYesNo"),
    _column("observation", "Observation", 320, "stepstreamLine", minWidth=260, flex=2, **_TEXT),
    _column("info", "Info", 220, "stepstreamLine", minWidth=160, flex=1, **_TEXT),
]
EPISODES = [
    _column("timestamp", "Timestamp", 112, "stepstreamClock"),
    _column("worker", "Worker", 110, "stepstreamPlain"),
    _column("agent", "Agent", 110, "stepstreamPlain"),
    _column("episode", "Episode", 92, "stepstreamPlain", **_NUMBER),
    _column("steps", "Steps", 84, "stepstreamPlain", **_NUMBER),
    _column("total_reward", "Total reward", 116, "stepstreamNumber", **_NUMBER),
    _column("terminated", "Terminated", 104, "stepstreamYesNo"),
    _column("truncated", "Truncated", 98, "stepstreamYesNo"),
    _column("seed", "Seed", 84, "stepstreamPlain", **_RIGHT, **_PLAIN),
    _column("episode_seed", "Episode seed", 116, "stepstreamPlain", **_NUMBER),
    _column("mode", "Mode", 90, "stepstreamPlain", **_PLAIN),
    _column("game", "Game", 130, "stepstreamPlain", minWidth=110, flex=1, **_PLAIN),
    _column("outcome", "Outcome", 100, "stepstreamPlain", **_PLAIN),
]
