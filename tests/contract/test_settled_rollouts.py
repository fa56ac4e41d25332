"""The transaction that inserts `rollouts` settles them, alike in both databases and in any order."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select, text

from infra.sql import migrations, runs
from infra.sql.rollouts import Touched, settle
from infra.sql.writers import Writer
from infra.sql.writers.base import COLUMNS
from schemas.rollouts import GroupKey
from schemas.tables import Rollout, TrainingStep
from schemas.topics import Kind
from schemas.training_steps import Sample, training_steps
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


_ONE = {"run_id": "run", "split": "train", "truncated": 0, "failed": 0, "rewards": {}, "input_tokens": None,
        "output_tokens": None, "turns": 1.0, "staleness": None}  # fmt: skip
STEPS = [
    _ONE
    | {
        "training_step": 1,
        "samples": 2,
        "superseded": 4,
        "groups": 1,
        "zero_signal_groups": 0,
        "reward": 7.5,
    },
    _ONE
    | {
        "training_step": 2,
        "samples": 2,
        "superseded": 0,
        "groups": 1,
        "zero_signal_groups": 0,
        "reward": 1.0,
    },
]
"""Rows of `training_steps`; a rollout without a step is in none."""


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
    """Rows in any order, in parts or repeated give the same attempts, superseded rows and advantages."""
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
        steps = (
            tx.connection.execute(select(TrainingStep).order_by(TrainingStep.training_step)).mappings().all()
        )
    assert [dict(step) for step in steps] == STEPS
    assert found == {seq: (n, gone, pytest.approx(derived)) for seq, (n, gone, derived) in SETTLED.items()}


def test_old_rollouts_are_counted_and_indexed_by_the_upgrade(writer: Writer) -> None:
    """The upgrade from revision 0003 adds the training steps and indexes the words of stored rollouts."""
    config = Config()
    config.set_main_option("script_location", migrations.LOCATION)
    with writer.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
    with writer.transaction() as tx:
        tx.insert("rollouts", [[item[name] for name in COLUMNS["rollouts"]] for item in ROWS])
    assert migrations.upgrade(writer.engine) == ("0003", migrations.head())
    with writer.transaction() as tx:
        steps = tx.connection.execute(select(TrainingStep.training_step, TrainingStep.samples)).all()
        words = tx.connection.execute(text("SELECT count(*) FROM rollout_words")).scalar()
    assert sorted(steps) == [(1, 6), (2, 2)]
    assert words == len(ROWS)


def test_a_deleted_run_leaves_neither_steps_nor_words(writer: Writer) -> None:
    """Deleting a run deletes its training steps, and its words from the index."""
    store(writer, ROWS)
    runs.remove(writer.engine, "run", lambda: datetime.now(UTC))
    with writer.transaction() as tx:
        assert tx.connection.execute(select(TrainingStep)).all() == []
        assert tx.connection.execute(text("SELECT count(*) FROM rollout_words")).scalar() == 0


def test_what_samples_are_together() -> None:
    """Means count only finite values; a group of equal rewards has no signal; staleness is in versions."""
    scored = '{"exact":{"value":1.0,"weight":2},"style":{"value":"NaN","weight":null}}'
    sample = Sample(3, None, "a", False, "ok", 1.0, scored, 10, 20, 1, "1")
    rows = [
        sample,
        sample._replace(reward=math.nan, status="truncated", output_tokens=None, policy_start="v2"),
        sample._replace(group_id="b", reward=0.0, rewards=None, status="aborted", output_tokens=40),
        sample._replace(group_id="b", reward=0.0, rewards=None, status="failed"),
        sample._replace(group_id="b", reward=9.0, superseded=True),
    ]
    (step,) = training_steps(rows)
    assert step == {
        "training_step": 3, "split": "", "samples": 4, "superseded": 1, "groups": 2, "zero_signal_groups": 1,
        "truncated": 1, "failed": 2, "reward": pytest.approx(1 / 3), "rewards": {"exact": 1.0},
        "input_tokens": 10.0, "output_tokens": pytest.approx(80 / 3), "turns": 1.0, "staleness": 2.0,
    }  # fmt: skip
