"""slime: every sample of a rollout, in training and evaluation.

--custom-rollout-log-function-path stepstream.integrations.slime.log_rollout_data
--custom-eval-rollout-log-function-path stepstream.integrations.slime.log_eval_rollout_data
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stepstream import rollouts
from stepstream._newest import newest_or_new

_STATUS = {"completed": "ok", "truncated": "truncated", "failed": "failed"}


def log_rollout_data(
    rollout_id: int, args: Any, samples: Iterable[Any], rollout_extra_metrics: Any, rollout_time: float
) -> bool:
    """Log the samples of a training rollout; slime's own log goes on."""
    _log(samples, getattr(args, "reward_key", None), step=rollout_id, split="train")
    return False


def log_eval_rollout_data(
    rollout_id: int, args: Any, data: dict[str, Any], extra_metrics: Any = None
) -> bool:
    """Log the samples of an evaluation, by data set; slime's own log goes on."""
    key = getattr(args, "eval_reward_key", None) or getattr(args, "reward_key", None)
    for name, part in data.items():
        _log(part.get("samples") or (), key, f"{name}/", step=rollout_id, split="eval")
    return False


def _log(samples: Iterable[Any], reward_key: str | None, data_set: str = "", **place: Any) -> None:
    run = newest_or_new()
    for sample in _flat(samples):
        with rollouts.guarded(run, "a sample"):
            group = sample.group_index if sample.group_index is not None else rollouts.group_of(sample.prompt)
            rollouts.log_rollout(
                sample.prompt,
                sample.response,
                group=f"{data_set}{group}",
                sample=sample.index,
                run=run,
                **_scores(sample.reward, reward_key),
                **_facts(sample),
                **place,
            )


def _scores(reward: Any, key: str | None) -> dict[str, Any]:
    """slime trains on one of several rewards, which `--reward-key` names: the others have no weight."""
    if not isinstance(reward, dict):
        return {"rewards": reward}
    named = {name: value for name, value in reward.items() if isinstance(value, (int, float))}
    return {
        "rewards": named,
        "weights": {name: float(name == key) for name in named} if key in named else None,
    }


def _facts(sample: Any) -> dict[str, Any]:
    status = getattr(sample.status, "value", sample.status)
    versions = sample.weight_versions or [None]
    return {
        "policy_version": (versions[0], versions[-1]),
        "status": _STATUS.get(status, "aborted"),
        "stop_reason": status,
        "output_tokens": sample.response_length or None,
        "tokens": _tokens(sample),
    }


def _tokens(sample: Any) -> dict[str, list[Any]] | None:
    """What is there for each token of the response."""
    length = sample.response_length
    found = {
        "token_ids": sample.tokens[-length:] if length else None,
        "logprobs": sample.rollout_log_probs,
        "mask": sample.loss_mask,
    }
    return {name: list(values) for name, values in found.items() if values and len(values) == length} or None


def _flat(samples: Iterable[Any]) -> Iterator[Any]:
    """Samples, also in groups."""
    for sample in samples:
        if isinstance(sample, (list, tuple)):
            yield from _flat(sample)
        else:
            yield sample
