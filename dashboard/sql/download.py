"""An agent's steps or episodes as CSV, streamed page by page: every row, every text in full."""

from __future__ import annotations

import csv as csv_writer
import io
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from dashboard.live.merge import natural_index
from dashboard.sql.queries import Page, PageRequest, Queries

_BOTH = ("timestamp", "stream_id", "seq", "worker", "agent", "episode")
_ENDED = ("terminated", "truncated")
COLUMNS = {
    "steps": (*_BOTH, "step", "episode_seed", "action", "reward", *_ENDED, "observation", "info", "metrics"),
    "episodes": (*_BOTH, "steps", "total_reward", *_ENDED, "seed", "episode_seed", "mode", "game", "outcome"),
}
BLOCK = 200


def csv(queries: Queries, asked: Mapping[str, str]) -> tuple[str, AsyncIterator[str]]:
    """A file name, and the lines."""
    kind = "episodes" if asked.get("kind") == "episodes" else "steps"
    words = [asked.get("run", "run"), asked.get("agent", "all"), kind]
    name = "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", word)[:60] for word in words)
    return f"{name}.csv", _lines(queries, dict(asked), kind)


async def _lines(queries: Queries, asked: dict[str, Any], kind: str) -> AsyncIterator[str]:
    yield _text([COLUMNS[kind]])
    start = 0
    while rows := (await _page(queries, asked, kind, start)).rows:
        yield _text([[_cell(row.get(name)) for name in COLUMNS[kind]] for row in rows])
        start += len(rows)


async def _page(queries: Queries, asked: Mapping[str, Any], kind: str, start: int) -> Page:
    """Rows from `start` on in the order of an index, which reaches all of them."""
    request = PageRequest(start, start + BLOCK, [{"colId": "episode", "sort": "asc"}])
    of = str(asked.get("run")), asked.get("agent"), request, natural_index(asked.get("episode"))
    return await (queries.episodes(*of) if kind == "episodes" else queries.steps(*of, full=True))


def _text(rows: Any) -> str:
    out = io.StringIO()
    csv_writer.writer(out).writerows(rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A spreadsheet takes a text that begins like a formula for one: a quote before it keeps it text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+@\t\r" else value
