"""What the rollouts of a training step are together. Pure."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec


class Sample(NamedTuple):
    """What counts of one rollout; `rewards` is the column's JSON text."""

    training_step: int
    split: str | None
    group_id: str
    superseded: bool
    status: str
    reward: float | None
    rewards: str | None
    input_tokens: int | None
    output_tokens: int | None
    turns: int
    policy_start: str | None


def training_steps(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """Rows of the table `training_steps`, but for the run."""
    found: dict[tuple[int, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample.training_step, sample.split or ""].append(sample)
    return [
        {"training_step": step, "split": split} | _together(found[step, split])
        for step, split in sorted(found)
    ]


def staleness(training_step: int | None, policy_start: str | None) -> int | None:
    """Training steps since the version of the policy; None where that is no number."""
    if training_step is None or policy_start is None or not re.fullmatch(r"[0-9]{1,18}", policy_start):
        return None
    return training_step - int(policy_start)


def reward_values(text: str | None) -> dict[str, Any]:
    """Name of a reward function → its value, of the column `rewards`."""
    found = msgspec.json.decode(text) if text else {}
    return {name: score.get("value") for name, score in found.items()}


def _together(rows: Sequence[Sample]) -> dict[str, Any]:
    samples = [row for row in rows if not row.superseded]
    groups: dict[str, set[float | None]] = defaultdict(set)
    sizes: dict[str, int] = defaultdict(int)
    for row in samples:
        groups[row.group_id].add(row.reward)
        sizes[row.group_id] += 1
    return {
        "samples": len(samples),
        "superseded": len(rows) - len(samples),
        "groups": len(groups),
        "zero_signal_groups": sum(sizes[name] > 1 and _is_flat(rewards) for name, rewards in groups.items()),
        "truncated": sum(row.status == "truncated" for row in samples),
        "failed": sum(row.status in ("failed", "aborted") for row in samples),
        "reward": mean(row.reward for row in samples),
        "rewards": _by_function(samples),
        "input_tokens": mean(row.input_tokens for row in samples),
        "output_tokens": mean(row.output_tokens for row in samples),
        "turns": mean(row.turns for row in samples),
        "staleness": mean(staleness(row.training_step, row.policy_start) for row in samples),
    }


def _is_flat(rewards: set[float | None]) -> bool:
    return len(rewards) == 1 and None not in rewards


def _by_function(samples: Iterable[Sample]) -> Mapping[str, float]:
    values: dict[str, list[Any]] = defaultdict(list)
    for sample in samples:
        for name, value in reward_values(sample.rewards).items():
            values[name].append(value)
    means = {name: mean(found) for name, found in values.items()}
    return {name: value for name, value in means.items() if value is not None}


def mean(values: Iterable[Any]) -> float | None:
    """The mean of the finite numbers among these; None where there is none."""
    known = [number for value in values if (number := _finite(value)) is not None]
    try:
        return math.fsum(known) / len(known) if known else None
    except OverflowError:
        return math.fsum(number / len(known) for number in known)


def _finite(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:  # a whole number beyond any double
        return None
