"""Settles rows of `rollouts` in the transaction that inserted them: see `schemas.rollouts`.

Then the rows of `training_steps` that they concern are made anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    String,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy import cast as sql_cast

from schemas.rollouts import Entry, GroupKey, Key, settled
from schemas.tables import Rollout, TrainingStep
from schemas.training_steps import Sample, training_steps

PARAMETERS = 500
"""Values in one IN list."""

_COLUMNS = (
    Rollout.stream_id,
    Rollout.seq,
    Rollout.split,
    Rollout.training_step,
    Rollout.group_id,
    Rollout.sample_key,
    Rollout.scope,
    Rollout.generation,
    Rollout.precedence,
    Rollout.reward,
    Rollout.attempt,
    Rollout.superseded,
    Rollout.derived_advantage,
)

_SAMPLE = [
    sql_cast(Rollout.rewards, String) if name == "rewards" else getattr(Rollout, name)
    for name in Sample._fields
]

_TABLE = cast(Table, Rollout.__table__)
_UPDATE = (
    update(_TABLE)
    .where(
        _TABLE.c.run_id == bindparam("r"),
        _TABLE.c.stream_id == bindparam("s"),
        _TABLE.c.seq == bindparam("n"),
    )
    .values(
        attempt=bindparam("at"),
        superseded=bindparam("sup"),
        derived_advantage=bindparam("adv"),
    )
)


class Touched(NamedTuple):
    """What a new row concerns."""

    run_id: str
    group: GroupKey
    sample_key: str
    scope: str


def settle(connection: Connection, touched: Iterable[Touched]) -> None:
    """Bring the rows that new ones concern to what they must be now."""
    by_run: dict[str, list[Touched]] = defaultdict(list)
    for item in touched:
        by_run[item.run_id].append(item)
    for run_id, items in sorted(by_run.items()):
        _settle_run(connection, run_id, items)


def _settle_run(connection: Connection, run_id: str, items: Sequence[Touched]) -> None:
    read = _Reader(connection, run_id)
    samples = {item.sample_key for item in items}
    rows = read.where(Rollout.sample_key, samples)
    newest = read.newest({item.scope for item in items} | {row.scope for row in rows.values()})
    rows |= read.replaced(newest)
    groups = {item.group for item in items} | {row.group for row in rows.values()}
    rows |= read.groups(groups)
    changed = [row for row in settled(rows.values(), samples, newest) if row.group in groups]
    if changed:
        values = [
            {"r": run_id, "s": row.key.stream_id, "n": row.key.seq, "at": row.attempt, "sup": row.superseded,
             "adv": row.derived_advantage}
            for row in changed
        ]  # fmt: skip
        connection.execute(_UPDATE, values)
    _make_training_steps(connection, run_id, {group.training_step for group in groups})


def make_training_steps(connection: Connection, run_id: str | None = None) -> None:
    """Make the rows of `training_steps` of a run; without one, of all."""
    known = select(Rollout.run_id, Rollout.training_step).distinct()
    if run_id is not None:
        connection.execute(delete(TrainingStep).where(TrainingStep.run_id == run_id))
        known = known.where(Rollout.run_id == run_id)
    for name, step in connection.execute(known).all():
        _make_training_steps(connection, name, {step})


def _make_training_steps(connection: Connection, run_id: str, steps: Iterable[int | None]) -> None:
    for some in _parts(sorted(step for step in steps if step is not None)):
        found = connection.execute(
            select(*_SAMPLE).where(Rollout.run_id == run_id, Rollout.training_step.in_(some))
        )
        rows = training_steps(Sample(*row) for row in found)
        here = TrainingStep.run_id == run_id, TrainingStep.training_step.in_(some)
        connection.execute(delete(TrainingStep).where(*here))
        connection.execute(insert(TrainingStep), [{"run_id": run_id, **row} for row in rows])


class _Reader:
    """Reads what counts of a run's rows."""

    def __init__(self, connection: Connection, run_id: str) -> None:
        self._connection, self._run_id = connection, run_id

    def where(self, column: Any, values: Iterable[Any]) -> dict[Key, Entry]:
        """Rows whose column has one of these values."""
        found: dict[Key, Entry] = {}
        for some in _parts(values):
            found |= self._read(column.in_(some))
        return found

    def newest(self, scopes: Iterable[str]) -> dict[str, int]:
        """The highest generation of each scope."""
        found: dict[str, int] = {}
        for some in _parts(scopes):
            query = (
                select(Rollout.scope, func.max(Rollout.generation))
                .where(Rollout.run_id == self._run_id, Rollout.scope.in_(some))
                .group_by(Rollout.scope)
            )
            found.update((scope, generation) for scope, generation in self._connection.execute(query))
        return found

    def replaced(self, newest: Mapping[str, int]) -> dict[Key, Entry]:
        """Rows of a lower generation that still count."""
        found: dict[Key, Entry] = {}
        for some in _parts(scope for scope, generation in newest.items() if generation > 1):
            older = [and_(Rollout.scope == scope, Rollout.generation < newest[scope]) for scope in some]
            found |= self._read(and_(Rollout.superseded.is_(False), or_(*older)))
        return found

    def groups(self, groups: Iterable[GroupKey]) -> dict[Key, Entry]:
        """All rows of these groups."""
        steps: dict[int | None, set[str]] = defaultdict(set)
        for group in groups:
            steps[group.training_step].add(group.group_id)
        found: dict[Key, Entry] = {}
        for step, ids in steps.items():
            at = Rollout.training_step.is_(None) if step is None else Rollout.training_step == step
            for some in _parts(ids):
                found |= self._read(and_(at, Rollout.group_id.in_(some)))
        return found

    def _read(self, condition: ColumnElement[bool]) -> dict[Key, Entry]:
        rows = self._connection.execute(select(*_COLUMNS).where(Rollout.run_id == self._run_id, condition))
        entries = (self._entry(*row) for row in rows)
        return {entry.key: entry for entry in entries}

    def _entry(
        self, stream_id: str, seq: int, split: str | None, step: int | None, group_id: str, *rest: Any
    ) -> Entry:
        return Entry(Key(self._run_id, stream_id, seq), GroupKey(split, step, group_id), *rest)


def _parts(values: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(values)
    while some := list(islice(iterator, PARAMETERS)):
        yield some
