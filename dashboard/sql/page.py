"""A page of a table: what AG Grid's infinite model asks for, checked against what a table allows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct, field
from sqlalchemy import JSON, ColumnElement, String, and_, cast, or_

from schemas.errors import UsageError

MAX_ROWS = 500
"""Rows of one page, at most."""
MAX_SORTED = 10_000
"""Sorted by what has no index, or filtered: this many rows can be reached."""
MAX_TEXT = 200
"""Characters of a filter's text."""
MAX_CONDITIONS = 8


class PageRequest(Struct, frozen=True):
    """Rows `start` to `end` (exclusive). `sort` and `filters` are AG Grid's sortModel and filterModel."""

    start: int = 0
    end: int = 100
    sort: list[dict[str, Any]] = field(default_factory=list)
    filters: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, request: Mapping[str, Any] | None) -> PageRequest:
        """The request in AG Grid's `getRowsRequest`.

        Raises:
            UsageError: it is none.
        """
        asked = request or {}
        known = {"start": asked.get("startRow", 0), "end": asked.get("endRow", 100)}
        known |= {"sort": asked.get("sortModel") or [], "filters": asked.get("filterModel") or {}}
        try:
            made = msgspec.convert(known, cls)
        except msgspec.ValidationError as error:
            raise UsageError(f"This is no page of a table: {error}.") from None
        start = max(0, made.start)
        return cls(start, max(start, min(made.end, start + MAX_ROWS)), made.sort, made.filters)


class Page(Struct):
    """Rows as AG Grid wants them: `{"rowData": page.rows, "rowCount": page.total}`."""

    rows: list[dict[str, Any]]
    total: int
    """Rows that can be reached."""
    capped: bool = False
    """There may be more rows than can be reached: sorted or filtered, only so many are looked at."""


Columns = Mapping[str, ColumnElement[Any]]
Direction = Literal["asc", "desc"]


def direction(sort: Mapping[str, Any]) -> Direction:
    """A sort's direction."""
    return "asc" if sort.get("sort") == "asc" else "desc"


def order_by(request: PageRequest, columns: Columns) -> list[ColumnElement[Any]]:
    """The wanted order. Columns that the table does not have are passed over; nulls come last."""
    out: list[ColumnElement[Any]] = []
    for sort in request.sort[:3]:
        column = columns.get(str(sort.get("colId")))
        if column is not None:
            key = cast(column, String) if isinstance(column.type, JSON) else column  # json has no order
            way = key.asc() if direction(sort) == "asc" else key.desc()
            out.append(way.nulls_last())
    return out


def where(request: PageRequest, columns: Columns) -> list[ColumnElement[bool]]:
    """The wanted filters.

    Raises:
        UsageError: a filter with a value that its column cannot have.
    """
    out = []
    for name, model in request.filters.items():
        column = columns.get(name)
        if column is not None:
            out.append(_filter(name, column, model))
    return out[:MAX_CONDITIONS]


def _filter(name: str, column: ColumnElement[Any], model: Mapping[str, Any]) -> ColumnElement[bool]:
    conditions = model.get("conditions")
    if isinstance(conditions, list) and conditions:
        made = [_condition(name, column, one) for one in conditions[:MAX_CONDITIONS] if isinstance(one, dict)]
        return or_(*made) if model.get("operator") == "OR" else and_(*made)
    return _condition(name, column, model)


def _condition(name: str, column: ColumnElement[Any], model: Mapping[str, Any]) -> ColumnElement[bool]:
    kind, test = model.get("filterType", "text"), str(model.get("type", "equals"))
    if test == "blank":
        return column.is_(None)
    if test == "notBlank":
        return column.is_not(None)
    try:
        if kind == "number":
            return _compare(column, test, _number(model.get("filter")), _number(model.get("filterTo", 0)))
        if kind == "date":
            return _compare(column, test, _moment(model.get("dateFrom")), _moment(model.get("dateTo")))
        if kind == "boolean" or test in ("true", "false"):
            return column.is_(test == "true" or model.get("filter") in (True, "true"))
        return _text(column, test, str(model.get("filter", ""))[:MAX_TEXT])
    except (TypeError, ValueError):
        raise UsageError(f"The filter of column {name!r} has no usable value.") from None


def _compare(column: ColumnElement[Any], test: str, value: Any, upper: Any) -> ColumnElement[bool]:
    tests: dict[str, ColumnElement[bool]] = {
        "equals": column == value,
        "notEqual": column != value,
        "greaterThan": column > value,
        "greaterThanOrEqual": column >= value,
        "lessThan": column < value,
        "lessThanOrEqual": column <= value,
        "inRange": column.between(value, upper),
    }
    return tests.get(test, tests["equals"])


def _text(column: ColumnElement[Any], test: str, value: str) -> ColumnElement[bool]:
    words: ColumnElement[str] = cast(column, String)
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    patterns = {"contains": f"%{escaped}%", "startsWith": f"{escaped}%", "endsWith": f"%{escaped}"}
    if test in patterns:
        return words.ilike(patterns[test], escape="\\")
    if test == "notContains":
        return words.not_ilike(patterns["contains"], escape="\\")
    return words != value if test == "notEqual" else words == value


def _number(value: Any) -> float | int:
    return value if isinstance(value, int | float) else float(value)


def _moment(value: Any) -> datetime:
    if value is None:
        return datetime(9999, 1, 1, tzinfo=UTC)
    moment = datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
