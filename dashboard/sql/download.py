"""An agent's steps or episodes, or one series, as CSV: every row, every text in full, page by page."""

from __future__ import annotations

import csv as csv_writer
import io
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from dashboard import form
from dashboard.live.merge import natural_index
from dashboard.sql import rows
from dashboard.sql.queries import Page, PageRequest, Queries, Series
from infra.sql.columns import TABLES
from infra.sql.tables import EPISODES, STEPS
from schemas.errors import UsageError

_BOTH = ("event_time", "stream_id", "seq", "worker_id", "agent_id")
COLUMNS = {
    "steps": (*_BOTH, *rows.OWN[STEPS], "seed"),
    "episodes": (*_BOTH, *rows.OWN[EPISODES], "run_seed", "mode", "game", "outcome"),
}
BLOCK = 200


def csv(queries: Queries, asked: Mapping[str, str]) -> tuple[str, AsyncIterator[str]]:
    """A file name, and the lines.

    Raises:
        UsageError: a series of a table that there is not.
    """
    kind = asked.get("kind", "steps")
    if kind == "series":
        series = _series(asked)
        return _name(series.run_id, series.agent_id or "all", series.name), _points(queries, series)
    kind = "episodes" if kind == "episodes" else "steps"
    name = _name(asked.get("run", "run"), asked.get("agent", "all"), kind)
    return name, _lines(queries, dict(asked), kind)


def _name(*words: str) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", word)[:60] for word in words) + ".csv"


def _series(asked: Mapping[str, str]) -> Series:
    source = next((name for name in TABLES if name == asked.get("source", "metrics")), None)
    if source is None:
        raise UsageError(f"There are no series of {asked.get('source')!r}: it is one of {', '.join(TABLES)}.")
    return Series(asked.get("run", ""), source, asked.get("name", ""), asked.get("agent"))


async def _points(queries: Queries, series: Series) -> AsyncIterator[str]:
    yield _text([("global_step", "episode_index", "event_time", _cell(series.name))])
    async for points in queries.points(series):
        yield _text((step, episode, form.iso(ms), value) for step, episode, ms, value in points)


async def _lines(queries: Queries, asked: dict[str, Any], kind: str) -> AsyncIterator[str]:
    yield _text([COLUMNS[kind]])
    start = 0
    while found := (await _page(queries, asked, kind, start)).rows:
        listed = [row | {"event_time": form.iso(row["event_time"])} for row in found]
        yield _text([[_cell(row[name]) for name in COLUMNS[kind]] for row in listed])
        start += len(found)


async def _page(queries: Queries, asked: Mapping[str, Any], kind: str, start: int) -> Page:
    """Rows from `start` on in the order of an index, which reaches all of them."""
    request = PageRequest(start, start + BLOCK, [{"colId": "episode_index", "sort": "asc"}])
    of = str(asked.get("run")), asked.get("agent"), request, natural_index(asked.get("episode"))
    return await (queries.episodes(*of) if kind == "episodes" else queries.steps(*of, full=True))


def _text(rows: Any) -> str:
    out = io.StringIO()
    csv_writer.writer(out).writerows(rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A spreadsheet takes a text that begins like a formula for one: a quote before it keeps it text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+@\t\r" else value
