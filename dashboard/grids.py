"""Tables: AG Grids, community features only. Pure.

A column of a table is declared once, by the names and with the types of `schemas.tables`. Live
rows have fixed places (`slot`), whose cells change: no row is made or thrown away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any, NamedTuple

import dash_ag_grid

from dashboard.sql import rows
from infra.sql import tables

ROW_PX, HEADER_PX = 28, 32
BLOCK = 100
"""Rows that a table of every row asks for at once."""

Definition = dict[str, Any]

_FORMATS: dict[rows.Kind, str] = {
    "time": "stepstreamClock",
    "number": "stepstreamNumber",
    "whole": "stepstreamPlain",
    "yes_no": "stepstreamYesNo",
    "long": "stepstreamLine",
    "word": "stepstreamPlain",
}
_NUMERIC = {"type": "rightAligned", "filter": "agNumberColumnFilter"}
_MORE: dict[rows.Kind, Definition] = {
    "number": _NUMERIC,
    "whole": _NUMERIC,
    "long": {"filter": "agTextColumnFilter", "cellClass": "long"},
}


class Column(NamedTuple):
    """A column of a table on the page."""

    field: str
    """As `sql.rows` names it."""
    name: str
    width: int
    flex: int = 0
    numeric: bool = False
    """A number that no SQL column stands for."""


def column(field: str, name: str, width: int, **more: Any) -> Definition:
    """A column's definition."""
    return {"field": field, "headerName": name, "width": width, "sortable": False} | more


def definitions(kinds: Mapping[str, rows.Kind], columns: Iterable[Column]) -> list[Definition]:
    """Columns for AG Grid: the SQL type says how a value is shown, and whether it can be sorted by."""
    return [_definition(one, kinds.get(one.field)) for one in columns]


def _definition(one: Column, sql: rows.Kind | None) -> Definition:
    kind: rows.Kind = sql or ("whole" if one.numeric else "word")
    made = column(one.field, one.name, one.width, sortable=sql is not None) | _MORE.get(kind, {})
    if sql is None:
        made.pop("filter", None)
    if one.flex:
        made |= {"flex": one.flex, "minWidth": min(one.width, 160)}
    return made | {"valueFormatter": {"function": f"{_FORMATS[kind]}(params.value)"}}


STEPS = definitions(
    rows.kinds(tables.STEPS),
    [
        Column("event_time", "Timestamp", 112),
        Column("agent_id", "Agent", 110),
        Column("episode_index", "Episode", 92),
        Column("step_index", "Step", 80),
        Column("seed", "Episode seed", 108, numeric=True),
        Column("action", "Action", 110),
        Column("reward", "Reward", 96),
        Column("terminated", "Terminated", 104),
        Column("truncated", "Truncated", 98),
        Column("observation", "Observation", 320, flex=2),
        Column("info", "Info", 220, flex=1),
    ],
)
EPISODES = definitions(
    rows.kinds(tables.EPISODES),
    [
        Column("event_time", "Timestamp", 112),
        Column("worker_id", "Worker", 110),
        Column("agent_id", "Agent", 110),
        Column("episode_index", "Episode", 92),
        Column("episode_length", "Length", 84),
        Column("episode_return", "Return", 100),
        Column("terminated", "Terminated", 104),
        Column("truncated", "Truncated", 98),
        Column("run_seed", "Run seed", 92, numeric=True),
        Column("seed", "Episode seed", 116),
        Column("mode", "Mode", 90),
        Column("game", "Game", 130, flex=1),
        Column("outcome", "Outcome", 100),
    ],
)
TABLES = {"steps": STEPS, "episodes": EPISODES}
"""The tables of an agent."""
THEME = {
    "backgroundColor": "var(--card)",
    "foregroundColor": "var(--text)",
    "accentColor": "var(--accent)",
    "borderColor": "var(--grid)",
    "headerBackgroundColor": "var(--card)",
    "headerTextColor": "var(--muted)",
    "headerFontSize": 12,
    "headerFontWeight": 400,
    "rowHoverColor": "var(--raised)",
    "fontFamily": "inherit",
    "fontSize": 13,
    "cellHorizontalPadding": 12,
    "wrapperBorder": False,
    "wrapperBorderRadius": 0,
    "oddRowBackgroundColor": "transparent",
    "headerColumnResizeHandleColor": "transparent",
    "browserColorScheme": "inherit",
}
"""AG Grid's parameters, in the colours of `theme.css`."""
ALWAYS = {
    "steps": {"event_time", "episode_index", "step_index", "reward"},
    "episodes": {"event_time", "episode_index", "episode_return"},
}
"""Columns that are shown also where they are empty."""
EMPTY = (None, "", "{}", "null")


