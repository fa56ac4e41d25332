"""A run: its head, its tabs, and the tab of its agents."""

from __future__ import annotations

from typing import Any

from dash import Dash, html
from dash.development.base_component import Component

from dashboard.address import Address
from dashboard.live.feeds import Feed, Feeds
from dashboard.live.run_feed import RunFeed
from dashboard.live.types import View
from dashboard.page import Page, Services
from dashboard.panel import Panel, attrs, live, live_attr
from dashboard.panels import chart_clicks, long_text, numbers, rows, time_bar
from dashboard.panels.agent_charts import Metric, Return, Reward
from dashboard.panels.agents import Agents
from dashboard.panels.chart_choice import KEPT, inputs
from dashboard.panels.chips import PLACES, Chips
from dashboard.panels.frame import Frame
from dashboard.panels.head import Head
from dashboard.panels.now import Now
from dashboard.panels.numbers import Numbers
from dashboard.panels.plumbing import Plumbing
from dashboard.panels.rows import Rows
from dashboard.panels.time_bar import TimeBar
from dashboard.panels.training import Training
from dashboard.time.feed import TimedFeed

TABS = {
    "agent": "Agents",
    "rollouts": "Rollouts",
    "metrics": "Metrics",
    "log": "Log",
    "config": "Config",
    "dead-letters": "Dead letters",
}
"""The address's `panel` → the tab's text."""
SOMETIMES = ("rollouts", "dead-letters")
"""Tabs of what not every run has: shown by the live key `tab.<panel>`."""

UNKNOWN = "It may not have sent anything yet: this page stays open and shows it as soon as it does."


class RunPage(Page):
    """A tab of a run's page: the head stands over each of them."""

    tab = "agent"

    def shows(self, address: Address) -> bool:
        """Whether this tab is at an address."""
        return address.run is not None and address.get("panel", "agent") == self.tab

    def key(self, address: Address) -> str:
        """The run and the tab."""
        return f"{self.tab} {address.run}"

    def crumb(self, address: Address) -> str:
        """The run."""
        return address.run or ""

    def view(self, address: Address) -> View:
        """What the tab needs to know."""
        return View(run_id=address.run, agents=False)

    def feed(self, feeds: Feeds, address: Address) -> Feed:
        """The run's news."""
        return RunFeed(feeds, self.view(address), address.get("agent") or None)

    def panels(self, address: Address) -> list[Panel]:
        """The head; each tab adds its own."""
        return [Head(), Plumbing()]

    def layout(self, address: Address) -> Component:
        """Head, tabs and the tab's body; or that nobody has heard of the run."""
        unknown = html.Div(
            [
                html.H2("No run has this id"),
                html.P(address.run, className="muted mono"),
                html.P(UNKNOWN, className="muted"),
            ],
            className="empty",
        )
        bar = html.Div([tabs(address, self.tab), Plumbing().layout()], className="run-bar")
        known = html.Div([Head().layout(), bar, self.body(address)], className="known")
        return html.Div([unknown, known], className="run", **live_attr(data_state="run.state"))

    def body(self, address: Address) -> Component:
        """What stands under the tabs."""
        raise NotImplementedError

    def own(self) -> list[Component]:
        """The users' panels, each in its columns."""
        return [own(plugin.layout(), plugin.id, plugin.width) for plugin in self._plugins]


class AgentPage(RunPage):
    """One agent: what it does now, and how its training goes. Every tab that is not there leads here."""

    def shows(self, address: Address) -> bool:
        return address.run is not None

    def view(self, address: Address) -> View:
        return View(run_id=address.run, agents=True)

    def feed(self, feeds: Feeds, address: Address) -> Feed:
        """The run's news, live or at the moment that the viewer has chosen."""
        live = RunFeed(feeds, self.view(address), address.get("agent") or None)
        return TimedFeed(feeds, live, address)

    def panels(self, address: Address) -> list[Panel]:
        charts = [Return(), Reward(), Chips(), *(Metric(place) for place in range(PLACES))]
        return [
            *super().panels(address),
            Agents(),
            TimeBar(),
            Training(),
            Numbers(),
            Now(),
            Frame(),
            *charts,
            Rows(),
        ]

    def body(self, address: Address) -> Component:
        """The agents' tabs beside one agent's panels."""
        charts = [Return().layout(), Now().layout(), Reward().layout()]
        charts += [Metric(place).layout() for place in range(PLACES)]
        stage = html.Div(charts, className="stage", **live_attr(data_framed="agent.framed"))
        bar = html.Div(
            [Chips().layout(), html.Div(inputs(address), className="chart-inputs")], className="chart-bar"
        )
        parts = [
            TimeBar().layout(),
            Training().layout(),
            Numbers().layout(),
            bar,
            stage,
            html.Div(self.own(), className="own"),
            Rows().layout(),
        ]
        marks = live_attr(data_seq="agent.seq", style="agent.tone", data_acts="agent.acts")
        tab = attrs(role="tabpanel", aria_label="Agent", data_keep=" ".join((*KEPT, "number")))
        agent = html.Div(parts, id="agent", className="agent", tabIndex="-1", **marks, **tab)
        sizes = live_attr(data_agents="agents.size", data_search="agents.search")
        return html.Div([Agents().layout(), agent], className="run-body", **sizes)

    def register(self, app: Dash, services: Services) -> None:
        time_bar.register(app)
        rows.register(app, services)
        chart_clicks.register(app)
        long_text.register(app, services)
        numbers.register(app)


def tabs(address: Address, chosen: str) -> Component:
    """The parts of a run."""
    links = [
        html.A(
            text,
            href=Address(address.path).to(
                agent=address.get("agent"), panel=None if name == "agent" else name
            ),
            className="nav-link" + (" active" if name == chosen else ""),
            **attrs(**({"aria_current": "page"} if name == chosen else {})),
            **(_only_where_some(name, shown=name == chosen) if name in SOMETIMES else {}),
        )
        for name, text in TABS.items()
    ]
    return html.Nav(links, className="nav nav-underline run-tabs", **attrs(aria_label="Parts of the run"))


def _only_where_some(name: str, *, shown: bool) -> dict[str, Any]:
    return live_attr(data_some=f"tab.{name}") | attrs(**({"data_some": "yes"} if shown else {}))


def own(layout: Component, id: str, width: int) -> Component:
    """A panel in its columns, with a line for what fails in it."""
    failure = live(f"failed.{id}", html.P, "", className="panel-failure")
    return html.Div([layout, failure], className=f"col-{width}")
