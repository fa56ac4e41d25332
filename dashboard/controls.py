"""What changes a part of the address: segments, chips, search fields. `assets/live.js` acts on the marks.

data-patch="table=episodes&at="   a click sets one part of the query and leaves out the other
data-replace                      … without a step for the back button
data-address="q"                  an input whose value is a part of the query
data-key="/"                      the key that clicks it, or goes into it
data-chosen, data-value           of these buttons, the one with this value is pressed
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import dash_bootstrap_components as dbc
from dash import Dash, Input, Output, State, html
from dash.development.base_component import Component

from dashboard.address import Address
from dashboard.panel import attrs, live_attr


def patched(**changes: Any) -> str:
    """The text of `data-patch`: parts of the query that are set; None leaves one out, a list repeats one."""
    pairs = []
    for name, value in changes.items():
        values = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, "" if one is None else str(one)) for one in values or [None]]
    return urlencode(pairs, quote_via=quote)


def patch(changes: Mapping[str, Any], replace: bool = False) -> dict[str, Any]:
    """Marks of what changes the address when it is clicked."""
    return attrs(data_patch=patched(**changes), **(attrs(data_replace="") if replace else {}))


def segments(key: str, name: str, values: Mapping[str, str], label: str) -> Component:
    """Buttons of which one is pressed: the live leaf `key` says which. `values`: each with its text."""
    buttons = [
        html.Button(
            text, type="button", **attrs(data_value=value, aria_pressed="false"), **patch({name: value})
        )
        for value, text in values.items()
    ]
    marks = attrs(role="group", aria_label=label) | live_attr(data_chosen=key)
    return html.Div(buttons, className="segments", **marks)


def held() -> Component:
    """Says, beside a table that is marked `data-hold`, that its rows stay while the pointer is on them."""
    return html.Span("Held while you point at it", className="held muted")


def search(name: str, label: str, value: str = "", **more: Any) -> Component:
    """A search field that keeps its words in the address, and is entered by `/`."""
    field = dbc.Input(
        type="search", id=f"search-{name}", value=value, placeholder=label, autocomplete="off", debounce=False
    )
    box = html.Span(field, className="keyed-input", **attrs(data_address=name, data_key="/"))
    return html.Label(
        [html.Span(label, className="visually-hidden"), box, html.Kbd("/")], className="keyed", **more
    )


def select(
    name: str, label: str, values: Mapping[str, str], chosen: str, *, default: str, of: str = "choose"
) -> Component:
    """A choice that is kept in the address.

    Args:
        name: its part of the query.
        label: what stands before it.
        values: each with its text.
        chosen: what the address says; offered, too, where it is none of them.
        default: what is chosen where the address says nothing.
        of: the first part of its id, before the name.
    """
    known = {**values, chosen: values.get(chosen, chosen)}
    options: Any = [{"value": value, "label": words} for value, words in known.items()]
    return option(
        name, label, dbc.Select(id=f"{of}-{name}", options=options, value=chosen, size="sm"), default
    )


def option(name: str, label: str, field: Component, default: str, kind: str = "option") -> Component:
    """A field with its label that is kept in the address; `kind` is its class in `theme.css`."""
    marks = attrs(data_address=name, data_default=default)
    return html.Label([html.Span(label), field], className=kind, **marks)


def to_address(app: Dash, component: str, attribute: str, query: Callable[[Address, Any], Any]) -> None:
    """Put what a user chooses in a component into the address.

    Args:
        app: that gets the callback.
        component: its id.
        attribute: the property that holds the choice.
        query: the new query of an address with that choice; `no_update` where it has it already.
    """

    @app.callback(
        Output("url", "search", allow_duplicate=True),
        Input(component, attribute),
        State("url", "pathname"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    async def choose(chosen: Any, path: str, search: str | None) -> Any:
        return query(Address.of((path or "/") + (search or "")), chosen)