def grid(id: str, columns: list[Definition], row_id: str, height: int | None = None, **more: Any) -> Any:
    """A table, `height` pixels high. `row_id`: an expression of `params.data` that identifies a row."""
    options = {
        "theme": {"function": f"themeQuartz.withParams({json.dumps(THEME)})"},
        "rowHeight": ROW_PX,
        "headerHeight": HEADER_PX,
        "animateRows": False,
        "enableCellTextSelection": True,
        "ensureDomOrder": True,
        "suppressNoRowsOverlay": True,
        "suppressScrollOnNewData": True,
    }
    return dash_ag_grid.AgGrid(
        id=id,
        columnDefs=columns,
        getRowId=row_id,
        columnSize=None,
        defaultColDef={"resizable": True, "minWidth": 60},
        style={"height": f"{height}px" if height else "100%", "width": "100%"},
        dashGridOptions=options | more.pop("options", {}),
        dangerously_allow_code=False,
        **more,
    )


def live_grid(id: str, columns: list[Definition], in_sight: int = 10, **more: Any) -> Any:
    """A table of the newest rows in fixed places; `slots` makes its `rowData`."""
    return grid(id, still(columns), "params.data.slot", in_sight * ROW_PX + HEADER_PX + 14, **more)


def still(columns: Iterable[Definition]) -> list[Definition]:
    """Columns of newest rows: neither sorted nor filtered."""
    return [definition | {"sortable": False, "filter": False} for definition in columns]


def slots(newest: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows in their places, in the order given."""
    return [{"slot": f"s{i}", **row} for i, row in enumerate(newest)]


def list_grid(id: Any, columns: list[Definition], **more: Any) -> Any:
    """A table of every row out of SQL, in blocks as it is scrolled: `sql.history` fills it."""
    return grid(
        id,
        columns,
        "params.data.stream_id + '/' + params.data.seq",
        rowModelType="infinite",
        options={
            "cacheBlockSize": BLOCK,
            "maxBlocksInCache": 20,
            # with two requests at once, a block at an edge can stay blank for good
            "maxConcurrentDatasourceRequests": 1,
            "blockLoadDebounceMillis": 40,
        }
        | more.pop("options", {}),
        **more,
    )


def filled(kind: str, listed: Iterable[Mapping[str, Any]]) -> set[str]:
    """Fields of a table's columns that are shown: those that a row fills, and those that always are."""
    found = set(ALWAYS[kind])
    missing = {definition["field"] for definition in TABLES[kind]} - found
    for row in listed:
        if not missing:
            break
        some = {field for field in missing if row.get(field) not in EMPTY}
        found |= some
        missing -= some
    return found


def hiding(kind: str, shown: set[str]) -> list[Definition]:
    """A table's columns; of an empty one none is seen."""
    return [definition | {"hide": definition["field"] not in shown} for definition in TABLES[kind]]


def tsv(columns: Sequence[Definition], listed: Iterable[Mapping[str, Any]]) -> str:
    """Rows as tab-separated text with a header, as a spreadsheet takes it."""
    fields = [definition["field"] for definition in columns]
    lines = [[_cell(row.get(field)) for field in fields] for row in listed]
    return "\n".join("\t".join(cells) for cells in [[one["headerName"] for one in columns], *lines])


def _cell(value: Any) -> str:
    text = "" if value is None else " ".join(str(value).split("\t"))
    text = " ".join(text.splitlines())
    return f"'{text}" if text.startswith(("=", "+", "@")) else text


def spark(values: Sequence[float | None], width: int = 48, height: int = 16) -> str:
    """A sparkline's path in pixels; empty where there are fewer than two numbers."""
    found = [value for value in values if value is not None and not isnan(value)]
    if len(found) < 2:
        return ""
    low, high = min(found), max(found)
    scale = (height - 2) / (high - low) if high > low else 0.0
    step = width / (len(found) - 1)
    at = (height - 1 - (value - low) * scale if scale else height / 2 for value in found)
    return "M" + "L".join(f"{i * step:.1f},{y:.1f}" for i, y in enumerate(at))
