"""A long text of a table's cell, in full: a click on the cell asks for it (`stepstreamOpen`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_bootstrap_components as dbc
from dash import Dash, Input, Output, State, html, no_update
from dash.development.base_component import Component

from dashboard import form
from dashboard.address import Address
from dashboard.page import Services


def layout() -> list[Component]:
    """The dialog, closed, and where a grid says which text."""
    title = dbc.ModalTitle("", id="text-title", tag="h2")
    parts = [dbc.ModalHeader(title), dbc.ModalBody(html.Pre(id="text-body"))]
    text = dbc.Modal(parts, id="text", size="lg", labelledby="text-title", fade=False, scrollable=True)
    # no dcc.Store: one that is made again has what the one before it had
    return [text, html.Span(id="long-text", hidden=True)]


def register(app: Dash, services: Services) -> None:
    """Read the text, if the table has only its head, and show it."""

    @app.callback(
        Output("text", "is_open"),
        Output("text-title", "children"),
        Output("text-body", "children"),
        Input("long-text", "data-asked"),
        State("url", "pathname"),
        prevent_initial_call=True,
    )
    async def read(asked: dict[str, Any] | None, path: str) -> Any:
        if not asked:
            return no_update, no_update, no_update
        name, row = str(asked["field"]), asked["row"]
        text = row.get(name)
        if row.get("cut"):
            run_id = (Address.of(path).run) or ""
            whole = await services.queries.step(run_id, str(row["stream_id"]), int(row["seq"]))
            text = whole[name] if whole and name in whole else text
        return True, _title(name, row), form.readable(text)


def _title(name: str, row: Mapping[str, Any]) -> str:
    if "reason" in row:
        return f"Line {row['seq']} of stream {row['stream_id']}"
    step = form.NONE if row.get("step_index") is None else row["step_index"]
    return f"{name.capitalize()} of step {step}"
