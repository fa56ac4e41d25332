"""A run's log."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from dashboard import controls
from dashboard.address import Address
from dashboard.live.types import View
from dashboard.pages.run import RunPage
from dashboard.panel import Panel
from dashboard.panels.log import LogLines


class LogPage(RunPage):
    """The tab of what the worker printed."""

    tab = "log"

    def view(self, address: Address) -> View:
        """The run's newest lines."""
        return View(run_id=address.run, agents=False, logs=True)

    def panels(self, address: Address) -> list[Panel]:
        """The lines."""
        return [*super().panels(address), LogLines()]

    def body(self, address: Address) -> Component:
        """A search over the lines."""
        bar = html.Div(controls.search("q", "Filter lines", address.get("q")), className="table-bar")
        return html.Section([bar, LogLines().layout()], className="card", id="panel-log")
