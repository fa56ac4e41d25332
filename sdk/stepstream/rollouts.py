"""Rollouts of language models: a rollout is an episode, a turn a step, observation and action are text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stepstream._api import newest_or_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stepstream._run import Run


def log_rollout(
    prompt: str | Sequence[Mapping[str, Any]],
    completion: str | Sequence[Mapping[str, Any]],
    *,
    rewards: float | Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
    group: object = None,
    sample: object = None,
    step: int | None = None,
    split: str | None = None,
    advantage: float | None = None,
    policy_version: object = None,
    stop_reason: str | None = None,
    status: str = "ok",
    tokens: Mapping[str, Sequence[float]] | None = None,
    agent_id: str | None = None,
    run: Run | None = None,
) -> None:
    """Log one rollout: a step for each turn, an episode, and beside it a row of `rollouts`.

    Args:
        prompt: text, or chat messages (`{"role": …, "content": …}`).
        completion: what the model answered: text, or chat messages, also with `tool_calls` and the tools'
            answers; each of the role `assistant` is a step, what came before it is its observation.
        rewards: one number, or numbers by name; their sum, by weight, is the reward of the last step.
        weights: of the rewards by name; 1 where none is given.
        group: what the rollouts of one prompt have in common (GRPO's group).
        sample: which of its group; the same again at the same step is a new attempt.
        step: the trainer's global step.
        split: `train` or `eval`.
        policy_version: of the weights that answered; a pair where the first and the last token differ.
        stop_reason: why it ended, in your own word.
        status: `ok`, `truncated`, `failed` or `aborted`.
        tokens: values for each token by name, of equal length: `token_ids`, `logprobs`, `mask` …
    """
    run = run or newest_or_new()
    named = dict(rewards) if isinstance(rewards, Mapping) else {} if rewards is None else {"reward": rewards}
    weights = weights or {}
    total = sum(value * weights.get(name, 1) for name, value in named.items()) if named else None
    turns = _turns(prompt, completion)
    facts = {
        "group": group,
        "global_step": step,
        **{f"reward/{name}": value for name, value in named.items()},
    }
    facts = {name: value for name, value in facts.items() if value is not None}
    for number, (observation, action) in enumerate(turns, 1):
        last = number == len(turns)
        run.step(
            observation=observation,
            action=action,
            reward=total if last else 0.0,
            terminated=last,
            agent_id=agent_id,
        )
    start, end = policy_version if isinstance(policy_version, (tuple, list)) else (policy_version,) * 2
    rollout = {
        "group_id": None if group is None else str(group),
        "sample_id": None if sample is None else str(sample),
        "training_step": step,
        "split": split,
        "advantage": advantage,
        "rewards": {name: {"value": value, "weight": weights.get(name)} for name, value in named.items()},
        "policy_start": None if start is None else str(start),
        "policy_end": None if end is None else str(end),
        "status": status,
        "stop_reason": stop_reason,
        "final_text": turns[-1][1] if turns else None,
        "messages": [*_messages(prompt, "user"), *_messages(completion, "assistant")],
        "tokens": tokens,
    }
    kept = {name: value for name, value in rollout.items() if value is not None}
    run.episode(
        episode_return=total,
        episode_length=len(turns),
        terminated=True,
        agent_id=agent_id,
        rollout=kept,
        **facts,  # type: ignore[arg-type]
    )


def _messages(said: str | Sequence[Mapping[str, Any]], role: str) -> list[dict[str, Any]]:
    return [{"role": role, "content": said}] if isinstance(said, str) else [dict(one) for one in said]


def _turns(
    prompt: str | Sequence[Mapping[str, Any]], completion: str | Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """What the model saw since its last turn, and what it said, turn by turn."""
    seen = [prompt] if isinstance(prompt, str) else [_spoken(message) for message in prompt]
    if isinstance(completion, str):
        return [("\n\n".join(seen), completion)]
    turns = []
    for message in completion:
        if message.get("role", "assistant") == "assistant":
            turns.append(("\n\n".join(seen), str(message.get("content") or "")))
            seen = []
        else:
            seen.append(_spoken(message))
    return turns


def _spoken(message: Mapping[str, Any]) -> str:
    return f"{message.get('role', '')}: {message.get('content', '')}"
