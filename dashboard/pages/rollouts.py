"""A run's rollouts: the table of samples, and one of them as a chat (`rollout=<stream>/<line>`)."""

from __future__ import annotations

from dash import Dash, html
from dash.development.base_component import Component

from dashboard.address import Address
from dashboard.page import Services
from dashboard.pages.run import RunPage
from dashboard.panel import Panel, attrs
from dashboard.panels import rollout, rollouts
from dashboard.panels.rollouts import Rollouts


class RolloutsPage(RunPage):
    """The tab of a run of a language model."""

    tab = "rollouts"

    def panels(self, address: Address) -> list[Panel]:
        """The table."""
        return [*super().panels(address), Rollouts()]

    def body(self, address: Address) -> Component:
        """The table, and where one rollout comes in its place."""
        one = html.Div(id="rollout", className="rollout")
        parts = [Rollouts().layout(), one]
        is_open = attrs(data_open="one") if address.get("rollout") else {}
        return html.Div(parts, id="panel-rollouts", className="rollouts", **is_open)

    def register(self, app: Dash, services: Services) -> None:
        """The table's rows and the chat are asked for."""
        rollouts.register(app, services)
        rollout.register(app, services)
