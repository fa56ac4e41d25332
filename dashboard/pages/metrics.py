"""A run's metrics: a chart of each number, grouped, searched, pinned and hidden."""

from __future__ import annotations

from typing import Any

import dash_bootstrap_components as dbc
from dash import ALL, Dash, Input, Output, dcc, html
from dash.development.base_component import Component

from dashboard import controls
from dashboard.address import Address
from dashboard.live.types import View
from dashboard.page import Services
from dashboard.pages.run import RunPage
from dashboard.panel import Panel, attrs
from dashboard.panels.metrics import MetricCharts
from infra.history.curves import SMOOTHINGS

AXES = {"step": "Step", "episode": "Episode", "relative": "Relative time", "time": "Wall time"}
KEPT = ("x", "smooth", "log", "central", "pin", "hide")
"""Parts of the address that this browser remembers."""


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
        kept = dcc.Store(id="kept-metrics", storage_type="local")
        parts = [kept, _bar(address), MetricCharts().layout(), html.Div(self.own(), className="own")]
        return html.Div(parts, id="panel-metrics", className="metrics")

    def register(self, app: Dash, services: Services) -> None:
        """Zoom to the address; the choice to this browser and back."""
        in_browser: Any = app.clientside_callback  # untyped in Dash
        in_browser(
            _ZOOMED,
            Output("panel-metrics", "title"),
            Input({"type": "zoomed", "name": ALL}, "relayoutData"),
            prevent_initial_call=True,
        )
        in_browser(
            _KEEP.replace("NAMES", str(list(KEPT))),
            Output("kept-metrics", "data"),
            Input("url", "search"),
            Input("panel-metrics", "id"),
        )


def _bar(address: Address) -> Component:
    return html.Div(
        [
            controls.search("q", "Find a metric", address.get("q")),
            _select("x", "X axis", AXES, address),
            _select("smooth", "Smoothing", SMOOTHINGS, address),
            _check("log", "Log scale", address),
            _check("central", "Ignore outliers", address),
        ],
        className="table-bar metric-bar",
    )


def _select(name: str, label: str, values: dict[str, str], address: Address) -> Component:
    chosen = address.get(name, next(iter(values)))
    known = values if chosen in values else values | {chosen: chosen}
    options: Any = [{"value": value, "label": words} for value, words in known.items()]
    field = dbc.Select(id=f"choose-{name}", options=options, value=chosen, size="sm")
    return html.Label([html.Span(label), field], className="option", **attrs(data_address=name))


def _check(name: str, label: str, address: Address) -> Component:
    box = dbc.Checkbox(id=f"check-{name}", label=label, value=bool(address.get(name)))
    return html.Div(box, className="option", **attrs(data_address=name))


_ZOOMED = """(all) => {
  const {value} = dash_clientside.callback_context.triggered[0] || {};
  const from = value?.["xaxis.range[0]"], to = value?.["xaxis.range[1]"];
  if (!value || (from === undefined && !value["xaxis.autorange"])) return dash_clientside.no_update;
  const query = new URLSearchParams(location.search), ms = (at) => isNaN(at) ? Date.parse(at + "Z") : at;
  from === undefined ? query.delete("zoom") : query.set("zoom", `${ms(from)},${ms(to)}`);
  history.replaceState({}, "", `${location.pathname}?${query}`);
  dispatchEvent(new PopStateEvent("popstate"));
  return dash_clientside.no_update;
}"""

_KEEP = """(search) => {
  const names = NAMES, query = new URLSearchParams(search);
  const mine = new URLSearchParams([...query].filter(([name]) => names.includes(name))).toString();
  const page = document.getElementById("panel-metrics"), first = page?.dataset.kept === undefined;
  if (!page || query.get("panel") !== "metrics") return dash_clientside.no_update;
  page.dataset.kept = "";
  let kept = "";
  try { kept = JSON.parse(localStorage.getItem("kept-metrics")) || ""; } catch { /* nothing kept */ }
  if (!first || mine) return mine === kept ? dash_clientside.no_update : mine;
  if (kept) {
    history.replaceState({}, "", `${location.pathname}?${query}&${kept}`);
    dispatchEvent(new PopStateEvent("popstate"));
  }
  return dash_clientside.no_update;
}"""
