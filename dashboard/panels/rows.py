"""The tables of an agent: its newest steps and episodes as they come, and every one out of SQL."""

from __future__ import annotations

import time
from collections import deque
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import dash_bootstrap_components as dbc
from dash import ClientsideFunction, Dash, Input, Output, State, html, no_update
from dash.development.base_component import Component

from dashboard import form, grids
from dashboard.address import Address
from dashboard.controls import held, patch, patched, segments
from dashboard.live import wire
from dashboard.live.decode import NEWEST_STEPS
from dashboard.page import Services
from dashboard.panel import Drawn, History, News, Panel, Row, attrs, live, live_attr
from dashboard.panels import long_text
from dashboard.sql import history
from dashboard.sql.queries import PageRequest
from schemas.errors import StepstreamError

KINDS = {"steps": "Steps", "episodes": "Episodes"}
MODES = {"newest": "Newest", "all": "All"}
ROWS = 200
"""Newest rows that are kept where the browser has not set another number."""
FEW = NEWEST_STEPS
"""Rows that are drawn while more than these come between two draws: nobody reads what is replaced at once."""
MOST_ROWS = 1000
REFRESH_S = 3.0
LOOKED_AT = 100
"""Rows at each end of a run that tell which columns are empty."""
ENDS: tuple[list[dict[str, Any]], ...] = ([], [{"colId": "episode_index", "sort": "asc"}])
COPIED = 500
"""Rows of every one that are copied."""
LISTENERS = {"cellClicked": ["stepstreamOpen(params)"], "cellFocused": ["stepstreamReach(params)"]}


