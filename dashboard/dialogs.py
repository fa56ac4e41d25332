"""The page's dialogs: its settings, which this browser keeps, and its keys."""

from __future__ import annotations

import json
from typing import Any

import dash_bootstrap_components as dbc
from dash import Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component

SETTINGS: dict[str, tuple[str, str, dict[str, str]]] = {
    "updates": (
        "Updates a second",
        "At most; a slow browser gets fewer by itself",
        {number: number for number in ("60", "30", "10", "4", "1")},
    ),
    "buffer": (
        "Rows kept",
        "Newest steps and episodes in the tables",
        {number: number for number in ("50", "200", "500", "1000")},
    ),
    "theme": (
        "Theme",
        "Light or dark",
        {"system": "As the system", "light": "Light", "dark": "Dark"},
    ),
}
"""Name in this browser's storage → label, explanation, values with their words; the first is the default."""

DEFAULTS = {"updates": "60", "buffer": "200", "theme": "system"}

KEYS = (
    ("/", "Search"),
    ("j", "Next agent, next run"),
    ("k", "Previous agent, previous run"),
    ("↑ ↓", "Among agents, once one has the focus"),
    ("← →", "Step before and after, once one is shown"),
    ("g", "Go to an episode and a step"),
    ("Esc", "Leave the search, the chosen episode, or full screen"),
    ("?", "These keys"),
)


def layout() -> list[Component]:
    """All dialogs, closed, and what this browser keeps."""
    keys = [part for key, does in KEYS for part in (html.Kbd(key), html.Span(does))]
    return [
        dcc.Store(id="settings", storage_type="local"),
        _dialog("settings", "Settings of this page", [_setting(name) for name in SETTINGS]),
        _dialog("keys", "Keys", keys),
    ]


def register(app: Dash) -> None:
    """Open them; keep what is chosen, and tell `live.js` and `theme.js`."""
    chosen = [f"setting-{name}" for name in SETTINGS]

    for name in ("settings", "keys"):

        @app.callback(
            Output(f"{name}-dialog", "is_open"),
            Input(f"open-{name}", "n_clicks"),
            prevent_initial_call=True,
        )
        async def opened(clicks: int | None) -> bool:
            return bool(clicks)

    @app.callback(
        [Output(id, "value") for id in chosen], Input("settings-dialog", "is_open"), State("settings", "data")
    )
    async def shown(_: bool, kept: dict[str, Any] | None) -> list[str]:
        found = DEFAULTS | {name: str(value) for name, value in (kept or {}).items()}
        return [found[name] for name in SETTINGS]

    in_browser: Any = app.clientside_callback  # untyped in Dash
    in_browser(  # in the browser, so that a page that is closed at once has kept it
        _KEEP.replace("DEFAULTS", json.dumps(DEFAULTS)).replace("NAMES", json.dumps(list(SETTINGS))),
        Output("settings", "data"),
        *[Input(id, "value") for id in chosen],
        State("settings", "data"),
        prevent_initial_call=True,
    )
    in_browser(
        _TELL,
        Output("settings-dialog", "tag"),
        Input("settings", "data"),
        prevent_initial_call=True,
    )


_KEEP = """(...given) => {
  const names = NAMES, defaults = DEFAULTS, before = given.pop() || {};
  const chosen = Object.fromEntries(names.map((name, i) => [name, given[i]]));
  const same = names.every((name) => chosen[name] === String(before[name] ?? defaults[name]));
  return same ? dash_clientside.no_update : {...before, ...chosen};
}"""

_TELL = """() => {
  setTimeout(() => dispatchEvent(new Event("settings")));
  return dash_clientside.no_update;
}"""


def _dialog(name: str, title: str, body: Any) -> Component:
    head = dbc.ModalHeader(dbc.ModalTitle(title, id=f"{name}-title", tag="h2"))
    made: Component = dbc.Modal(
        [head, dbc.ModalBody(body, class_name=name)],
        id=f"{name}-dialog",
        labelledby=f"{name}-title",
        fade=False,
        scrollable=True,
    )
    return made


def _setting(name: str) -> Component:
    label, explanation, values = SETTINGS[name]
    options: Any = [{"value": value, "label": words} for value, words in values.items()]
    field = dbc.Select(id=f"setting-{name}", options=options, value=DEFAULTS[name])
    return html.Div(
        [dbc.Label(label, html_for=f"setting-{name}"), html.Small(explanation, className="muted"), field],
        className="setting",
    )
