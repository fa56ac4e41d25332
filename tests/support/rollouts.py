"""Data sets of rollout files, and what must come out of SQL for each of them.

Where a spot check of the data sets differs from the contract, the contract counts: attempts count what
was seen of a sample, NaN and null are left out of derived advantages, a total is never summed from parts,
and open-instruct's sample is its `sample_idx`.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[1] / "data" / "rollouts"
EXPECTED: dict[str, dict[str, Any]] = json.loads((DATA / "expected.json").read_text())
SAMPLE_IS_INDEX = "open-instruct/rollouts"
COPIES = {"prime-rl/run": 31}
"""Episodes that stand in two files: the copies are superseded, too."""

Row = dict[str, Any]


def read(database: Path, table: str) -> list[Row]:
    """All rows of a table."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()


def matches(name: str, rows: list[Row]) -> None:
    """Assert a data set's totals and spot checks."""
    expected = EXPECTED[name]
    counting = [row for row in rows if not row["superseded"]]
    assert totals(counting) | {"superseded": len(rows) - len(counting)} == {
        "rollouts": expected["rollouts"],
        "superseded": expected["superseded"] + COPIES.get(name, 0),
        "turns": expected["turns"],
        "groups": expected["groups"],
        "zero_signal_groups": expected["zero_signal_groups"],
        "truncated": expected["truncated"],
        "failed": expected["failed"],
        "aborted": expected["aborted"],
        "steps": expected["steps"],
        "splits": {split: part["rollouts"] for split, part in expected["splits"].items()},
        "reward_sums": pytest.approx(expected["reward_sums"], abs=1e-3),
        "reward_nans": expected["reward_nans"],
        "total_reward_sum": pytest.approx(expected["total_reward_sum"], abs=1e-3)
        if expected["total_reward_sum"] is not None
        else None,
    }
    for spot in expected["spot"]:
        _spot(name, spot, counting)


def totals(rows: list[Row]) -> Row:
    """The totals of the rows that count, as the data sets give them."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    sums: Counter[str] = Counter()
    nans = 0
    for row in rows:
        groups[row["split"], row["training_step"], row["group_id"]].append(row)
        for function, score in json.loads(row["rewards"] or "{}").items():
            nans += score["value"] == "NaN"
            sums[function] += 0.0 if score["value"] == "NaN" else score["value"]
    rewards = [row["reward"] for row in rows if row["reward"] is not None]
    return {
        "rollouts": len(rows),
        "turns": sum(row["turns"] for row in rows),
        "groups": len(groups),
        "zero_signal_groups": sum(map(_is_zero_signal, groups.values())),
        **{
            status: sum(row["status"] == status for row in rows)
            for status in ("truncated", "failed", "aborted")
        },
        "steps": sorted({row["training_step"] for row in rows if row["training_step"] is not None}),
        "splits": dict(Counter(row["split"] for row in rows)),
        "reward_sums": dict(sums),
        "reward_nans": nans,
        "total_reward_sum": math.fsum(rewards) if rewards else None,
    }


def _is_zero_signal(group: list[Row]) -> bool:
    """Whether all rewards of a group are equal, or its advantages where no row has a reward."""
    column = "advantage" if all(row["reward"] is None for row in group) else "reward"
    return len(group) > 1 and len({row[column] for row in group}) == 1


def _spot(name: str, spot: Row, rows: list[Row]) -> None:
    key = spot["key"]
    sample = spot["at"]["line"] - 1 if name == SAMPLE_IS_INDEX else key["sample"]
    there = (key["split"], key["step"], str(key["group"]))
    found = [row for row in rows if (row["split"], row["training_step"], row["group_id"]) == there]
    if name == SAMPLE_IS_INDEX:
        row = sorted(found, key=lambda row: int(row["sample_id"]))[key["sample"]]
    else:
        (row,) = [row for row in found if row["sample_id"] == str(sample)]
    said = {column: row[column] for column in ("turns", "reward", "advantage", "status")}
    assert said == {column: pytest.approx(spot[column]) for column in said}, key
    assert key["run"] in (None, row["run_id"])
    values = {function: score["value"] for function, score in json.loads(row["rewards"] or "{}").items()}
    assert values == spot["rewards"], key
    if "final_sha256" in spot:
        assert hashlib.sha256(row["final_text"].encode()).hexdigest() == spot["final_sha256"]
    else:
        assert row["final_text"] == spot["final_text"]
