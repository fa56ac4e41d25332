"""A run's configuration beside that of another run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import dash_bootstrap_components as dbc
from dash import html
from dash.development.base_component import Component

from dashboard.address import run_link
from dashboard.panel import Drawn, History, News, Panel, attrs
from dashboard.sql.queries import PageRequest

MAX_KEYS = 2000
RUNS = 50
"""Runs that can be chosen to compare with."""


class ConfigTable(Panel):
    """Each key with its value, and where the other run has another one."""

    title, every, width, of_run = "Config", 0.3, 12, True

    def reset(self) -> None:
        self.run: dict[str, Any] = {}
        self.other: dict[str, Any] | None = None
        self.listed: list[dict[str, Any]] = []
        self.config = ""

    def layout(self) -> Component:
        return html.Div(id="config")

    async def load(self, history: History) -> None:
        queries, wanted = history.queries, self.address.get("with")
        if wanted:
            header = await queries.run(wanted)
            self.other = header.run if header is not None else None
        else:
            self.other = await queries.before(history.run_id)
        page = await queries.runs(PageRequest(0, RUNS))
        self.listed = [row for row in page.rows if row["run_id"] != history.run_id]
        self.dirty = True

    def take(self, news: News) -> None:
        if news.run is not None and (news.run.get("config") or "") != self.config:
            self.dirty = True
        if news.run is not None:
            self.run, self.config = news.run, news.run.get("config") or ""
        self.dirty = self.dirty or news.first

    def draw(self) -> Drawn:
        mine, other = flat(self.config), flat((self.other or {}).get("config"))
        if not mine and not other:
            text = "This run has named no configuration."
            return {"config": {"children": html.P(text, className="none muted")}}
        return {"config": {"children": [self._bar(mine, other), self._table(mine, other)]}}

    def _bar(self, mine: Mapping[str, str], other: Mapping[str, str]) -> Component:
        options: Any = [
            {"value": row["run_id"], "label": row.get("name") or row["run_id"]} for row in self.listed
        ]
        chosen = self.other["run_id"] if self.other is not None else ""
        select = dbc.Select(id="config-with", options=options, value=chosen, size="sm")
        label = html.Label(["Compare with", select], className="option", **attrs(data_address="with"))
        changed = sum(mine.get(key) != other.get(key) for key in {*mine, *other})
        words = "no other run" if self.other is None else f"{changed} of {len({*mine, *other})} differ"
        return html.Div([label, html.Span(words, className="muted")], className="table-bar")

    def _table(self, mine: Mapping[str, str], other: Mapping[str, str]) -> Component:
        heads: list[Any] = [html.Th("Key"), html.Th("This run")]
        if self.other is not None:
            name = _name(self.other)
            heads.append(html.Th(html.A(name, href=run_link(self.other["run_id"]))))
        keys = list(dict.fromkeys([*mine, *other] if self.other is not None else mine))[:MAX_KEYS]
        rows = [self._row(key, mine.get(key), other.get(key)) for key in keys]
        return html.Table([html.Thead(html.Tr(heads)), html.Tbody(rows)], className="config")

    def _row(self, key: str, mine: str | None, other: str | None) -> Component:
        cells = [html.Th(key, scope="row"), html.Td("–" if mine is None else mine)]
        if self.other is None:
            return html.Tr(cells)
        cells.append(html.Td("–" if other is None else other))
        return html.Tr(cells, className="changed" if mine != other else "")


def _name(row: Mapping[str, Any]) -> str:
    return str(row.get("name") or row["run_id"])


def flat(config: Any) -> dict[str, str]:
    """A configuration as dotted keys with values as text; lists stay as they are."""
    try:
        found = json.loads(config) if isinstance(config, str) and config else config
    except (ValueError, RecursionError):
        return {"config": str(config)}
    out: dict[str, str] = {}
    _flatten(found if isinstance(found, dict) else {}, "", out)
    return out


def _flatten(part: Mapping[str, Any], prefix: str, out: dict[str, str], depth: int = 0) -> None:
    for key, value in part.items():
        if isinstance(value, dict) and value and depth < 20:
            _flatten(value, f"{prefix}{key}.", out, depth + 1)
        else:
            out[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
