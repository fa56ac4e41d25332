"""The tables of every row: what AG Grid's infinite row model asks for, page by page."""

from __future__ import annotations

from typing import Any

from dashboard.live import wire
from dashboard.live.merge import natural_index
from dashboard.sql.queries import Page, PageRequest, Queries
from schemas.errors import StepstreamError


async def answer(
    queries: Queries, view: dict[str, Any], request: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """The grid's `getRowsResponse`, and what to say above the grid: why rows are missing, else ""."""
    try:
        page = await read(queries, view, request)
    except StepstreamError as error:
        return {"rowData": [], "rowCount": 0}, f"These rows cannot be shown. {error}"
    capped = f"Sorted or filtered so, only the first {page.total:,} rows are shown." if page.capped else ""
    return {"rowData": page.rows, "rowCount": page.total}, capped


async def read(queries: Queries, view: dict[str, Any], request: dict[str, Any]) -> Page:
    """One page of the chosen table."""
    run_id, agent_id = str(view.get("run")), view.get("agent")
    asked = PageRequest.of(request)
    index = natural_index(view.get("episode"))
    if index is not None and not asked.sort:
        asked = PageRequest(asked.start, asked.end, [{"colId": "step_index", "sort": "asc"}], asked.filters)
    if view.get("kind") == "episodes":
        page = await queries.episodes(run_id, agent_id, asked, index)
        return Page([wire.light(row) for row in page.rows], page.total, page.capped)
    page = await queries.steps(run_id, agent_id, asked, index)
    return Page([wire.short(row) for row in page.rows], page.total, page.capped)