class Rows(Panel):
    """Two tables, each of the newest or of every row. A table of every row is made when it is first shown."""

    title, every, width = "Rows", 0.5, 12

    def reset(self) -> None:
        kept = str(self.settings.get("buffer"))
        kept_rows = min(int(kept), MOST_ROWS) if kept.isdecimal() else ROWS
        self.newest: dict[str, deque[Row]] = {kind: deque(maxlen=kept_rows) for kind in KINDS}
        self.came = dict.fromkeys(KINDS, 0)
        """How many came since the last draw."""
        self.run: dict[str, Any] = getattr(self, "run", {})
        self.agent: str | None = None
        self.live = getattr(self, "live", True)
        self.stored: int | None = None
        self.read: tuple[int | None, float] = (None, 0.0)
        """How much was stored when the table of every row was read, and when that was."""
        self.made: set[str] = getattr(self, "made", set())
        """Tables of every row that the page has."""
        self.view: dict[str, Any] = {}
        self.filled: dict[str, set[str]] = {}
        """Columns that a row of the agent fills, by table; nothing where that is not known."""
        self.columns: dict[str, set[str]] = {}
        """Columns that each grid of the page shows, by its id."""

    def seek(self) -> None:
        for rows in self.newest.values():
            rows.clear()

    def layout(self) -> Component:
        live_grids = [_live_table(kind) for kind in KINDS]
        every = [_every(kind) for kind in KINDS]
        # no dcc.Store: one that is made again has what the one before it had
        stores = [html.Span(id=name, hidden=True) for name in ("rows-view", "copied")]
        toast = html.Div(id="toast", className="toast-box", role="status")
        marks = live_attr(data_shown="rows.shown")
        return html.Section(
            [self._bar(), *live_grids, *every, held(), *stores, toast, *long_text.layout()],
            className="card table-card",
            **marks,
        )

    @staticmethod
    def _bar() -> Component:
        chip = html.Button(
            [live("rows.episode", text=""), " ✕"],
            type="button",
            className="chip",
            title="Show all episodes",
            id="episode-chip",
            **attrs(aria_pressed="true"),
            **patch({"episode": None, "at": None, "step": None}),
        )
        download = html.A(
            "Download CSV",
            className="btn btn-sm",
            id="download",
            download="",
            **live_attr(href="rows.download"),
        )
        return html.Div(
            [
                segments("rows.table", "table", KINDS, "Table"),
                segments("rows.mode", "rows", MODES, "Rows"),
                html.Span(chip, className="chip-box", **live_attr(data_episode="rows.chosen")),
                _go_to("episode", "Episode"),
                _go_to("step", "Step"),
                html.Span(className="flex-fill"),
                html.Button("Copy TSV", type="button", className="btn btn-sm", id="copy-tsv"),
                download,
            ],
            className="table-bar",
        )

    def moved(self) -> None:
        self.dirty = True

    async def load(self, history: History) -> None:
        """Columns that are empty for the whole run are hidden, as far as its first and newest rows tell."""
        if history.agent_id is None or self.filled:
            return
        of, queries = (history.run_id, history.agent_id), history.queries
        for kind, read in (("steps", queries.steps), ("episodes", queries.episodes)):
            ends = [await read(*of, PageRequest(0, LOOKED_AT, order)) for order in ENDS]
            self.filled[kind] = grids.filled(kind, [row for page in ends for row in page.rows])
        self.dirty = True

    def take(self, news: News) -> None:
        if news.run is not None:
            self.run = news.run
        self.agent = news.agent
        if news.clock is not None:
            self.dirty = self.dirty or self.live != (news.clock.state == "live")
            self.live = news.clock.state == "live"
        for kind, rows in (("steps", news.steps), ("episodes", news.episodes)):
            self.newest[kind].extend(rows)
            self.came[kind] += len(rows)
        if news.counters is not None:
            self.stored = news.counters.stored
        self.dirty = (
            self.dirty or bool(news.steps or news.episodes or news.run or news.counters) or news.first
        )

    @property
    def _kind(self) -> str:
        return "episodes" if self.address.get("table") == "episodes" else "steps"

    @property
    def _mode(self) -> str:
        """What is over, or looked at by episode, is read from SQL; what runs or ran shows its newest."""
        if (wanted := self.address.get("rows")) in MODES:
            return wanted
        over = self.live and self.run.get("status", "running") != "running"
        return "all" if over or self.address.number("episode") is not None else "newest"

    def draw(self) -> Drawn:
        kind, mode, episode = self._kind, self._mode, self.address.number("episode")
        view = {"run": self.address.run, "agent": self.agent, "kind": kind, "mode": mode, "episode": episode}
        query = {name: value for name, value in view.items() if value is not None and name != "mode"}
        texts = {
            "rows.table": kind,
            "rows.mode": mode,
            "rows.shown": f"{mode}-{kind}",
            "rows.chosen": "" if episode is None else "yes",
            "rows.episode": "" if episode is None else f"Episode {episode}",
            "rows.download": f"/download?{urlencode(query)}",
        }
        props = self._every(view) if mode == "all" else self._newest(kind)
        if view != self.view:
            self.view = view
            props = {"rows-view": {"data-view": view}} | props
        return texts | props

    def _newest(self, kind: str) -> dict[str, Any]:
        self.dirty = self.came[kind] > FEW  # the rest comes when they calm down
        most = FEW if self.dirty else None
        rows = [self._shown(kind, row) for row in islice(reversed(self.newest[kind]), most)]
        self.came = dict.fromkeys(KINDS, 0)
        if kind in self.filled:
            self.filled[kind] |= grids.filled(kind, rows)
        made = {"rowData": grids.slots(rows)}
        if (columns := self._columns(f"newest-{kind}", kind)) is not None:
            made["columnDefs"] = grids.still(columns)
        return {f"newest-{kind}": made}

    def _columns(self, grid: str, kind: str) -> list[grids.Definition] | None:
        """The columns of a grid, where it has to show others."""
        filled = self.filled.get(kind)
        if filled is None or filled == self.columns.get(grid):
            return None
        self.columns[grid] = set(filled)
        return grids.hiding(kind, filled)

    def _shown(self, kind: str, row: Row) -> dict[str, Any]:
        record: Any = row.record
        if kind == "steps":
            return row.once("shown", lambda: linked(kind, wire.step(record, row.agent_id)))
        return linked(kind, wire.episode(record, row.agent_id, self.run))

    def _every(self, view: dict[str, Any]) -> dict[str, Any]:
        """The table of every row follows the view at once, and SQL every few seconds."""
        kind, now = view["kind"], time.monotonic()
        columns = self._columns(f"grid-{kind}", kind)
        if kind not in self.made:
            self.made.add(kind)
            self.read = self.stored, now
            table = grids.list_grid(f"grid-{kind}", columns or grids.TABLES[kind], eventListeners=LISTENERS)
            return {f"every-{kind}": {"children": table}}
        return {f"grid-{kind}": made} if (made := self._changes(view, columns, now)) else {}

    def _changes(
        self, view: dict[str, Any], columns: list[grids.Definition] | None, now: float
    ) -> dict[str, Any]:
        """What a table of every row does about a new view, and about rows that came."""
        made: dict[str, Any] = {} if columns is None else {"columnDefs": columns}
        if view != self.view:
            self.read = self.stored, now
            return made | {"api": ["purgeInfiniteCache"]}
        if self.stored != self.read[0] and now - self.read[1] > REFRESH_S:
            self.read = self.stored, now
            return made | {"api": ["refreshInfiniteCache"]}
        return made


