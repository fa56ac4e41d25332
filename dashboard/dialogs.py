"""The page's dialogs: its settings, its keys, a long text in full. The page's JS opens and fills them."""

from __future__ import annotations

from typing import Any

import dash_bootstrap_components as dbc
from dash import html

SETTINGS: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "updates": (
        "Updates a second",
        "At most; a slow browser gets fewer by itself",
        [(number, number) for number in ("60", "30", "10", "4", "1")],
    ),
    "buffer": (
        "Rows kept",
        "Newest steps and episodes in the tables",
        [(number, number) for number in ("50", "200", "500", "1000")],
    ),
    "theme": (
        "Theme",
        "Light or dark",
        [("system", "As the system"), ("light", "Light"), ("dark", "Dark")],
    ),
}
"""Name in `settings.js` → label, explanation, values with their words."""

KEYS = (
    ("/", "Search"),
    ("j", "Next agent, next run"),
    ("k", "Previous agent, previous run"),
    ("↑ ↓", "Among agents, once one has the focus"),
    ("← →", "Step before and after, once one is shown"),
    ("Esc", "Leave the search, or the chosen episode"),
    ("?", "These keys"),
)


def layout() -> list[Any]:
    """All dialogs, closed."""
    keys = [part for key, does in KEYS for part in (html.Kbd(key), html.Span(does))]
    return [
        _dialog("settings", "Settings of this page", [_setting(name) for name in SETTINGS]),
        _dialog("keys", "Keys", keys),
        _dialog("text", "", html.Pre(id="text-body"), size="lg"),
    ]


def _dialog(name: str, title: str, body: Any, size: str = "") -> dbc.Modal:
    head = dbc.ModalHeader(dbc.ModalTitle(title, id=f"{name}-title", tag="h2"))
    return dbc.Modal(
        [head, dbc.ModalBody(body, class_name=name)],
        id=name,
        size=size or None,
        labelledby=f"{name}-title",
        fade=False,
        scrollable=True,
    )


def _setting(name: str) -> html.Div:
    label, explanation, values = SETTINGS[name]
    options = [{"value": value, "label": words} for value, words in values]
    return html.Div(
        [
            dbc.Label(label, html_for=f"setting-{name}"),
            html.Small(explanation),
            dbc.Select(id=f"setting-{name}", options=options, class_name="field"),
        ],
        className="setting",
    )
