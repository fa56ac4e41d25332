"""Jumping to any row of a million: a ladder of rungs, each a key and how many rows came before it.

OFFSET walks all the rows that it skips: half a second for the last of a million in PostgreSQL. One
GROUP BY over the index counts the rows of each stretch of keys; from then on every page is a short range.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, Select, Table, func, select, tuple_

from dashboard.sql_page import Direction

MAX_LADDERS = 256
FRESH_S = 2.0
"""A ladder serves this long before the rows are counted again, and longer where counting is slow."""


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
class Ladder:
    """Rungs from the first key to the last. `before[i]`: how many rows come before rung i's."""

    order: Order
    rungs: list[tuple[Any, ...]]
    before: npt.NDArray[np.int64]
    total: int
    """Rows that have a place in this order."""
    unplaced: int
    """Rows that have none: one of its columns is null."""

    @classmethod
    def build(cls, connection: Connection, table: Table, order: Order, of: ColumnElement[bool]) -> Ladder:
        """Count the rows of every stretch."""
        *names, last = order.columns
        columns = [table.c[name] for name in names]
        column, size = table.c[last], order.stretch
        begins = column - (column % size + size) % size  # also of a number below 0
        keys = [*columns, begins.label("begins")]
        rows = connection.execute(select(*keys, func.count()).where(of).group_by(*keys)).all()
        placed = sorted((tuple(row[:-1]), row[-1]) for row in rows if None not in row)
        counts = np.array([count for _, count in placed], dtype=np.int64)
        before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        total = sum(row[-1] for row in rows)
        rungs = [key for key, _ in placed]
        return cls(order, rungs, before[:-1], int(before[-1]), total - int(before[-1]))

    def window(
        self, table: Table, start: int, end: int, way: Direction
    ) -> Callable[[Select[Any]], Select[Any]] | None:
        """Narrows a statement to rows `start` to `end` of this order; None where there are none."""
        end = min(end, self.total)
        if start >= end:
            return None
        first, last = (start, end - 1) if way == "asc" else (self.total - end, self.total - 1 - start)
        low, high = self._rung(first), self._rung(last)
        behind = int(self.before[high + 1]) if high + 1 < len(self.rungs) else self.total
        inside = first - int(self.before[low]) if way == "asc" else behind - 1 - last
        columns = [table.c[name] for name in self.order.columns]
        ends = [column.asc() if way == "asc" else column.desc() for column in columns]
        between = self._between(columns, low, high)
        return lambda select: select.where(*between).order_by(*ends).offset(inside).limit(end - start)

    def _rung(self, row: int) -> int:
        return int(np.searchsorted(self.before, row, side="right")) - 1

    def _between(self, columns: list[Any], low: int, high: int) -> list[ColumnElement[bool]]:
        upper = (*self.rungs[high][:-1], self.rungs[high][-1] + self.order.stretch - 1)
        if len(columns) == 1:
            return [columns[0] >= self.rungs[low][0], columns[0] <= upper[0]]
        key: Any = tuple_(*columns)
        return [key >= tuple_(*self.rungs[low]), key <= tuple_(*upper)]


class Ladders:
    """The ladders of the tables that were looked at last. Shared by threads."""

    def __init__(self) -> None:
        self._held: OrderedDict[Any, tuple[float, Ladder]] = OrderedDict()
        self._lock = Lock()

    def get(
        self, name: Any, connection: Connection, table: Table, order: Order, of: ColumnElement[bool]
    ) -> Ladder:
        """The ladder of a name, counted anew where it is too old."""
        key = (name, table.name, order)
        with self._lock:
            held = self._held.get(key)
        if held is not None and time.monotonic() < held[0]:
            return held[1]
        begun = time.monotonic()
        ladder = Ladder.build(connection, table, order, of)
        took = time.monotonic() - begun
        with self._lock:
            self._held[key] = (begun + took + max(FRESH_S, 20 * took), ladder)
            self._held.move_to_end(key)
            while len(self._held) > MAX_LADDERS:
                self._held.popitem(last=False)
        return ladder
