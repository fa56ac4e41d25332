"""The home page: all runs."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

import dash_bootstrap_components as dbc
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dashboard import controls
from dashboard.address import Address, compare_link
from dashboard.live.feeds import Feed, Feeds, RunsFeed
from dashboard.page import Page, Services
from dashboard.panel import Panel, attrs, live_attr
from dashboard.panels.run_table import COLUMNS, STATES, Choice
from dashboard.panels.runs import Runs, choices, count

COMMANDS = {
    "Watch a program that prints JSON lines": "stepstream run -- python train.py",
    "Send a file that is there already": "stepstream ingest run.jsonl",
    "See real training at once": "stepstream demo",
}
WHAT_A_VIEW_IS = "A view is this table as it is now: what is filtered, sorted, grouped and shown."
MAX_VIEWS = 50
BUTTON = "btn btn-sm btn-outline-secondary"


class RunsPage(Page):
    """All runs. Every address that no other page has leads here."""

    def shows(self, address: Address) -> bool:
        """Always."""
        return True

    def key(self, address: Address) -> str:
        """There is one."""
        return "runs"

    def panels(self, address: Address) -> list[Panel]:
        """The table."""
        return [Runs()]

    def layout(self, address: Address) -> Component:
        """The table under its filters; or, where there is no run, how to get one."""
        parts = [_head(address), _bar(address), Runs().layout(), _none(), _empty()]
        return html.Div(parts, className="home", id="home", **live_attr(data_state="runs.state"))

    def feed(self, feeds: Feeds, address: Address) -> Feed:
        """News of every run."""
        return RunsFeed(feeds)

    def register(self, app: Dash, services: Services) -> None:
        """Columns to the address, the selection, and the views that this browser keeps."""

        @app.callback(Output("runs-selected", "children"), Input("runs", "selectedRows"))
        async def selected(rows: list[dict[str, Any]] | None) -> Any:
            return _selection([row["run_id"] for row in rows or [] if "run_id" in row])

        @app.callback(
            Output("views", "data"),
            Input("view-save", "n_clicks"),
            Input({"type": "view-gone", "name": ALL}, "n_clicks"),
            State("view-name", "value"),
            State("url", "search"),
            State("views", "data"),
            prevent_initial_call=True,
        )
        async def keep(_: Any, gone: list[Any], name: str | None, search: str | None, kept: Any) -> Any:
            return _kept(kept or {}, ctx.triggered_id, (name or "").strip()[:60], search or "", any(gone))

        @app.callback(Output("view-list", "children"), Input("views", "data"))
        async def listed(kept: dict[str, str] | None) -> Any:
            return _views(kept or {})

        controls.to_address(app, "runs-columns", "value", _columns)


def _columns(address: Address, chosen: list[str] | None) -> Any:
    """The query that shows these columns; none where it shows them already."""
    default = [one.field for one in COLUMNS if one.chosen]
    wanted = [] if sorted(chosen or []) == sorted(default) else chosen or []
    same = sorted(wanted) == sorted(address.all("column"))
    return no_update if same or address.path != "/" else address.search(column=wanted or None)


def _head(address: Address) -> Component:
    chosen = live_attr(data_chosen="runs.status")
    states = [("", "All", "all"), *((state, state.capitalize(), state) for state in STATES)]
    buttons = [
        html.Button(
            [text, count(name)],
            type="button",
            **attrs(data_value=value, aria_pressed="false"),
            **controls.patch({"status": value}),
        )
        for value, text, name in states
    ]
    segments = html.Div(buttons, className="segments", role="group", **attrs(aria_label="Status"), **chosen)
    search = controls.search("q", "Filter runs", address.get("q"))
    return html.Div([html.H1("Runs", id="home-title"), search, segments], className="home-head")


def _bar(address: Address) -> Component:
    made = choices([], Choice.of(address))
    group: Any = dbc.Select(id="runs-group", size="sm", **made["runs-group"])
    columns: Any = dbc.Checklist(id="runs-columns", **made["runs-columns"])
    views = html.Div(
        [
            html.Div(id="view-list"),
            dbc.Input(id="view-name", placeholder="Name of this view", size="sm", maxlength=60),
            html.Button("Save this view", id="view-save", type="button", className=BUTTON),
        ],
        className="menu",
    )
    by_group = attrs(data_address="group", data_default="none")
    return html.Div(
        [
            dcc.Store(id="views", storage_type="local"),
            html.Label([html.Span("Group by"), group], className="option", **by_group),
            _menu("Columns", html.Div(columns, className="menu")),
            _menu("Views", views),
            html.Span(className="flex-fill"),
            html.Div(id="runs-selected", className="chips"),
        ],
        className="runs-bar",
    )


def _menu(name: str, body: Component) -> Component:
    return html.Details([html.Summary(name, className=BUTTON), body], className="drop")


def _selection(run_ids: list[str]) -> list[Component]:
    if not run_ids:
        return []
    words = f"{len(run_ids)} selected"
    if len(run_ids) < 2:
        return [html.Span(words, className="muted")]
    return [
        html.Span(words, className="muted"),
        html.A("Compare", href=compare_link(run_ids), className=BUTTON),
    ]


def _kept(kept: dict[str, str], by: Any, name: str, search: str, gone: bool) -> Any:
    """The views after a click: one more, or one less."""
    if isinstance(by, dict):
        return {key: value for key, value in kept.items() if key != by["name"]} if gone else no_update
    if not name:
        return no_update
    query = urlencode(parse_qsl(search.removeprefix("?"))[:500])
    return dict([*kept.items(), (name, query)][-MAX_VIEWS:])


def _views(kept: dict[str, str]) -> list[Component]:
    if not kept:
        return [
            html.P(
                WHAT_A_VIEW_IS,
                className="muted",
            )
        ]
    return [
        html.Div(
            [
                html.A(name, href=f"/?{query}" if query else "/"),
                html.Button("✕", id={"type": "view-gone", "name": name}, type="button", className="tool",
                            **attrs(aria_label=f"Forget {name}")),
            ],
            className="view",
        )
        for name, query in kept.items()
    ]  # fmt: skip


def _none() -> Component:
    return html.P("No run matches.", className="none muted", id="runs-none")


def _empty() -> Component:
    steps = [
        html.Li(
            [
                words,
                html.Div(
                    [html.Code(command), dcc.Clipboard(content=command, title="Copy")], className="command"
                ),
            ]
        )
        for words, command in COMMANDS.items()
    ]
    parts = [
        html.H2("No runs yet"),
        html.P("Stream one, and it appears here by itself.", className="muted"),
        html.Ol(steps),
    ]
    return html.Div(parts, className="empty", id="runs-empty")
