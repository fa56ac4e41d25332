"""Runs compared: /compare?runs=A,B and what of them; two of them side by side at one moment."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, html, no_update
from dash.development.base_component import Component

from dashboard.address import Address, chosen_runs
from dashboard.live.feeds import Feed, Feeds, RunsFeed
from dashboard.page import Page, Services
from dashboard.panel import Panel
from dashboard.panels.beside import Beside, number
from dashboard.panels.compare import Compare


class ComparePage(Page):
    """Curves over each other, and the configuration's differences."""

    def shows(self, address: Address) -> bool:
        """Its path has nothing behind it."""
        return address.path.rstrip("/") == "/compare"

    def key(self, address: Address) -> str:
        """Other runs are another page."""
        return f"compare {','.join(chosen_runs(address))}"

    def crumb(self, address: Address) -> str:
        """How many runs."""
        return f"Compare {len(chosen_runs(address))} runs"

    def panels(self, address: Address) -> list[Panel]:
        """The curves and the table."""
        return [Compare(), Beside()] if chosen_runs(address) else []

    def layout(self, address: Address) -> Component:
        """The panel, or how to choose runs."""
        if chosen_runs(address):
            beside = [Beside().layout()] if len(chosen_runs(address)) > 1 else []
            return html.Div([Compare().layout(), *beside])
        words = "No runs are chosen: select some in the list of runs, then press Compare."
        return html.P([words, " ", html.A("Runs", href="/")], className="none muted")

    def feed(self, feeds: Feeds, address: Address) -> Feed:
        """News of every run: which of them go on."""
        return RunsFeed(feeds)

    def register(self, app: Dash, services: Services) -> None:
        """A click on a run's line is its moment."""

        @app.callback(
            Output("url", "search"),
            Input("compare-chart", "clickData"),
            State("compare-chart", "figure"),
            State("url", "search"),
            State("beside-left", "data-run"),
            State("beside-right", "data-run"),
            prevent_initial_call=True,
        )
        def pick(picked: Any, figure: Any, search: str, *shown: Any) -> Any:
            point = (picked or {}).get("points", [{}])[0]
            run = figure["data"][point.get("curveNumber", 0)].get("meta")
            return _picked(point.get("x"), run, Address.of(f"/compare{search or ''}"), *shown)


def _picked(x: Any, run: Any, address: Address, left: Any, right: Any) -> Any:
    """The address after a click: on the left run's line the moment, on the right one's how much later."""
    if not isinstance(x, int | float) or run not in (left, right):
        return no_update
    change = {"along": x} if run == left else {"shift": x - number(address.get("along"))}
    return address.to(**change).partition("/compare")[2]
