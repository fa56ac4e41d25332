"""A run's dead letters: lines that could not be used, why, and how to send them again."""

from __future__ import annotations

import shlex

from dash import Dash, dcc, html
from dash.development.base_component import Component

from dashboard.address import Address
from dashboard.page import Services
from dashboard.pages.run import RunPage
from dashboard.panel import Panel
from dashboard.panels import dead_letters
from dashboard.panels.dead_letters import DeadLetters

REDRIVE = (
    "A letter is never deleted. Once the reader is newer or the line is mended, send it again: "
    "it keeps its run, stream and line, and is stored once."
)


class DeadLettersPage(RunPage):
    """The tab of dead letters, where a run has any."""

    tab = "dead-letters"

    def panels(self, address: Address) -> list[Panel]:
        """The table."""
        return [*super().panels(address), DeadLetters()]

    def body(self, address: Address) -> Component:
        """How to send letters again, over the table."""
        return html.Div([DeadLetters().layout(), _how(address.run or "")], id="panel-dead-letters")

    def register(self, app: Dash, services: Services) -> None:
        """Fill the table."""
        dead_letters.register(app, services)


def _how(run_id: str) -> Component:
    whole = f"stepstream dlq redrive {shlex.quote(run_id)}"
    commands = {
        "Read all of this run again": whole,
        "Mend one line by hand": f"{whole} --stream STREAM --seq LINE --raw 'LINE AS IT SHOULD BE'",
    }
    listed = [html.Li([words, _command(text)]) for words, text in commands.items()]
    parts = [html.H3("Send them again"), html.P(REDRIVE, className="muted"), html.Ul(listed)]
    return html.Section(parts, className="card how")


def _command(text: str) -> Component:
    return html.Div([html.Code(text), dcc.Clipboard(content=text, title="Copy")], className="command")
