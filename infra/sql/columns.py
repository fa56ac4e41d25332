"""Rows of one run (and agent) as columns of numbers: what a chart needs of a million of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Table,
    and_,
    cast,
    extract,
    func,
    literal,
    null,
    select,
)

from infra.sql import tables

Numbers = npt.NDArray[np.float64]
Source = Literal["metrics", "steps", "episodes"]

TABLES: dict[Source, Table] = {"metrics": tables.METRICS, "steps": tables.STEPS, "episodes": tables.EPISODES}
OWN: dict[Source, tuple[str, ...]] = {
    "metrics": (),
    "steps": ("reward",),
    "episodes": ("episode_return", "episode_length", "duration", "elapsed"),
}
"""Columns that are numbers by themselves; all other names are looked for in `metrics`."""
NAMES_FROM = 300
"""Names are looked for in so many rows at each end of a run."""
PARTS, PART = 2000, 2
"""A sample is made of so many parts at most, of so many lines at least."""
DENSE = 4
"""Where a stream has more lines than so many for each row that is wanted, reading parts of it is slow."""
KEPT = ("time", "episode", "at")
"""Beside the values: ms since 1970, the episode's index, the global step or the length of an episode."""


class Place(NamedTuple):
    """Some rows of one table."""

    run_id: str
    agent_id: str | None
    source: Source


@dataclass(frozen=True)
class Columns:
    """Equally long columns, in the order of time; NaN where a row has no number."""

    data: Mapping[str, Numbers]
    """By name: those in KEPT, then the values."""
    position: Mapping[str, int] = field(default_factory=dict)
    """Stream → the newest line that is here."""
    each: float = 1.0
    """How many rows each of these stands for: more than one in a sample."""

    @classmethod
    def empty(cls, names: Sequence[str]) -> Columns:
        """Nothing read yet."""
        return cls({name: np.empty(0) for name in (*KEPT, *(_valued(name) for name in names))})

    @property
    def names(self) -> set[str]:
        """Of the values."""
        return {name.removeprefix("=") for name in self.data if name.startswith("=")}

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(column.nbytes for column in self.data.values())

    def __len__(self) -> int:
        return len(self.data["time"])

    def value(self, name: str) -> Numbers:
        """The values of a name."""
        return self.data[_valued(name)]

    def plus(self, parts: Sequence[Columns]) -> Columns:
        """With what was read since, by time."""
        position: dict[str, int] = dict(self.position)
        for part in parts:
            position |= part.position
        joined = {
            name: np.concatenate([column, *(part.data[name] for part in parts)])
            for name, column in self.data.items()
        }
        time = joined["time"]
        if np.any(np.diff(time) < 0):
            order = np.argsort(time, kind="stable")
            joined = {name: column[order] for name, column in joined.items()}
        return Columns(joined, position)


def _valued(name: str) -> str:
    return f"={name}"  # a metric may be called "time"


def streams(connection: Connection, table: Table, run_id: str, at_most: int = 10_000) -> list[str]:
    """Ids of a run's streams: from one to the next in the primary key, not one row after the other."""
    first = select(func.min(table.c.stream_id).label("id")).where(table.c.run_id == run_id)
    found = first.cte("streams", recursive=True)
    further = select(func.min(table.c.stream_id)).where(
        table.c.run_id == run_id, table.c.stream_id > found.c.id
    )
    found = found.union_all(select(further.correlate(found).scalar_subquery()).where(found.c.id.is_not(None)))
    listed = select(found.c.id).where(found.c.id.is_not(None)).limit(at_most)
    return list(connection.execute(listed).scalars())


def page(
    connection: Connection, place: Place, position: Mapping[str, int], names: Sequence[str], count: int
) -> list[Columns]:
    """At most `count` further rows of each stream; none where there are none."""
    table = TABLES[place.source]
    read = []
    for stream_id in streams(connection, table, place.run_id):
        behind = table.c.seq > position.get(stream_id, -1)
        statement = _statement(connection, place, names).where(table.c.stream_id == stream_id, behind)
        found = connection.execute(statement.order_by(table.c.seq).limit(count)).all()
        if found:
            read.append(_columns(place.source, names, found, {stream_id: found[-1].seq}))
    return read


def sample(connection: Connection, place: Place, names: Sequence[str], count: int) -> Columns:
    """About `count` rows of all, in no order of streams: of every stream evenly spread short parts.

    Where the rows are few among its lines, they are chosen by their line's number alone.
    """
    table = TABLES[place.source]
    rows = total(connection, place)
    every, statement = max(1.0, rows / count), _statement(connection, place, names)
    ids = streams(connection, table, place.run_id)
    ends = {one: _ends(connection, table, place.run_id, one) for one in ids}
    if sum(last - first for first, last in ends.values()) <= DENSE * rows:
        some = [and_(table.c.stream_id == one, _in_parts(table, *ends[one], every, len(ids))) for one in ids]
    else:
        some = [table.c.seq % (2 * round(every) + 1) < 2]  # odd: no rhythm is missed
    found = [row for chosen in some for row in connection.execute(statement.where(chosen))]
    read = Columns.empty(names).plus([_columns(place.source, names, found, {})])
    return replace(read, each=max(1.0, rows / max(1, len(read))))


