"""Seeking to any row of a million: an index of some keys, each with how many rows come before it.

OFFSET walks all the rows that it skips: half a second for the last of a million in PostgreSQL. GROUP BY
over the index counts the rows of each stretch of keys once; from then on every page is a short range.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, or_, select, true, tuple_

from dashboard.sql.page import Direction

GROUPS_AT_ONCE = 50
MAX_INDEXES = 256
FRESH_S = 2.0
"""An index serves this long before the rows are counted again, and longer where counting is slow."""


@dataclass(frozen=True)
class Order:
    """An order that an index has: some columns, the last one cut into stretches of `stretch`."""

    columns: tuple[str, ...]
    stretch: int


BY_STEP = Order(("episode_index", "step_index"), 5_000)
BY_EPISODE = Order(("episode_index",), 1_000)
BY_LINE = Order(("stream_id", "seq"), 5_000)
"""The primary key's order: each stream as its worker printed it."""


@dataclass(frozen=True)
class SeekIndex:
    """Keys from the first to the last. `before[i]`: how many rows come before key i."""

    order: Order
    keys: list[tuple[Any, ...]]
    before: npt.NDArray[np.int64]
    total: int
    """Rows that have a place in this order."""
    unplaced: int
    """Rows that have none: one of its columns is null."""

    @classmethod
    def build(cls, connection: Connection, table: Table, order: Order, of: ColumnElement[bool]) -> SeekIndex:
        """Count the rows of every stretch: of whole groups by the index alone, of long ones in stretches."""
        *names, last = order.columns
        columns = [table.c[name] for name in names]
        rows = connection.execute(
            select(*columns, func.min(table.c[last]), func.count(table.c[last]), func.count())
            .where(of)
            .group_by(*columns)
        ).all()
        placed, unplaced, long = [], 0, []
        for *group, least, count, everything in rows:
            if None in group or least is None:
                unplaced += everything
                continue
            unplaced += everything - count
            if count > order.stretch:
                long.append(group)
            else:
                placed.append(((*group, least), count))
        for begin in range(0, len(long), GROUPS_AT_ONCE):
            placed += _stretches(connection, table, order, of, long[begin : begin + GROUPS_AT_ONCE])
        keys, before, total = _merged(sorted(placed), order.stretch)
        return cls(order, keys, np.array(before, dtype=np.int64), total, unplaced)

    def window(
        self, table: Table, start: int, end: int, way: Direction
    ) -> Callable[[Select[Any]], Select[Any]] | None:
        """Narrows a statement to rows `start` to `end` of this order; None where there are none."""
        end = min(end, self.total)
        if start >= end:
            return None
        first, last = (start, end - 1) if way == "asc" else (self.total - end, self.total - 1 - start)
        low, high = self._key_at(first), self._key_at(last)
        behind = int(self.before[high + 1]) if high + 1 < len(self.keys) else self.total
        inside = first - int(self.before[low]) if way == "asc" else behind - 1 - last
        columns = [table.c[name] for name in self.order.columns]
        ends = [column.asc() if way == "asc" else column.desc() for column in columns]
        between = self._between(columns, low, high)
        return lambda select: select.where(*between).order_by(*ends).offset(inside).limit(end - start)

    def _key_at(self, row: int) -> int:
        return int(np.searchsorted(self.before, row, side="right")) - 1

    def _between(self, columns: list[Any], low: int, high: int) -> list[ColumnElement[bool]]:
        key: Any = tuple_(*columns) if len(columns) > 1 else columns[0]
        ends = [tuple_(*key) if len(columns) > 1 else key[0] for key in self.keys[low : high + 2]]
        above = [key < ends[high - low + 1]] if high + 1 < len(self.keys) else []
        return [key >= ends[0], *above]


def _merged(
    placed: list[tuple[tuple[Any, ...], int]], stretch: int
) -> tuple[list[tuple[Any, ...]], list[int], int]:
    """Neighbours put together until they are a stretch: a key each, however short the episodes."""
    keys: list[tuple[Any, ...]] = []
    before: list[int] = []
    total = 0
    for key, count in placed:
        if not before or total + count - before[-1] > stretch:
            keys.append(key)
            before.append(total)
        total += count
    return keys, before, total


def _stretches(
    connection: Connection, table: Table, order: Order, of: ColumnElement[bool], groups: Sequence[Any]
) -> list[tuple[tuple[Any, ...], int]]:
    """The stretches of some groups: where each begins, and its rows."""
    *names, last = order.columns
    column, size = table.c[last], order.stretch
    columns = [table.c[name] for name in names]
    begins = column - (column % size + size) % size  # also of a number below 0
    mine = or_(*(and_(*(c == v for c, v in zip(columns, group, strict=True))) for group in groups))
    keys = [*columns, begins.label("begins")]
    statement = select(*keys, func.count()).where(of, column.is_not(None), mine if names else true())
    return [(tuple(row[:-1]), row[-1]) for row in connection.execute(statement.group_by(*keys))]


class SeekIndexes:
    """The seek indexes of the tables that were looked at last. Shared by threads."""

    def __init__(self) -> None:
        self._held: OrderedDict[Any, tuple[float, SeekIndex]] = OrderedDict()
        self._lock = Lock()

    def get(
        self, name: Any, connection: Connection, table: Table, order: Order, of: ColumnElement[bool]
    ) -> SeekIndex:
        """The index of a name, counted anew where it is too old."""
        key = (name, table.name, order)
        with self._lock:
            held = self._held.get(key)
        if held is not None and time.monotonic() < held[0]:
            return held[1]
        begun = time.monotonic()
        index = SeekIndex.build(connection, table, order, of)
        took = time.monotonic() - begun
        with self._lock:
            self._held[key] = (begun + took + max(FRESH_S, 20 * took), index)
            self._held.move_to_end(key)
            while len(self._held) > MAX_INDEXES:
                self._held.popitem(last=False)
        return index
