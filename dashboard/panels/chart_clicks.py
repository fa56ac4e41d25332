"""What is done in a chart and belongs in the address: a zoom, and the episode that was clicked."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, no_update, set_props

from dashboard.address import Address

TWICE_S = 0.35
"""A second click within this time makes a double click, which resets the zoom."""
CHART = {"type": "zoomed", "axis": ALL, "name": ALL}


def register(app: Dash) -> None:
    """One callback for all charts: a click that comes later replaces the one before."""

    @app.callback(
        Output("url", "search", allow_duplicate=True),
        Input(CHART, "relayoutData"),
        Input(CHART, "clickData"),
        State("url", "pathname"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    async def done(_: Any, __: Any, path: str, search: str | None) -> Any:
        address = Address.of((path or "/") + (search or ""))
        did = [_what(one) for one in ctx.triggered if one["value"]]
        for axis, name, value in did:
            if name == "relayoutData" and (query := zoomed(address, axis, value)) is not no_update:
                set_props("url", {"search": query})  # an answer is void where another chart is made meanwhile
                return no_update
        await asyncio.sleep(TWICE_S)  # a double click calls this once more, and then this answer is void
        clicks = [clicked(address, axis, value) for axis, name, value in did if name == "clickData"]
        return next(iter(clicks), no_update)


def _what(triggered: dict[str, Any]) -> tuple[str, str, Any]:
    """The axis of a chart, which property has changed, and its value."""
    id, _, name = triggered["prop_id"].rpartition(".")
    return json.loads(id)["axis"], name, triggered["value"]


def zoomed(address: Address, axis: str, layout: dict[str, Any]) -> Any:
    """The query with the part of the axis that is looked at, of Plotly's `relayoutData`."""
    if layout.get("xaxis.autorange"):
        return address.search(zoom=None)
    ends = [_number(layout.get(f"xaxis.range[{i}]")) for i in (0, 1)]
    if None in ends:
        return no_update
    return address.search(zoom=f"{axis}:{ends[0]:.12g},{ends[1]:.12g}")


def clicked(address: Address, axis: str, points: dict[str, Any]) -> Any:
    """The query that opens the episode of a point, of Plotly's `clickData`."""
    x = next((point.get("x") for point in points.get("points", ())), None)
    if axis != "episode" or not isinstance(x, int | float):
        return no_update
    return address.search(episode=int(x), table="steps", at=None, step=None, rows=None)


def _number(end: Any) -> float | None:
    """An end of an axis: of a date's, ms since 1970."""
    if isinstance(end, str):
        try:
            return datetime.fromisoformat(end).replace(tzinfo=UTC).timestamp() * 1000
        except ValueError:
            return None
    return float(end) if isinstance(end, int | float) else None
