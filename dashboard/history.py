"""The table of every row: an AG Grid with the infinite row model over SQL, community features only.

One callback makes the grid for what the page has chosen, another fills it, page by page.
"""

from __future__ import annotations

from typing import Any

import dash_ag_grid
from dash import Dash, Input, Output, State, dcc, html, no_update

from dashboard import wire
from dashboard.feeds import natural_index
from dashboard.queries import Page, PageRequest, Queries
from schemas.errors import StepstreamError

GRID = "history-grid"
BLOCK = 100


def layout() -> html.Div:
    """Dash's part of the page: what is looked at, and where its grid goes."""
    return html.Div([dcc.Store(id="history-view"), html.Div(id="history-slot")])


def register(app: Dash, queries: Queries) -> None:
    """The two callbacks."""

    @app.callback(Output("history-slot", "children"), Input("history-view", "data"))
    async def make(view: dict[str, Any] | None) -> Any:
        return grid(str(view.get("kind"))) if view else None

    @app.callback(
        Output(GRID, "getRowsResponse"),
        Input(GRID, "getRowsRequest"),
        State("history-view", "data"),
        prevent_initial_call=True,
    )
    async def fill(request: dict[str, Any] | None, view: dict[str, Any] | None) -> Any:
        if not request or not view:
            return no_update
        try:
            page = await read(queries, view, request)
        except StepstreamError:
            return {"rowData": [], "rowCount": 0}
        return {"rowData": page.rows, "rowCount": page.total}


async def read(queries: Queries, view: dict[str, Any], request: dict[str, Any]) -> Page:
    """One page of the chosen table."""
    run_id, agent_id = str(view.get("run")), view.get("agent")
    asked = PageRequest.of(request)
    index = natural_index(view.get("episode"))
    if index is not None:
        equals = {"filterType": "number", "type": "equals", "filter": index}
        order = asked.sort or [{"colId": "step", "sort": "asc"}]
        asked = PageRequest(asked.start, asked.end, order, asked.filters | {"episode": equals})
    if view.get("kind") == "episodes":
        page = await queries.episodes(run_id, agent_id, asked)
        return Page([wire.light(row) for row in page.rows], page.total)
    page = await queries.steps(run_id, agent_id, asked)
    return Page([wire.short(row) for row in page.rows], page.total)


def grid(kind: str) -> dash_ag_grid.AgGrid:
    """The empty grid of one kind."""
    return dash_ag_grid.AgGrid(
        id=GRID,
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
            "onCellClicked": {"function": "stepstreamOpen(params)"},
        },
        style={"height": "100%", "width": "100%"},
        className="history-grid",
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
