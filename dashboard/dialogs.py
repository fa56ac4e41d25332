"""The page's dialogs: its settings, which this browser keeps, and its keys."""

from __future__ import annotations

from typing import Any

import dash_bootstrap_components as dbc
from dash import Dash, Input, Output, html
from dash.development.base_component import Component

from dashboard.panels.time_bar import KEYS as TIME_KEYS

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
    ("j", "Next agent, next run, next rollout"),
    ("k", "Previous agent, previous run, previous rollout"),
    ("↑ ↓", "Among agents, once one has the focus"),
    *TIME_KEYS,
    ("← →", "Rollout before and after, on its page"),
    ("1 … 9", "A sample of the rollout's group, on its page"),
    ("g", "Go to an episode and a step"),
    ("Esc", "Leave the search, or full screen; back to live"),
    ("?", "These keys"),
)


def layout() -> list[Component]:
    """All dialogs, closed."""
    keys = [part for key, does in KEYS for part in (html.Kbd(key), html.Span(does))]
    return [
        _dialog("settings", "Settings of this page", [_setting(name) for name in SETTINGS]),
        _dialog("keys", "Keys", keys),
    ]


def register(app: Dash) -> None:
    """Open them."""
    for name in ("settings", "keys"):

        @app.callback(
            Output(f"{name}-dialog", "is_open"),
            Input(f"open-{name}", "n_clicks"),
            prevent_initial_call=True,
        )
        async def opened(clicks: int | None) -> bool:
            return bool(clicks)


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
    kept: Any = {"persistence": True, "persistence_type": "local"}  # `theme.js` reads it, too
    field = dbc.Select(id=f"setting-{name}", options=options, value=DEFAULTS[name], **kept)
    return html.Div(
        [dbc.Label(label, html_for=f"setting-{name}"), html.Small(explanation, className="muted"), field],
        className="setting",
    )
