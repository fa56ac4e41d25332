"""Pages of a run's rollouts.

In the order of training steps any of a million is found by the counts of `training_steps`; sorted, filtered
or searched, the first ten thousand are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Subquery,
    and_,
    case,
    cast,
    column,
    func,
    literal,
    null,
    select,
    text,
    true,
)

from dashboard.sql import rows, words
from dashboard.sql.page import MAX_SORTED, Direction, Page, PageRequest, direction, order_by, where
from dashboard.sql.seek_index import BY_LINE, SeekIndexes
from infra.sql.tables import ROLLOUTS, TRAINING_STEPS, text_of
from schemas.training_steps import reward_values, staleness

HEAD = 200
"""Characters of a text in the table."""
REWARD = "rewards/"
"""Before the name of a reward function, in the name of its column."""
NATURAL = "training_step"

T = ROLLOUTS.c
STEP = TRAINING_STEPS.c
KEY = (T.stream_id, T.seq)
PLACE = (T.stream_id + "", T.seq + 0)
"""The same to sort by: SQLite would follow the primary key through the whole run instead of an index."""
_IS_VERSION = T.policy_start.regexp_match("^[0-9]{1,18}$")

NAMES: dict[str, ColumnElement[Any]] = {
    "event_time": T.event_time,
    "training_step": T.training_step,
    "split": T.split,
    "group_id": T.group_id,
    "sample_id": T.sample_id,
    "reward": T.reward,
    "advantage": func.coalesce(T.advantage, T.derived_advantage),
    "input_tokens": T.input_tokens,
    "output_tokens": T.output_tokens,
    "turns": T.turns,
    "status": T.status,
    "stop_reason": T.stop_reason,
    "staleness": case((_IS_VERSION, T.training_step - cast(T.policy_start, BigInteger)), else_=null()),
    "final_text": T.final_text,
}
"""The columns that a page can sort and filter by, under their names in SQL."""

_IN_POSTGRES = """
    SELECT stream_id, seq FROM rollout_words WHERE run_id = :run AND words @@ to_tsquery('simple', :query)
    ORDER BY stream_id DESC, seq DESC LIMIT :most"""
_IN_SQLITE = """
    SELECT stream_id, seq FROM rollout_words JOIN rollout_words_key ON id = rollout_words.rowid
    WHERE rollout_words MATCH :query AND run_id = :run ORDER BY rollout_words.rowid DESC LIMIT :most"""


class Key(Struct, frozen=True):
    """Names a rollout of a run."""

    stream_id: str
    seq: int

    @classmethod
    def of(cls, name: str) -> Key | None:
        """From an address, whoever wrote it."""
        stream_id, slash, seq = name.rpartition("/")
        is_number = seq.isascii() and seq.isdecimal() and len(seq) < 19
        return cls(stream_id, int(seq)) if slash and is_number else None

    @property
    def name(self) -> str:
        """In an address."""
        return f"{self.stream_id}/{self.seq}"


class Chosen(Struct, frozen=True):
    """Which rollouts of a run are listed."""

    run_id: str
    words: str = ""
    superseded: bool = False
    """Also those that another one replaces."""

    @property
    def of(self) -> ColumnElement[bool]:
        """All of them, whatever their words."""
        return and_(T.run_id == self.run_id, true() if self.superseded else T.superseded.is_(False))

    @property
    def count(self) -> ColumnElement[Any]:
        """How many of them a training step has."""
        return STEP.samples + STEP.superseded if self.superseded else STEP.samples + 0


def training_steps(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    """A run's rows of `training_steps` in order."""
    found = select(TRAINING_STEPS).where(STEP.run_id == run_id).order_by(STEP.training_step, STEP.split)
    return [dict(row) for row in connection.execute(found).mappings()]


def listed(connection: Connection, indexes: SeekIndexes, chosen: Chosen, request: PageRequest) -> Page:
    """A page: the newest training step first, within it in the order of the file, unless asked otherwise."""
    if not is_natural(chosen, request):
        return _found(connection, chosen, request)
    counts = _counts(connection, chosen, way(request))
    placed = sum(count for _, count in counts)
    page = _of_steps(connection, chosen, request, counts) if request.start < placed else []
    if not _is_any_unplaced(connection, chosen):
        return Page(page, placed)
    window = max(0, request.start - placed), max(0, request.end - placed)
    unplaced = _unplaced(connection, indexes, chosen, window)
    return Page(page + unplaced.rows, placed + unplaced.total)


# The order of training steps


def _counts(connection: Connection, chosen: Chosen, way: Direction) -> list[tuple[int, int]]:
    """Training steps in order, and how many rollouts each has."""
    statement = (
        select(STEP.training_step, func.sum(chosen.count))
        .where(STEP.run_id == chosen.run_id)
        .group_by(STEP.training_step)
        .order_by(STEP.training_step.asc() if way == "asc" else STEP.training_step.desc())
    )
    return [(step, int(count)) for step, count in connection.execute(statement)]


def _of_steps(
    connection: Connection, chosen: Chosen, request: PageRequest, counts: Sequence[tuple[int, int]]
) -> list[dict[str, Any]]:
    ends = list(accumulate(count for _, count in counts))
    begins = [0, *ends]
    touched = [i for i, end in enumerate(ends) if end > request.start and begins[i] < request.end]
    steps = [counts[i][0] for i in touched]
    statement = (
        select(*_columns())
        .where(chosen.of, T.training_step.between(min(steps), max(steps)))
        .order_by(*_natural(way(request)))
        .offset(request.start - begins[touched[0]])
        .limit(request.end - request.start)
    )
    return [_shape(row) for row in connection.execute(statement).mappings()]


