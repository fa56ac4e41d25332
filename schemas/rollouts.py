"""The columns of a rollout that depend on other rollouts: attempt, superseded, derived advantage. Pure.

They depend only on the set of rows: neither order nor repetition of the records matters.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

EXACT = 1e-12
"""Rewards whose relative difference is smaller are equal: the mean of equal doubles can be off by this."""


HUGE = 1e300
"""Sums of larger rewards may overflow."""


class Key(NamedTuple):
    """A row's primary key."""

    run_id: str
    stream_id: str
    seq: int


class GroupKey(NamedTuple):
    """A group of rollouts."""

    split: str | None
    training_step: int | None
    group_id: str


class Entry(NamedTuple):
    """The columns of one row that these rules use."""

    key: Key
    group: GroupKey
    sample_key: str
    scope: str
    generation: int
    precedence: int
    reward: float | None
    attempt: int
    superseded: bool
    derived_advantage: float | None

    @property
    def rank(self) -> tuple[int, int, str, int]:
        """Among the rows of one sample, the highest counts."""
        return self.generation, self.precedence, self.key.stream_id, self.key.seq


def settled(rows: Iterable[Entry], samples: Container[str], newest: Mapping[str, int]) -> list[Entry]:
    """The rows whose columns must change, with the new values.

    Args:
        rows: every row of the groups concerned, and of each sample that has a new row.
        samples: keys of those samples; other samples keep their attempts and copies.
        newest: the highest generation of each scope that has a new row, or one of those samples.
    """
    rows = list(rows)
    decided = [
        row._replace(attempt=attempt, superseded=superseded or row.generation < newest.get(row.scope, 0))
        for sample, seen in _by(rows, attrgetter("sample_key")).items()
        for row, attempt, superseded in (_attempts(seen) if sample in samples else map(_as_it_was, seen))
    ]
    wanted = [
        row._replace(derived_advantage=derived)
        for peers in _by(decided, _peers).values()
        for row, derived in zip(peers, derived_advantages([row.reward for row in peers]), strict=True)
    ]
    before = {row.key: row for row in rows}
    return [row for row in wanted if row != before[row.key]]


def derived_advantages(rewards: Sequence[float | None]) -> list[float | None]:
    """(r - mean) / s of each reward, s with n - 1. NaN and null are left out and get None.

    0 for a group of one or where all are equal.
    """
    known = [reward for reward in rewards if reward is not None and math.isfinite(reward)]
    if not known:
        return [None] * len(rewards)
    if max(map(abs, known)) > HUGE:  # their sum may be infinite; advantages are the same at any scale
        return derived_advantages([None if reward is None else reward * 2.0**-64 for reward in rewards])
    mean = math.fsum(known) / len(known)
    spread = _deviation([reward - mean for reward in known])
    if spread <= EXACT * max(map(abs, known)):
        spread = 0.0
    return [
        None if reward is None or not math.isfinite(reward) else (reward - mean) / spread if spread else 0.0
        for reward in rewards
    ]


def _deviation(differences: Sequence[float]) -> float:
    """Standard deviation, with n - 1, of values that differ from their mean by these."""
    widest = max(map(abs, differences))
    if not widest:
        return 0.0
    # Scaled by the largest difference: the squares of tiny differences would be 0.
    return widest * math.sqrt(
        math.fsum((each / widest) ** 2 for each in differences) / (len(differences) - 1)
    )


def _attempts(samples: Sequence[Entry]) -> Iterable[tuple[Entry, int, bool]]:
    """For each row of a sample: its attempt, and whether another row replaces it."""
    best = max(row.rank for row in samples)
    generations = sorted({row.generation for row in samples})
    for row in samples:
        yield row, generations.index(row.generation) + 1, row.rank != best


def _as_it_was(row: Entry) -> tuple[Entry, int, bool]:
    return row, row.attempt, row.superseded


def _peers(row: Entry) -> Hashable:
    """Compare rewards among the rows that count, and among the superseded rows of each version."""
    return row.group, (row.generation, row.precedence) if row.superseded else None


def _by(rows: Iterable[Entry], key: Callable[[Entry], Hashable]) -> dict[Any, list[Entry]]:
    found: dict[Any, list[Entry]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found