def _every(kind: str) -> Component:
    """Where the table of every row comes, and over it why rows are missing."""
    problem = html.P(id=f"problem-{kind}", role="alert", className="panel-failure")
    return html.Div([problem, html.Div(id=f"every-{kind}")], className=f"rows all-{kind}")


def _live_table(kind: str) -> Component:
    table = grids.live_grid(f"newest-{kind}", grids.TABLES[kind], rowData=[], eventListeners=LISTENERS)
    return html.Div(table, className=f"rows newest-{kind}", **attrs(data_hold=""))


def linked(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row with the change of the address that a click on it makes."""
    if kind == "steps":
        return row | {"patch": patched(at=f"{row['stream_id']}/{row['seq']}", step=None)}
    if row["episode_index"] is None:
        return row
    return row | {
        "patch": patched(episode=row["episode_index"], table="steps", rows=None, at=None, step=None)
    }


def _go_to(name: str, text: str) -> Component:
    field = dbc.Input(type="number", id=f"go-to-{name}", min=0, step=1, debounce=True, class_name="go-to")
    return html.Label([text, field], className="option", **attrs(data_address=name))


def register(app: Dash, services: Services) -> None:
    """Fill the tables of every row, copy a table."""
    for kind in KINDS:
        _register_table(app, services, kind)

    @app.callback(
        Output("copied", "data-text"),
        Output("toast", "children"),
        Input("copy-tsv", "n_clicks"),
        State("rows-view", "data-view"),
        State("newest-steps", "rowData"),
        State("newest-episodes", "rowData"),
        State("url", "search"),
        State("setting-buffer", "value"),
        prevent_initial_call=True,
    )
    async def copy(_: Any, view: dict[str, Any], *asked: Any) -> Any:
        steps, episodes, search, kept = asked
        view = view | {"mode": Address.of(f"/{search or ''}").get("rows", view["mode"])}
        kind = view["kind"]
        rows = episodes if kind == "episodes" else steps
        most = COPIED if view["mode"] == "all" else int(kept)
        try:
            stored = (await history.read(services.queries, view, {"startRow": 0, "endRow": most})).rows
        except StepstreamError:
            if view["mode"] == "all":
                return no_update, no_update
            stored = []
        if view["mode"] == "all" or not _ahead(rows, stored):  # the newest may not have been drawn yet
            rows = stored
        listed = [row | {"event_time": form.iso(row["event_time"])} for row in (rows or [])[:most]]
        copied = {"text": grids.tsv(grids.TABLES[kind], listed), "at": time.time()}
        return copied, f"{len(listed)} rows copied"

    in_browser: Any = app.clientside_callback  # untyped in Dash
    copy_it = ClientsideFunction("stepstream", "copy")
    in_browser(copy_it, Output("copied", "title"), Input("copied", "data-text"), prevent_initial_call=True)


def _ahead(drawn: list[dict[str, Any]] | None, stored: list[dict[str, Any]]) -> bool:
    """Whether the rows that the page has drawn, newest first, begin later than those in SQL."""
    if not drawn or not stored:
        return bool(drawn)
    return bool(drawn[0]["event_time"] > stored[0]["event_time"])


def _register_table(app: Dash, services: Services, kind: str) -> None:
    @app.callback(
        Output(f"grid-{kind}", "getRowsResponse"),
        Output(f"problem-{kind}", "children"),
        Input(f"grid-{kind}", "getRowsRequest"),
        State("rows-view", "data-view"),
        prevent_initial_call=True,
    )
    async def fill(request: dict[str, Any] | None, view: dict[str, Any] | None) -> Any:
        if not request or not view:
            return no_update, no_update
        page, problem = await history.answer(services.queries, view | {"kind": kind}, request)
        return page | {"rowData": [linked(kind, row) for row in page["rowData"]]}, problem
