"""A run's metrics: a chart of each number, grouped, searched, pinned and hidden."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from dashboard import controls
from dashboard.address import Address
from dashboard.live.types import View
from dashboard.pages.run import RunPage
from dashboard.panel import Panel, attrs
from dashboard.panels.chart_choice import KEPT, inputs
from dashboard.panels.metrics import MetricCharts


class MetricsPage(RunPage):
    """The tab of a run's metrics."""

    tab = "metrics"

    def view(self, address: Address) -> View:
        """The run's newest metrics."""
        return View(run_id=address.run, agents=False, metrics=True)

    def panels(self, address: Address) -> list[Panel]:
        """The charts."""
        return [*super().panels(address), MetricCharts()]

    def body(self, address: Address) -> Component:
        """What is chosen, over the charts."""
        kept = attrs(data_keep=" ".join((*KEPT, "pin", "hide")))
        search = controls.search("q", "Find a metric", address.get("q"))
        bar = html.Div([search, *inputs(address)], className="table-bar metric-bar")
        parts = [bar, MetricCharts().layout(), html.Div(self.own(), className="own")]
        return html.Div(parts, id="panel-metrics", className="metrics", **kept)
