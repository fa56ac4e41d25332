"""Tables: AG Grids, community features only. Pure.

Live rows have fixed places (`slot`), whose cells change: no row is made or thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import dash_ag_grid

ROW_PX, HEADER_PX = 28, 32


def grid(id: str, columns: list[dict[str, Any]], row_id: str, height: int | None = None, **more: Any) -> Any:
    """A table. `row_id`: an expression of `params.data` that is a string of the row's own."""
    options = {
        "theme": {"function": "stepstreamTheme(themeQuartz)"},
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


def column(field: str, name: str, width: int, **more: Any) -> dict[str, Any]:
    """A column."""
    return {"field": field, "headerName": name, "width": width, "sortable": False} | more


def spark(values: Sequence[float | None], width: int = 48, height: int = 16) -> str:
    """A sparkline's path; empty where there are fewer than two numbers."""
    found = [value for value in values if value is not None and not math.isnan(value)]
    if len(found) < 2:
        return ""
    low, high = min(found), max(found)
    scale = (height - 2) / (high - low) if high > low else 0.0
    step = width / (len(found) - 1)
    at = (height - 1 - (value - low) * scale if scale else height / 2 for value in found)
    return "M" + "L".join(f"{i * step:.1f},{y:.1f}" for i, y in enumerate(at))
