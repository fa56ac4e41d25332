"""The table of runs: a row each, born with a run's first record."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

from dash import html
from dash.development.base_component import Component

from dashboard import grids
from dashboard.panel import Drawn, History, News, Panel, attrs, live
from dashboard.panels import run_table
from dashboard.panels.run_table import STATES, Choice
from dashboard.panels.training import learning
from schemas.errors import StepstreamError

GROWN = 1.1
"""A run's learning curve is read again when it has so many times as many episodes."""


class Runs(Panel):
    """All runs as the address wants them: found, sorted, grouped."""

    title, every, width, place = "Runs", 0.5, 12, "home"
    row_ids: ClassVar = {"runs": "key"}

    def reset(self) -> None:
        self.choice = Choice.of(self.address)
        self.runs: dict[str, dict[str, Any]] = {}
        self.more: dict[str, dict[str, Any]] = {}
        """What is read of a run beside its row: its curve and its tags."""
        self.curves_of: dict[str, int] = {}
        self.shown: dict[str, dict[str, Any]] | None = None
        self.columns: list[dict[str, Any]] = []
        self.keys: list[str] | None = None
        self.history: History | None = None
        self.reading: asyncio.Task[None] | None = None
        self.heard = False

    def layout(self) -> Component:
        grid = grids.grid(
            "runs",
            run_table.definitions(Choice()),
            f"params.data.{self.row_ids['runs']}",
            options={
                "rowHeight": 40,
                "rowClassRules": {"group-row": "params.data.group === true"},
                "rowSelection": {
                    "mode": "multiRow",
                    "enableClickSelection": False,
                    "isRowSelectable": {"function": "params.data.group !== true"},
                },
            },
        )
        return html.Section(grid, className="card table-card runs-grid", **attrs(data_hold=""))

    def moved(self) -> None:
        self.choice = Choice.of(self.address)
        self.dirty = True

    async def load(self, history: History) -> None:
        self.history = history
        await self._more(history)

    def take(self, news: News) -> None:
        self.heard = True
        self.runs |= {row["run_id"]: run_table.with_keys(row) for row in news.runs}
        self.dirty = self.dirty or bool(news.runs) or news.first
        self._read_more()

    def draw(self) -> Drawn:
        known = [run | self.more.get(run["run_id"], {}) for run in self.runs.values()]
        found = run_table.matching(known, self.choice)
        rows = run_table.grouped(run_table.ordered(found, self.choice), self.choice, time.time() * 1000)
        drawn: dict[str, Any] = {"runs.state": self._state(len(rows))}
        drawn["runs.status"] = self.choice.status
        drawn |= {f"runs.count.{name}": str(count) for name, count in self._counts(found).items()}
        table = self._columns() | self._rows({row["key"]: row for row in rows})
        if table:
            drawn["runs"] = table
        keys = run_table.config_keys(known)
        if keys != self.keys:
            self.keys = keys
            drawn |= choices(keys, self.choice)
        running = sum(run["status"] == "running" for run in known)
        return drawn | {"page.title": f"{running} running" if running else "Runs"}

    def _state(self, rows: int) -> str:
        if not self.heard:
            return "waiting"
        return "some" if rows else "none" if self.runs else "empty"

    def _counts(self, found: list[run_table.Run]) -> dict[str, int]:
        counts = {state: sum(run["status"] == state for run in found) for state in STATES}
        return {"all": len(found)} | counts

    def _columns(self) -> dict[str, Any]:
        columns = run_table.definitions(self.choice)
        if columns == self.columns:
            return {}
        self.columns = columns
        return {"columnDefs": columns}

    def _rows(self, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """The table's rows; only those that changed, where none came, went or moved."""
        before, self.shown = self.shown, rows
        if before is None or list(before) != list(rows):
            return {"rowData": list(rows.values())}
        changed = [row for key, row in rows.items() if before[key] != row]
        return {"rowTransaction": {"update": changed, "async": False}} if changed else {}

    def _read_more(self) -> None:
        if self.history is not None and (self.reading is None or self.reading.done()):
            self.reading = asyncio.ensure_future(self._more(self.history))

    async def _more(self, history: History) -> None:
        """Curves and tags of runs, one after the other: nobody waits for them."""
        try:
            for run_id, run in list(self.runs.items()):
                episodes = run.get("episodes") or 0
                if self.curves_of.get(run_id, -1) * GROWN >= episodes:
                    continue
                self.curves_of[run_id] = episodes
                curve = await history.queries.learning_curve(run_id) if episodes else []
                tags = self.more.get(run_id, {}).get("tags")
                if tags is None:
                    tags = await history.queries.tags(run_id)
                steps = await history.queries.training_steps(run_id, fresh=True) if episodes else []
                self.more[run_id] = {"curve": curve, "tags": tags} | learning(steps)
                self.dirty = True
                self.wake()
        except StepstreamError:
            self.curves_of.clear()  # the page says that SQL is away; then once more


def choices(keys: list[str], choice: Choice) -> dict[str, Any]:
    """The lists to choose groups and columns from, with every key of the configurations."""
    of_config = {f"config.{key}": f"config: {key}" for key in keys}
    groups = run_table.GROUPS | of_config
    columns = {one.field: one.name for one in run_table.COLUMNS} | of_config
    chosen = [one.field for one in choice.shown()]
    return {
        "runs-group": {"options": [{"value": value, "label": words} for value, words in groups.items()],
                       "value": choice.group or "none"},
        "runs-columns": {"options": [{"value": value, "label": words} for value, words in columns.items()],
                         "value": chosen},
    }  # fmt: skip


def count(state: str) -> Component:
    """How many runs have a state."""
    return live(f"runs.count.{state}", html.Small, "")
