"""The home page: all runs."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from dashboard.address import Address
from dashboard.live.feeds import Feed, Feeds, RunsFeed
from dashboard.page import Page
from dashboard.panel import Panel
from dashboard.panels.runs import Runs


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
        """The table under its filters."""
        return html.Div([html.H1("Runs", id="home-title"), Runs().layout()], className="home")

    def feed(self, feeds: Feeds, address: Address) -> Feed:
        """News of every run."""
        return RunsFeed(feeds)
