"""Whether everything that the dashboard reads from is well: each server, what waits, and dead letters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, NamedTuple

from dash import html
from dash.development.base_component import Component

from dashboard import form
from dashboard.live.feeds import Feeds
from dashboard.live.shared import Shared
from dashboard.live.types import RunRow, ServiceRow
from dashboard.panel import Drawn, History, Panel, attrs
from infra import doctor
from infra.settings import Settings
from schemas.errors import StepstreamError

EVERY_S = 3.0
SILENT_S = 15.0
"""A live service that has said nothing for so long is away."""
LATE_S = 30.0
NAMES = {"home": "Home folder", "registry": "Schema registry", "sql": "SQL"}
NO_LETTERS = "Every line of every run could be used."


class Line(NamedTuple):
    """One part of the system."""

    name: str
    status: str
    """As `theme.css` colours it: completed (well), silent (late), failed, idle (nothing known)."""
    words: str


Found = tuple[list[Line], dict[str, int] | None]
"""Each part, and how many dead letters have which reason; None where SQL is away."""


async def examined(settings: Settings, feeds: Feeds) -> Found:
    """What every part says now."""
    found, live, stored, runs, reasons = await asyncio.gather(
        asyncio.to_thread(doctor.examine, settings, "dashboard"),
        _or_none(feeds.buffer.service()),
        _or_none(_behind(feeds)),
        _or_none(feeds.buffer.runs()),
        _or_none(feeds.queries.reasons()),
    )
    servers = [
        Line(NAMES.get(one.part, one.part.capitalize()), "completed" if one.ok else "failed", one.message)
        for one in found
    ]
    return [*servers, _spools(runs), _live(live, runs), _stored(stored)], reasons


async def _or_none(asked: Awaitable[Any]) -> Any:
    with suppress(StepstreamError):
        return await asked


async def _behind(feeds: Feeds) -> tuple[float, int]:
    """How much older the newest record in SQL is than that in Redis, in seconds; records that SQL lacks."""
    live, page = await feeds.buffer.runs(), await feeds.runs(fresh=True)
    newest = max((row.last_seen_at for row in live), default=0)
    kept = max((row["last_seen_at"] or 0 for row in page.rows), default=0)
    lacking = await feeds.queries.unstored(await feeds.buffer.positions())
    return (max(newest - kept, 0) / 1000 if newest else 0.0), lacking


def _spools(runs: list[RunRow] | None) -> Line:
    """What waits beside the workers, as their newest heartbeats say."""
    name = "Spools"
    if runs is None:
        return Line(name, "idle", "unknown while Redis does not answer")
    told = [(oldest_line(run), run.name or run.run_id) for run in runs if run.status == "running"]
    if not told:
        return Line(name, "idle", "no run is running")
    seconds, run = max(told)
    if not seconds:
        return Line(
            name, "completed", "Kafka has acknowledged every line, as the heartbeats of running runs say"
        )
    words = f"the oldest line not on Kafka yet has waited for {form.short(seconds * 1000)} (run {run})"
    return Line(name, "silent" if seconds > LATE_S else "completed", words)


def oldest_line(run: RunRow) -> float:
    """Seconds that a run's oldest line waits beside its worker; 0: none waits."""
    said = json.loads(run.heartbeat or "{}").get("spool_seconds")
    return float(said) if isinstance(said, (int, float)) else 0.0


def _live(row: ServiceRow | None, runs: list[RunRow] | None) -> Line:
    """What the live service said last; it has nothing to say while no run is running."""
    name = "Live path"
    if row is None:
        return Line(name, "idle", "unknown while Redis does not answer")
    if not row.at:
        return Line(name, "silent", "no live service has said anything yet: start `stepstream live`")
    if row.silent_seconds > SILENT_S and not any(run.status == "running" for run in runs or ()):
        said = form.duration(row.silent_seconds * 1000)
        return Line(name, "idle", f"no run is running; the newest record was shown {said} ago")
    if row.silent_seconds > SILENT_S:
        words = f"silent for {form.duration(row.silent_seconds * 1000)}: is `stepstream live` running?"
        return Line(name, "failed", words)
    words = f"{form.compact(row.lag)} records wait on Kafka, {form.rate(row.rate)} records/s"
    if row.skipped:
        words += f", {form.compact(row.skipped)} were jumped over so that the newest are shown"
    return Line(name, "completed", words)


def _stored(behind: tuple[float, int] | None) -> Line:
    name = "Storing"
    if behind is None:
        return Line(name, "idle", "unknown while Redis or SQL does not answer")
    seconds, records = behind
    words = f"SQL is {form.short(seconds * 1000)} and {form.compact(records)} records behind Redis"
    if seconds > LATE_S:
        return Line(name, "silent", f"{words}: is `stepstream persist` running?")
    return Line(name, "completed", words)


class Health(Panel):
    """A line for each part, and a table of dead letters by reason.

    Args:
        asked: examines every part.
    """

    title, every, width, place = "Health", 0.5, 12, "home"

    def __init__(self, asked: Shared[Found] | None = None) -> None:
        self._asked = asked
        self.found: Found | None = None

    def layout(self) -> Component:
        asking = html.P("Asking each server", className="none")
        return html.Div(asking, id="health", className="health", **attrs(aria_live="polite"))

    async def load(self, history: History) -> None:
        while self._asked is not None:
            self.found, self.dirty = await self._asked(fresh=True), True
            self.wake()
            await asyncio.sleep(EVERY_S)

    def draw(self) -> Drawn:
        if self.found is None:
            return {}
        listed, reasons = self.found
        wrong = sum(line.status in ("failed", "silent") for line in listed)
        title = f"{wrong} of {len(listed)} need attention" if wrong else "All is well"
        drawn = {"children": [_parts(listed), _letters(reasons)]}
        return {"health": drawn, "page.title": f"{title} · stepstream"}


def _parts(listed: list[Line]) -> Component:
    rows = [html.Tr([html.Th(_status(line), scope="row"), html.Td(line.words)]) for line in listed]
    return html.Section(html.Table(html.Tbody(rows), className="config"), className="card")


def _status(line: Line) -> Component:
    return html.Span(line.name, className="status", **attrs(data_status=line.status))


def _letters(reasons: dict[str, int] | None) -> Component:
    if reasons is None:
        body: Component = html.P("Unknown while SQL does not answer.", className="none")
    elif not reasons:
        body = html.P(NO_LETTERS, className="none")
    else:
        counted = [(html.Th(name, scope="row"), html.Td(form.compact(n))) for name, n in reasons.items()]
        rows = [html.Tr(list(cells)) for cells in counted]
        body = html.Table(html.Tbody(rows), className="config")
    head = html.Div(html.H3("Dead letters by reason, all runs"), className="panel-head")
    return html.Section([head, body], className="card")
