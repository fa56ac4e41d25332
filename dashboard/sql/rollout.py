"""Reads of one rollout: all of it, its group, its neighbours in the list, its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, true, tuple_

from dashboard.sql import rows
from dashboard.sql.page import MAX_SORTED, PageRequest
from dashboard.sql.rollouts import KEY, PLACE, STEP, Chosen, Key, T, is_natural, selected, way
from infra.sql.tables import EPISODES, ROLLOUTS, TOKENS, text_of
from schemas import token_arrays

MAX_SIBLINGS = 500


def rollout(connection: Connection, run_id: str, key: Key) -> dict[str, Any] | None:
    """All columns of a rollout, JSON as text, and its episode's `metrics`, `extras` and `duration`."""
    columns = [
        text_of(one).label(one.name) if one.name in ("rewards", "messages") else one for one in ROLLOUTS.c
    ]
    found = connection.execute(select(*columns).where(_named(T, run_id, key))).mappings().first()
    if found is None:
        return None
    table = EPISODES.c
    told = [text_of(table[name]).label(name) for name in ("metrics", "extras")]
    episode = (
        connection.execute(select(*told, table.duration).where(_named(table, run_id, key))).mappings().first()
    )
    return rows.plain_row(found) | dict(episode or dict.fromkeys(("metrics", "extras", "duration")))


def siblings(connection: Connection, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The samples of a rollout's group that count, and itself, in order: stream_id, seq, sample, reward."""
    group = [_same(T[name], row[name]) for name in ("run_id", "training_step", "split", "group_id")]
    counts = T.superseded.is_(False) | _named(T, row["run_id"], Key(row["stream_id"], row["seq"]))
    found = select(*KEY, T.sample_id.label("sample"), T.reward).where(*group, counts)
    return [dict(one) for one in connection.execute(found.order_by(*PLACE).limit(MAX_SIBLINGS)).mappings()]


def tokens(connection: Connection, run_id: str, key: Key) -> token_arrays.Arrays:
    """A rollout's token arrays by name; empty where there are none."""
    packed = connection.execute(select(TOKENS.c.arrays).where(_named(TOKENS.c, run_id, key))).scalar()
    return token_arrays.unpack(packed) if packed else {}


def has_tokens(connection: Connection, run_id: str, key: Key) -> bool:
    """Whether there are any: they are not read for that."""
    return (
        connection.execute(select(TOKENS.c.length).where(_named(TOKENS.c, run_id, key))).first() is not None
    )


def beside(
    connection: Connection, chosen: Chosen, request: PageRequest, key: Key
) -> tuple[Key | None, Key | None]:
    """The rollouts before and after one in a list; of one sorted or filtered, among those it reaches."""
    if is_natural(chosen, request):
        newer, older = (_beside(connection, chosen, key, forwards=forwards) for forwards in (False, True))
        return (newer, older) if way(request) == "desc" else (older, newer)
    listed = selected(connection, chosen, request, KEY).limit(MAX_SORTED)
    keys = [Key(*row) for row in connection.execute(listed)]
    if key not in keys:
        return None, None
    at = keys.index(key)
    return (keys[at - 1] if at else None), (keys[at + 1] if at + 1 < len(keys) else None)


def _beside(connection: Connection, chosen: Chosen, key: Key, *, forwards: bool) -> Key | None:
    """The next one in the order of training steps, the newest first."""
    named = _named(T, chosen.run_id, key)
    found = connection.execute(select(T.training_step).where(named)).first()
    if found is None:
        return None
    if (step := found[0]) is None:
        return _nearest(connection, and_(chosen.of, T.training_step.is_(None)), key, forwards=not forwards)
    if nearest := _nearest(connection, and_(chosen.of, T.training_step == step), key, forwards=forwards):
        return nearest
    further = STEP.training_step < step if forwards else STEP.training_step > step
    closest = select(func.max(STEP.training_step) if forwards else func.min(STEP.training_step))
    other = connection.execute(
        closest.where(STEP.run_id == chosen.run_id, further, chosen.count > 0)
    ).scalar()
    return _nearest(connection, and_(chosen.of, T.training_step == other), None, forwards=forwards)


def _nearest(
    connection: Connection, of: ColumnElement[bool], key: Key | None, *, forwards: bool
) -> Key | None:
    """The first of these behind a key; the first of all without one."""
    place = tuple_(*PLACE)
    behind: ColumnElement[bool] = true()
    if key is not None:
        here = tuple_(key.stream_id, key.seq)
        behind = place > here if forwards else place < here
    ends = [one.asc() if forwards else one.desc() for one in PLACE]
    statement: Select[Any] = select(*KEY).where(of, behind).order_by(*ends).limit(1)
    found = connection.execute(statement).first()
    return None if found is None else Key(*found)


def _named(columns: Any, run_id: str, key: Key) -> ColumnElement[bool]:
    return and_(columns.run_id == run_id, columns.stream_id == key.stream_id, columns.seq == key.seq)


def _same(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    return column.is_(None) if value is None else column == value
