"""Health: /health says of each server whether it is up, what waits, and what could not be used."""

from __future__ import annotations

from dash import Dash, html
from dash.development.base_component import Component

from dashboard.address import Address
from dashboard.live.feeds import Feed, Feeds, RunsFeed
from dashboard.live.shared import Shared
from dashboard.page import Page, Services
from dashboard.panel import Panel
from dashboard.panels.health import EVERY_S, Found, Health, examined


class HealthPage(Page):
    """What `stepstream doctor` says, again and again."""

    _found: Shared[Found] | None = None
    """One examination serves all who look."""

    def shows(self, address: Address) -> bool:
        """Its path has nothing behind it."""
        return address.path.rstrip("/") == "/health"

    def key(self, address: Address) -> str:
        """There is one."""
        return "health"

    def crumb(self, address: Address) -> str:
        """Its name."""
        return "Health"

    def panels(self, address: Address) -> list[Panel]:
        """All of it."""
        return [Health(self._found)]

    def layout(self, address: Address) -> Component:
        """The panel under its name."""
        return html.Div([html.H1("Health"), Health().layout()], className="health-page")

    def feed(self, feeds: Feeds, address: Address) -> Feed:
        """News of every run: they keep the connection awake."""
        return RunsFeed(feeds)

    def register(self, app: Dash, services: Services) -> None:
        """It has none; this is what it examines with."""
        self._found = Shared(lambda: examined(services.settings, services.feeds), EVERY_S)