def _ends(connection: Connection, table: Table, run_id: str, stream_id: str) -> tuple[int, int]:
    """The first and last line of a stream that this table has."""
    of = (table.c.run_id == run_id, table.c.stream_id == stream_id)
    first, last = (select(end(table.c.seq)).where(*of).scalar_subquery() for end in (func.min, func.max))
    found = connection.execute(select(first, last)).one()  # both in one scan would read every row
    return found[0], found[1]


def _in_parts(table: Table, first: int, last: int, every: float, streams: int) -> ColumnElement[bool]:
    """One of `every` lines of a stream, in parts that the primary key finds: not all rows are read."""
    apart = max(round(PART * every), (last - first) * streams // PARTS) | 1  # odd: no rhythm is missed
    begin = select(literal(first).label("at")).cte("parts", recursive=True)
    begin = begin.union_all(select(begin.c.at + apart).where(begin.c.at + apart <= last))
    return and_(table.c.seq >= begin.c.at, table.c.seq < begin.c.at + max(1, round(apart / every)))


def total(connection: Connection, place: Place) -> int:
    """How many rows there are, by the counts that persist keeps."""
    table = tables.RUNS if place.agent_id is None else tables.AGENTS
    of = tables.of(table, place.run_id, place.agent_id)
    return connection.execute(select(table.c[place.source]).where(of)).scalar() or 0


def _statement(connection: Connection, place: Place, names: Sequence[str]) -> Any:
    table = TABLES[place.source]
    own = [name for name in names if name in OWN[place.source]]
    told = tables.text_of(table.c.metrics) if len(own) < len(names) else null()
    kept = [_moment(connection, table), *_kept(table, place.source)]
    chosen = [table.c.seq, *kept, told.label("told"), *(table.c[name] for name in own)]
    return select(*chosen).where(tables.of(table, place.run_id, place.agent_id))


def _moment(connection: Connection, table: Table) -> ColumnElement[Any]:
    if connection.dialect.name == "postgresql":
        return cast(extract("epoch", table.c.event_time) * 1000, Double)
    days: ColumnElement[Any] = func.julianday(table.c.event_time, type_=Double())
    return (days - literal(2440587.5, Double())) * literal(86_400_000.0, Double())


def _kept(table: Table, source: Source) -> list[ColumnElement[Any]]:
    if source == "metrics":
        return [null(), func.coalesce(table.c.global_step, table.c.seq)]
    return [table.c.episode_index, table.c.episode_length if source == "episodes" else null()]


def _columns(source: Source, names: Sequence[str], found: Sequence[Any], position: dict[str, int]) -> Columns:
    own = [name for name in names if name in OWN[source]]
    told = [name for name in names if name not in own]
    _, *kept, texts = zip(*(row[:5] for row in found), strict=True) if found else [()] * 5
    data = {name: np.array(column, dtype=np.float64) for name, column in zip(KEPT, kept, strict=True)}
    for i, name in enumerate(own, start=5):
        data[_valued(name)] = np.array([row[i] for row in found], dtype=np.float64)
    if told:
        values = _numbers(texts, tuple(told))
        data |= {_valued(name): values[:, i] for i, name in enumerate(told)}
    return Columns(data, position)


def _numbers(texts: Sequence[str | None], names: tuple[str, ...]) -> Numbers:
    """The numbers of these names in JSON objects: a row each."""
    decode, nothing = _decoder(names), [np.nan] * len(names)
    found = [(decode(text) if text else None) or nothing for text in texts]
    return np.array(found, dtype=np.float64).reshape(-1, len(names))


@lru_cache(maxsize=64)
def _decoder(names: tuple[str, ...]) -> Any:
    """Reads some names out of a JSON object and skips the rest."""
    plain = all(re.search(r'[\x00-\x1f"\\]', name) is None for name in names)
    decoder: Any = msgspec.json.Decoder(_only(names) if plain else dict[str, Any])

    def decode(text: str) -> list[float] | None:
        try:
            found = decoder.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return None
        values = msgspec.structs.astuple(found) if plain else [found.get(name) for name in names]
        return [value if type(value) in (int, float) else np.nan for value in values]

    return decode


def _only(names: tuple[str, ...]) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any, Any]] = [(f"f{i}", Any, None) for i in range(len(names))]
    return msgspec.defstruct("Told", fields, rename={f"f{i}": name for i, name in enumerate(names)})


def names(connection: Connection, run_id: str, agent_id: str | None, source: Source) -> list[str]:
    """Names of the numbers that a source's rows carry, as far as the first and the newest tell."""
    table = TABLES[source]
    of = tables.of(table, run_id, agent_id)
    keys = (
        [table.c.stream_id, table.c.seq]
        if agent_id is None or source == "metrics"
        else [table.c.episode_index]
    )
    found: dict[str, None] = {}
    for ends in ([key.asc() for key in keys], [key.desc() for key in keys]):
        statement = select(tables.text_of(table.c.metrics)).where(of, table.c.metrics.is_not(None))
        for text in connection.execute(statement.order_by(*ends).limit(NAMES_FROM)).scalars():
            found |= dict.fromkeys(_named(text))
    return list(found)


def _named(text: str) -> list[str]:
    try:
        return list(msgspec.json.decode(text, type=dict[str, msgspec.Raw]))
    except (msgspec.MsgspecError, RecursionError):
        return []
