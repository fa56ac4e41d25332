"""Reading a page of a table: any of a million rows in its index's order, else the first ten thousand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, select

from dashboard.sql import rows
from dashboard.sql.page import MAX_SORTED, Page, PageRequest, direction, order_by, where
from dashboard.sql.seek_index import BY_LINE, Order, SeekIndexes

NATURAL = {None, "event_time", "episode_index", "step_index"}
"""To sort by these is to take the index's own order, forwards or backwards."""


@dataclass(frozen=True)
class Listing:
    """Some rows of a table, the order that an index has for them, and their shape on the page."""

    table: Table
    of: ColumnElement[bool]
    name: Any
    """Tells these rows from others of the table."""
    order: Order
    shape: Callable[[Mapping[Any, Any]], dict[str, Any]]
    full: bool = False
    """Long texts whole, not only their heads."""

    def select(self) -> Select[Any]:
        """The rows' columns."""
        return select(*rows.selected(self.table, self.full))


def read_page(connection: Connection, indexes: SeekIndexes, listing: Listing, request: PageRequest) -> Page:
    """A page, the newest first unless the request says otherwise."""
    first = request.sort[0] if request.sort else {}
    if request.filters or first.get("colId") not in NATURAL:
        return _sorted_page(connection, listing, request)
    index = indexes.get(listing.name, connection, listing.table, listing.order, listing.of)
    if index.unplaced:  # rows without an episode or step number: as they were printed
        index = indexes.get(listing.name, connection, listing.table, BY_LINE, listing.of)
    window = index.window(listing.table, request.start, request.end, direction(first))
    if window is None:
        return Page([], index.total)
    statement = window(listing.select().where(listing.of))
    return Page([listing.shape(row) for row in connection.execute(statement).mappings()], index.total)


def _sorted_page(connection: Connection, listing: Listing, request: PageRequest) -> Page:
    table, columns = listing.table, rows.columns(listing.table)
    found = and_(listing.of, *where(request, columns))
    reached: Select[Any] = select(table.c.seq).where(found).limit(MAX_SORTED + 1)
    total = connection.execute(select(func.count()).select_from(reached.subquery())).scalar_one()
    count = min(request.end, MAX_SORTED) - request.start
    if count <= 0:
        return Page([], MAX_SORTED, capped=True)
    statement = (
        listing.select()
        .where(found)
        .order_by(*order_by(request, columns), table.c.stream_id.desc(), table.c.seq.desc())
        .offset(request.start)
        .limit(count)
    )
    listed = [listing.shape(row) for row in connection.execute(statement).mappings()]
    return Page(listed, min(total, MAX_SORTED), capped=total > MAX_SORTED)
