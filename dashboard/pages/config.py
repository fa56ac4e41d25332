"""A run's configuration."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from dashboard.address import Address
from dashboard.pages.run import RunPage
from dashboard.panel import Panel
from dashboard.panels.config import ConfigTable


class ConfigPage(RunPage):
    """The tab of what the run was started with."""

    tab = "config"

    def panels(self, address: Address) -> list[Panel]:
        """The table."""
        return [*super().panels(address), ConfigTable()]

    def body(self, address: Address) -> Component:
        """The table in a card."""
        return html.Section(ConfigTable().layout(), className="card", id="panel-config")
