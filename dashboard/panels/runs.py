"""The table of runs."""

from __future__ import annotations

from typing import Any

from dash import html
from dash.development.base_component import Component

from dashboard import form, grids
from dashboard.panel import Drawn, News, Panel

COLUMNS = [
    grids.column("status", "Status", 116, cellRenderer="RunStatus"),
    grids.column("name", "Run", 240, cellRenderer="RunLink", flex=2),
    grids.column("steps", "Steps", 90, type="rightAligned"),
]


class Runs(Panel):
    """A row for each run, born with its first record."""

    title, every, place = "Runs", 0.5, "home"

    def reset(self) -> None:
        self.known: set[str] = set()
        self.changed: dict[str, dict[str, Any]] = {}
        self.first = True

    def layout(self) -> Component:
        return html.Section(grids.grid("runs", COLUMNS, "params.data.run_id", 600), className="card")

    def take(self, news: News) -> None:
        for row in news.runs:
            shown = {
                "run_id": row["run_id"],
                "status": row["status"],
                "name": row.get("name") or row["run_id"],
            }
            self.changed[row["run_id"]] = shown | {"steps": form.compact(row.get("steps") or 0)}
        self.dirty = self.dirty or bool(news.runs) or news.first

    def draw(self) -> Drawn:
        add = [row for key, row in self.changed.items() if key not in self.known]
        update = [row for key, row in self.changed.items() if key in self.known]
        self.known |= self.changed.keys()
        self.changed, first, self.first = {}, self.first, False
        if first:
            return {"runs": {"rowData": add}}
        return {"runs": {"rowTransaction": {"add": add, "addIndex": 0, "update": update, "async": False}}}
