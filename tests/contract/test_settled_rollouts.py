"""Rows of `rollouts` settled by whoever inserts them: the same in both databases, in any order of arrival."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import select

from infra.sql.rollouts import Touched, settle
from infra.sql.writers import Writer
from infra.sql.writers.base import COLUMNS
from schemas.rollouts import GroupKey
from schemas.tables import Rollout
from schemas.topics import Kind
from tests.support.events import record


def row(seq: int, sample: int, reward: float | None, **own: Any) -> dict[str, Any]:
    """A rollout of step 1."""
    given = {"training_step": 1, "split": "train", "sample_id": str(sample), "sample_key": f"1/0/{sample}"}
    place = {"topic_partition": 0, "topic_offset": seq}
    return record(Kind.ROLLOUTS, seq, **{**given, "reward": reward, "scope": "1.jsonl", **own}) | place


ROWS = [
    *(row(seq, seq, float(seq)) for seq in (1, 2, 3)),
    *(row(seq + 3, seq, 5.0 * seq, generation=2) for seq in (1, 2)),
    row(6, 7, 1.0, group_id="g", sample_key="episode", scope="all"),
    row(7, 7, 1.0, group_id="g", sample_key="episode", scope="effective", precedence=1, training_step=2),
    row(8, 8, None, group_id="g", training_step=2, scope="other"),
    row(9, 1, 1.0, group_id="null", training_step=None, split=None, sample_key="n", scope="n"),
]
ROOT = 0.5**0.5
SETTLED = {
    1: (1, True, -1.0), 2: (1, True, 0.0), 3: (1, True, 1.0), 4: (2, False, -ROOT), 5: (2, False, ROOT),
    6: (1, True, 0.0), 7: (1, False, 0.0), 8: (1, False, None), 9: (1, False, 0.0),
}  # fmt: skip
"""seq → attempt, superseded, derived advantage."""


def store(writer: Writer, rows: list[dict[str, Any]]) -> None:
    """Insert what is new, and settle, as persist does."""
    with writer.transaction() as tx:
        tx.insert_new("rollouts", [[item[name] for name in COLUMNS["rollouts"]] for item in rows])
        touched = [
            Touched(
                item["run_id"],
                GroupKey(item["split"], item["training_step"], item["group_id"]),
                item["sample_key"],
                item["scope"],
            )
            for item in rows
        ]
        settle(tx.connection, touched)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_and_any_repeat_ends_the_same(writer: Writer, seed: int) -> None:
    """Rows one by one, in parts, twice: attempts, superseded rows and advantages are those of the whole."""
    rng = random.Random(seed)
    rows = [*ROWS, *rng.sample(ROWS, 4)]
    rng.shuffle(rows)
    while rows:
        size = rng.choice([1, 2, 5])
        store(writer, rows[:size])
        rows = rows[size:]
    with writer.transaction() as tx:
        columns = (Rollout.seq, Rollout.attempt, Rollout.superseded, Rollout.derived_advantage)
        found = {seq: tuple(rest) for seq, *rest in tx.connection.execute(select(*columns))}
    assert found == {seq: (n, gone, pytest.approx(derived)) for seq, (n, gone, derived) in SETTLED.items()}
