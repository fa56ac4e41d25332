"""Runs compared: /compare?runs=A,B and what of them (`of`, `x`, `smooth`)."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from dashboard.address import Address
from dashboard.live.feeds import Feed, Feeds, RunsFeed
from dashboard.page import Page
from dashboard.panel import Panel
from dashboard.panels.compare import Compare, chosen_runs


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
        return [Compare()] if chosen_runs(address) else []

    def layout(self, address: Address) -> Component:
        """The panel, or how to choose runs."""
        if chosen_runs(address):
            return Compare().layout()
        words = "No runs are chosen: select some in the list of runs, then press Compare."
        return html.P([words, " ", html.A("Runs", href="/")], className="none muted")

    def feed(self, feeds: Feeds, address: Address) -> Feed:
        """News of every run: which of them go on."""
        return RunsFeed(feeds)
