"""One rollout as a chat: what was asked, thought, called and answered, and how it was scored.

rollout=<stream>/<line>   view=raw     its messages as JSON
                          full=1       long texts whole
                          tokens=1     its token arrays, which nothing else reads
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dashboard import form
from dashboard.address import Address
from dashboard.controls import patch
from dashboard.page import Services
from dashboard.panel import attrs
from dashboard.panels.rollout_parts import TOKENS_GRID, aside, token_rows, tokens, transcript
from dashboard.panels.rollouts import chosen, wanted
from dashboard.sql.queries import PageRequest
from dashboard.sql.rollouts import Key
from dashboard.visible import plain
from schemas.errors import StepstreamError

MOST_KEYS = 9


def register(app: Dash, services: Services) -> None:
    """One callback follows the address; one fills the table of tokens."""

    @app.callback(
        Output("rollout", "children"),
        Output("panel-rollouts", "data-open"),
        Input("url", "search"),
        Input("url", "pathname"),
        Input("panel-rollouts", "id"),
    )
    async def show(search: str, path: str, _: str) -> Any:
        address = Address.of((path or "/") + (search or ""))
        name = address.get("rollout")
        if not name:
            return [], ""
        try:
            return await _shown(services, address, Key.of(name)), "one"
        except StepstreamError as error:
            return _missing(f"This rollout cannot be shown. {error}"), "one"

    @app.callback(
        Output(TOKENS_GRID, "getRowsResponse"),
        Input(TOKENS_GRID, "getRowsRequest"),
        State("url", "search"),
        State("url", "pathname"),
        prevent_initial_call=True,
    )
    async def fill(request: dict[str, Any] | None, search: str, path: str) -> Any:
        address = Address.of((path or "/") + (search or ""))
        key = Key.of(address.get("rollout"))
        if not request or key is None:
            return no_update
        asked = PageRequest.of(request)
        arrays = await services.queries.tokens(address.run or "", key)
        return token_rows(arrays, asked.start, asked.end)


async def _shown(services: Services, address: Address, key: Key | None) -> list[Component]:
    queries, run_id = services.queries, address.run or ""
    row = await queries.rollout(run_id, key) if key is not None else None
    if row is None or key is None:
        return _missing("This run has no such rollout: it may not be stored yet, or was deleted.")
    others, (newer, older), has_tokens = await asyncio.gather(
        queries.siblings(row),
        queries.rollout_beside(chosen(address), wanted(address), key),
        queries.has_tokens(run_id, key),
    )
    arrays = await queries.tokens(run_id, key) if has_tokens and address.get("tokens") else {}
    head = [_bar(address, newer, older), _siblings(others, key)]
    body = [transcript(address, row), aside(row)]
    below = [tokens(arrays, asked=address.flag("tokens"))] if has_tokens else []
    return [*head, html.Div(body, className="rollout-body"), *below]


def _missing(words: str) -> list[Component]:
    back = html.Button("All rollouts", type="button", className="btn btn-sm", **_to(rollout=None))
    return [html.Div([html.P(words), back], className="empty", role="alert")]


def _to(*, replace: bool = False, **changes: Any) -> dict[str, Any]:
    """Marks of what leads to another rollout, or back: tokens and long texts are asked for anew."""
    return patch({"full": None, "tokens": None} | changes, replace)


def _bar(address: Address, newer: Key | None, older: Key | None) -> Component:
    raw = address.get("view") == "raw"
    views = [
        html.Button(
            text,
            type="button",
            **attrs(aria_pressed=str(raw == (value == "raw")).lower()),
            **patch({"view": value}),
        )
        for text, value in (("Chat", None), ("Raw", "raw"))
    ]
    back = html.Button(
        "All rollouts",
        type="button",
        className="chip",
        title="Back to the table (Esc)",
        **attrs(data_key="Escape"),
        **_to(rollout=None, view=None),
    )
    return html.Div(
        [
            back,
            _beside("Previous rollout", "\u2039", "k ArrowLeft", newer),
            _beside("Next rollout", "\u203a", "j ArrowRight", older),
            html.Span(className="flex-fill"),
            dcc.Clipboard(target_id="rollout-text", title="Copy", className="btn btn-sm copy"),
            html.Div(views, className="segments", role="group", **attrs(aria_label="View")),
        ],
        className="rollout-bar",
    )


def _beside(label: str, sign: str, keys: str, key: Key | None) -> Component:
    named = attrs(aria_label=label)
    if key is None:
        return html.Button(sign, type="button", className="chip", disabled=True, title=label, **named)
    named |= attrs(data_key=keys) | _to(replace=True, rollout=key.name)
    return html.Button(sign, type="button", className="chip", title=f"{label} ({keys[0]})", **named)


def _siblings(others: Sequence[Mapping[str, Any]], here: Key) -> Component:
    """The samples of the group with their rewards; the first nine have a key each."""
    if len(others) < 2:
        return html.Div(hidden=True)
    chips = []
    for n, one in enumerate(others, 1):
        key = Key(one["stream_id"], one["seq"])
        more = attrs(data_key=str(n)) if n <= MOST_KEYS else {}
        digit = html.Kbd(str(n)) if n <= MOST_KEYS else ""
        text = [digit, " ", html.B(form.number(one["reward"])), f" {plain(one['sample'])[:12]}"]
        pressed = attrs(aria_pressed=str(key == here).lower())
        chips.append(
            html.Button(
                text,
                type="button",
                className="chip",
                **pressed,
                **more,
                **_to(replace=True, rollout=key.name),
            )
        )
    return html.Div(
        ["Group", *chips],
        className="chips siblings muted",
        role="group",
        **attrs(aria_label="Samples of this group"),
    )
