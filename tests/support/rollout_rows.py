"""Rows of `rollouts` as a training makes them, stored as persist does, for whoever reads them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from infra.sql.rollouts import Touched, settle
from infra.sql.writers import Writer
from infra.sql.writers.base import COLUMNS
from schemas.rollouts import GroupKey
from schemas.topics import Kind
from tests.support.events import record

SAMPLES_OF_GROUP = 8


def rollout(seq: int, step: int, words: str, *, run_id: str = "run", **own: Any) -> dict[str, Any]:
    """A rollout by its number in the run."""
    group, sample = divmod(seq - 1, SAMPLES_OF_GROUP)
    reward, truncated = (seq * 37 % 101) / 100, seq % 13 == 0
    scores = {"exact": {"value": reward, "weight": 1.0}, "length": {"value": seq % 7, "weight": 0.1}}
    messages = [{"role": "user", "content": f"Question {group}"}, {"role": "assistant", "content": words}]
    given = {
        "training_step": step, "split": "train", "group_id": str(group), "sample_id": str(sample),
        "sample_key": f"{step}/{group}/{sample}", "scope": f"{step}.jsonl", "reward": reward,
        "rewards": json.dumps(scores), "input_tokens": 100 + seq % 50, "output_tokens": len(words) // 4,
        "policy_start": str(max(0, step - 1)), "status": "truncated" if truncated else "ok",
        "stop_reason": "length" if truncated else "stop",
        "final_text": words, "messages": json.dumps(messages, ensure_ascii=False),
    }  # fmt: skip
    return record(Kind.ROLLOUTS, seq, run_id=run_id, **given | own) | {
        "topic_partition": 0,
        "topic_offset": seq,
    }


def texts(characters: int, seed: int = 1) -> Iterator[str]:
    """Texts of about `characters` characters whose words have the frequencies of a natural language."""
    rng = random.Random(seed)
    vocabulary = [f"{rng.choice('abcdefghijklmnop')}{i:x}" for i in range(50_000)]
    shares = list(accumulate(1 / rank for rank in range(1, len(vocabulary) + 1)))
    drawn = rng.choices(vocabulary, cum_weights=shares, k=200_000)
    size = characters // 5
    while True:
        begin = rng.randrange(len(drawn) - size)
        yield " ".join(drawn[begin : begin + size])


def store(writer: Writer, rows: list[dict[str, Any]]) -> None:
    """Insert and settle, in one transaction, as persist does."""
    with writer.transaction() as tx:
        tx.insert("rollouts", ([row[name] for name in COLUMNS["rollouts"]] for row in rows))
        settle(
            tx.connection,
            [
                Touched(
                    row["run_id"],
                    GroupKey(row["split"], row["training_step"], row["group_id"]),
                    row["sample_key"],
                    row["scope"],
                )
                for row in rows
            ],
        )


def fill(writer: Writer, steps: int, samples: int, characters: int, *, at_once: int = 4) -> None:
    """Store so many training steps of so many samples each."""
    words = texts(characters)
    for begin in range(0, steps, at_once):
        some = range(begin, min(begin + at_once, steps))
        store(
            writer,
            [rollout(step * samples + i + 1, step, next(words)) for step in some for i in range(samples)],
        )