def _is_any_unplaced(connection: Connection, chosen: Chosen) -> bool:
    of = select(T.seq).where(T.run_id == chosen.run_id, T.training_step.is_(None))
    return connection.execute(of.limit(1)).first() is not None


def _unplaced(connection: Connection, indexes: SeekIndexes, chosen: Chosen, window: tuple[int, int]) -> Page:
    """Rollouts without a training step: the newest line first."""
    of = and_(chosen.of, T.training_step.is_(None))
    index = indexes.get((chosen.run_id, chosen.superseded), connection, ROLLOUTS, BY_LINE, of)
    narrowed = index.window(ROLLOUTS, *window, "desc")
    if narrowed is None:
        return Page([], index.total)
    statement = narrowed(select(*_columns()).where(of))
    return Page([_shape(row) for row in connection.execute(statement).mappings()], index.total)


# Sorted, filtered, searched


def _found(connection: Connection, chosen: Chosen, request: PageRequest) -> Page:
    if request.start >= MAX_SORTED:
        return Page([], MAX_SORTED, capped=True)
    # a search has no more than can be reached, and counts on the way
    count = func.count().over() if chosen.words else literal(_reached(connection, chosen, request))
    listed = selected(connection, chosen, request, [*_columns(), count.label("total")])
    listed = listed.offset(request.start).limit(min(request.end, MAX_SORTED) - request.start)
    found = connection.execute(listed).mappings().all()
    total = found[0]["total"] if found else _reached(connection, chosen, request)
    return Page([_shape(row) for row in found], min(total, MAX_SORTED), capped=total > MAX_SORTED)


def _reached(connection: Connection, chosen: Chosen, request: PageRequest) -> int:
    """How many there are, as far as they can be reached."""
    reached = selected(connection, chosen, request, (T.seq,), ordered=False).limit(MAX_SORTED + 1)
    return connection.execute(select(func.count()).select_from(reached.subquery())).scalar_one()


def selected(
    connection: Connection,
    chosen: Chosen,
    request: PageRequest,
    columns: Sequence[ColumnElement[Any]],
    *,
    ordered: bool = True,
) -> Select[Any]:
    """The rollouts that a request wants, all of them."""
    known = named(request)
    made = select(*columns).where(chosen.of, *where(request, known))
    if chosen.words:
        found = _matches(connection, chosen)
        made = made.join(found, and_(T.stream_id == found.c.stream_id, T.seq == found.c.seq))
    return made.order_by(*order_by(request, known), *_natural("desc")) if ordered else made


def _matches(connection: Connection, chosen: Chosen) -> Subquery:
    """Keys of the newest rollouts that have all the words."""
    if connection.dialect.name == "postgresql":
        query, found = words.of_postgres(chosen.words), _IN_POSTGRES
    else:
        query, found = words.of_sqlite(chosen.words), _IN_SQLITE
    bound = text(found).bindparams(run=chosen.run_id, query=query, most=MAX_SORTED + 1)
    return bound.columns(column("stream_id"), column("seq")).subquery("found")


def named(request: PageRequest) -> dict[str, ColumnElement[Any]]:
    """The columns that a request can name: those of reward functions by `rewards/NAME`."""
    asked = [*request.filters, *(str(sort.get("colId")) for sort in request.sort)]
    functions = {name.removeprefix(REWARD) for name in asked if name.startswith(REWARD)}
    return NAMES | {
        REWARD + name: T.rewards[(name, "value")].as_float() for name in functions if '"' not in name
    }


def is_column(name: str) -> bool:
    """Whether the list can be sorted and filtered by this name."""
    return name in NAMES or name.startswith(REWARD)


def is_natural(chosen: Chosen, request: PageRequest) -> bool:
    """Whether the list is in the order of training steps, and whole."""
    by = request.sort[0].get("colId") if request.sort else NATURAL
    return by == NATURAL and not request.filters and not chosen.words


def way(request: PageRequest) -> Direction:
    """The direction of the list in that order."""
    return direction(request.sort[0]) if request.sort else "desc"


def _natural(way: Direction) -> list[ColumnElement[Any]]:
    step = T.training_step.asc() if way == "asc" else T.training_step.desc()
    return [step.nulls_last(), *(one.asc() if way == "desc" else one.desc() for one in PLACE)]


# Rows

_PLAIN = ("stream_id", "seq", "training_step", "split", "group_id", "sample_id", "attempt", "superseded",
          "reward", "turns", "input_tokens", "output_tokens", "status", "stop_reason")  # fmt: skip


def _columns() -> list[ColumnElement[Any]]:
    return [
        *(T[name] for name in _PLAIN),
        *(T.event_time, T.advantage, T.derived_advantage, T.policy_start),
        text_of(T.rewards).label("rewards"),
        func.substr(T.final_text, 1, HEAD).label("final_text"),
    ]


def _shape(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A rollout for the table."""
    own = row["advantage"] is not None
    return {
        **{name: row[name] for name in _PLAIN},
        "event_time": rows.moment(row["event_time"]),
        "advantage": row["advantage"] if own else row["derived_advantage"],
        "derived": not own and row["derived_advantage"] is not None,
        "staleness": staleness(row["training_step"], row["policy_start"]),
        "final_text": row["final_text"],
        **{REWARD + name: value for name, value in reward_values(row["rewards"]).items()},
    }
