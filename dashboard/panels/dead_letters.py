"""The table of a run's dead letters, and a chip for each reason.

reason=<reason>    only letters of this reason
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from dash import Dash, Input, Output, State, html, no_update
from dash.development.base_component import Component

from dashboard import form, grids
from dashboard.address import Address
from dashboard.controls import patch
from dashboard.page import Services
from dashboard.panel import Drawn, History, News, Panel, attrs, live_attr
from dashboard.panels import long_text
from dashboard.sql import rows
from dashboard.sql.queries import PageRequest
from infra.sql import tables
from schemas.errors import StepstreamError

NONE_WORDS = "Every line of this run could be used."
COLUMNS = grids.definitions(
    rows.kinds(tables.DEAD_LETTERS),
    [
        grids.Column("event_time", "Time", 112),
        grids.Column("reason", "Reason", 130),
        grids.Column("field", "Field", 110),
        grids.Column("message", "What is wrong", 260, flex=2),
        grids.Column("seq", "Line", 80, numeric=True),
        grids.Column("stream_id", "Stream", 150),
        grids.Column("raw", "The line", 320, flex=3),
        grids.Column("redriven_at", "Sent again", 112),
    ],
)
for _column in COLUMNS:
    if _column["field"] in ("raw", "message"):
        _column |= {"cellClass": "long", "valueFormatter": {"function": "stepstreamLine(params.value)"}}


class DeadLetters(Panel):
    """Letters in pages out of SQL, the newest first; what comes is there by itself."""

    title, every, width, of_run = "Dead letters", 1.0, 12, True

    def reset(self) -> None:
        self.count: int | None = None
        """Letters of the run; None: not known yet."""
        self.reasons: dict[str, int] = {}
        self.stale = True
        """Whether there are other letters than the reasons were counted of."""
        self.asked = ""
        """The API of the grid that brings what the page does not have yet."""

    def layout(self) -> Component:
        chips = html.Div(id="letter-reasons", className="chips", **attrs(role="group", aria_label="Reason"))
        problem = html.P(id="problem-letters", role="alert", className="panel-failure")
        opened = {"cellClicked": ["stepstreamOpen(params)"]}
        table = grids.list_grid("letters", COLUMNS, eventListeners=opened)
        parts = [
            html.Div(chips, className="table-bar"),
            problem,
            html.Div(table, className="letters-grid"),
            html.P(NONE_WORDS, className="none"),
            *long_text.layout(),
        ]
        return html.Section(parts, className="card letters", **live_attr(data_state="letters.state"))

    def moved(self) -> None:
        self.asked, self.dirty = "purgeInfiniteCache", True

    async def load(self, history: History) -> None:
        while True:
            if self.stale:
                with suppress(StepstreamError):  # the page says that SQL is away
                    self.reasons = await history.queries.reasons(history.run_id)
                    self.stale, self.dirty = False, True
                    self.wake()
            await asyncio.sleep(self.every)

    def take(self, news: News) -> None:
        if news.counts is None or news.counts["dead_letters"] == self.count:
            return
        self.asked = self.asked or ("" if self.count is None else "refreshInfiniteCache")
        self.count, self.stale, self.dirty = news.counts["dead_letters"], True, True

    def draw(self) -> Drawn:
        chosen = self.address.get("reason")
        chips = [_chip(name, count, name == chosen) for name, count in self.reasons.items()]
        state = "" if self.count is None else "some" if self.count else "none"
        drawn: dict[str, Any] = {"letters.state": state}
        drawn["letter-reasons"] = {"children": chips}
        if self.asked:
            drawn["letters"] = {"api": [self.asked]}
            self.asked = ""
        return drawn


def _chip(name: str, count: int, pressed: bool) -> Component:
    marks = attrs(aria_pressed="true" if pressed else "false") | patch({"reason": None if pressed else name})
    return html.Button(f"{name} {form.compact(count)}", type="button", className="chip", **marks)


def register(app: Dash, services: Services) -> None:
    """Fill the table."""

    @app.callback(
        Output("letters", "getRowsResponse"),
        Output("problem-letters", "children"),
        Input("letters", "getRowsRequest"),
        State("url", "pathname"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    async def fill(request: dict[str, Any] | None, path: str, search: str | None) -> Any:
        if not request:
            return no_update, no_update
        address = Address.of((path or "/") + (search or ""))
        try:
            page = await services.queries.dead_letters(address.run or "", _of_reason(request, address))
        except StepstreamError as error:
            return {"rowData": [], "rowCount": 0}, f"These letters cannot be shown. {error}"
        return {"rowData": page.rows, "rowCount": page.total}, ""


def _of_reason(request: dict[str, Any], address: Address) -> PageRequest:
    filters = dict(request.get("filterModel") or {})
    if reason := address.get("reason"):
        filters["reason"] = {"filterType": "text", "type": "equals", "filter": reason}
    return PageRequest.of(request | {"filterModel": filters})
