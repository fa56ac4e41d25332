"""Curves for the eye: a whole run in at most so many points, its extremes kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field
from sqlalchemy import ColumnElement, Connection, Select, Table, and_, bindparam, cast, func, select
from sqlalchemy import Double as DoubleType

Numbers = npt.NDArray[np.float64]

IN_MEMORY = 60_000
"""Up to so many points are read and reduced here; more are reduced by the database."""
ROLLING = 100


class Curve(Struct):
    """Points of a line, by x. Where it was reduced, each bucket left its least and its most."""

    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    mean_x: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    """Rolling mean of a hundred (of a bucket, where the database reduced)."""
    total: int = 0
    """Points before they were reduced."""
    reduced: bool = False


def reduce(x: Numbers, y: Numbers, points: int) -> Curve:
    """At most `points` points: of each bucket the least and the most, in order."""
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    mean = rolling_mean(y)
    curve = Curve(total=len(x), reduced=len(x) > points)
    if curve.reduced:
        chosen = _extremes(y, -(-2 * len(y) // points))
        every = np.unique(np.append(np.arange(0, len(y), -(-len(y) // points)), len(y) - 1))
    else:
        chosen = every = np.arange(len(y))
    curve.x, curve.y = x[chosen].tolist(), y[chosen].tolist()
    curve.mean_x, curve.mean = x[every].tolist(), mean[every].tolist()
    return curve


def rolling_mean(y: Numbers, width: int = ROLLING) -> Numbers:
    """Mean of the last `width` values, of fewer at the beginning."""
    if not len(y):
        return y
    sums = np.cumsum(np.insert(y, 0, 0.0))
    ends = np.arange(1, len(y) + 1)
    begins = np.maximum(0, ends - width)
    means: Numbers = (sums[ends] - sums[begins]) / (ends - begins)
    return means


def _extremes(y: Numbers, width: int) -> npt.NDArray[np.intp]:
    """Places of the least and the most of each `width` values, in order."""
    buckets = np.pad(y, (0, -len(y) % width), mode="edge").reshape(-1, width)
    begins = np.arange(0, buckets.size, width)
    both = np.concatenate([begins + buckets.argmin(axis=1), begins + buckets.argmax(axis=1)])
    return np.unique(np.minimum(both, len(y) - 1))


def reduced_in_sql(
    connection: Connection, x: ColumnElement[Any], y: ColumnElement[Any], of: ColumnElement[bool], points: int
) -> Curve:
    """The same of millions of rows: the database gives the least, most and mean of each bucket of x."""
    low, high, total = connection.execute(select(func.min(x), func.max(x), func.count(x)).where(of)).one()
    if not total:
        return Curve()
    width = max(1, -(-(int(high) - int(low) + 1) * 2 // points))
    bucket = (x - int(low)) / width if width > 1 else x - int(low)
    rows = connection.execute(
        select(func.min(x), func.max(x), func.min(y), func.max(y), func.avg(y))
        .where(and_(of, x.is_not(None), y.is_not(None)))
        .group_by(_whole(bucket))
        .order_by(func.min(x))
    ).all()
    curve = Curve(total=int(total), reduced=True)
    for first, last, least, most, mean in rows:
        curve.x += [float(first), float(last)]
        curve.y += [float(least), float(most)]
        curve.mean_x.append(float(last))
        curve.mean.append(float(mean))
    return curve


def _whole(bucket: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.floor(bucket)


def number_in(table: Table, name: str, dialect: str) -> ColumnElement[Any]:
    """A number by its name in `metrics`. The name is bound: whatever it holds, it is no SQL."""
    if dialect == "postgresql":
        return cast(table.c.metrics.op("->>")(bindparam("metric", name)), DoubleType)
    each = func.json_each(table.c.metrics).table_valued("key", "value")
    value: Select[Any] = select(each.c.value).where(each.c.key == bindparam("metric", name)).limit(1)
    return value.scalar_subquery()
