"""Rollouts of language models: a rollout is an episode, a turn a step, observation and action are text."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from stepstream._newest import newest_or_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stepstream._run import Run

_AUTHOR = "assistant"


def log_rollout(
    prompt: str | Sequence[Mapping[str, Any]],
    completion: str | Sequence[Mapping[str, Any]],
    *,
    rewards: float | Mapping[str, float | None] | None = None,
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
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    metrics: Mapping[str, float] | None = None,
    agent_id: str | None = None,
    run: Run | None = None,
) -> None:
    """Log one rollout: a step for each turn, an episode, and beside it a row of `rollouts`.

    Args:
        prompt: text, or chat messages (`{"role": …, "content": …}`).
        completion: what the model answered: text, or chat messages, also with `tool_calls` and the tools'
            answers; each of the role `assistant` is a step, what came before it is its observation.
        rewards: one number, or numbers by name; their sum, by weight, is the reward of the last step. None
            and NaN: that function did not score it.
        weights: of the rewards by name; 1 where none is given.
        group: what the rollouts of one prompt have in common (GRPO's group).
        sample: which of its group; the same again at the same step is a new attempt.
        step: the trainer's global step.
        split: `train` or `eval`.
        policy_version: of the weights that answered; a pair where the first and the last token differ.
        stop_reason: why it ended, in your own word.
        status: `ok`, `truncated`, `failed` or `aborted`.
        tokens: values for each token by name, of equal length: `token_ids`, `logprobs`, `mask` …
        input_tokens, output_tokens: counts.
        metrics: other numbers by name.
    """
    run = run or newest_or_new()
    with guarded(run, "a rollout"), run.together:
        scored = scores(rewards)
        total = weighted_sum(scored, weights)
        asked = as_messages(prompt, "user")
        answered = [{"role": _AUTHOR, **message} for message in as_messages(completion, _AUTHOR)]
        turns = _turns([prompt] if isinstance(prompt, str) else map(spoken, asked), answered)
        ended = {"terminated": status == "ok", "truncated": status == "truncated"}
        for observation, action in turns[:-1]:
            run.step(observation=observation, action=action, reward=0.0, agent_id=agent_id)
        for observation, action in turns[-1:]:
            run.step(observation=observation, action=action, reward=total, agent_id=agent_id, **ended)
        end_rollout(
            run,
            messages=[*asked, *answered],
            final_text=next((text_of(one) for one in reversed(answered) if one["role"] == _AUTHOR), None),
            turns=len(turns),
            total=total,
            rewards=scored,
            weights=weights,
            group=group,
            sample=sample,
            step=step,
            split=split,
            advantage=advantage,
            policy_version=policy_version,
            stop_reason=stop_reason,
            status=status,
            tokens=tokens,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            metrics=metrics,
            agent_id=agent_id,
        )


def end_rollout(
    run: Run,
    *,
    messages: Sequence[Mapping[str, Any]],
    turns: int,
    total: float | None,
    rewards: Mapping[str, float],
    weights: Mapping[str, float] | None = None,
    group: object = None,
    sample: object = None,
    step: int | None = None,
    policy_version: object = None,
    status: str = "ok",
    tokens: Mapping[str, Sequence[float]] | None = None,
    metrics: Mapping[str, float] | None = None,
    agent_id: str | None = None,
    episode_index: int | None = None,
    **others: object,
) -> None:
    """The end of a rollout whose turns are logged as steps: its episode and its row of `rollouts`.

    Args:
        turns: how many steps it has.
        total: the return; None: unknown.
        others: columns of `rollouts` as they are: final_text, split, advantage, stop_reason ….
    """
    start, end = policy_version if isinstance(policy_version, (tuple, list)) else (policy_version,) * 2
    rollout = {
        **others,
        "group_id": _name(group),
        "sample_id": _name(sample),
        "training_step": step,
        "rewards": {
            name: {"value": value, "weight": (weights or {}).get(name)} for name, value in rewards.items()
        },
        "policy_start": _name(start),
        "policy_end": _name(end),
        "status": status,
        "messages": [dict(one) for one in messages],
        "tokens": {name: _listed(values) for name, values in tokens.items()} if tokens else None,
    }
    numbers = {f"reward/{name}": value for name, value in rewards.items()}
    facts = {"group": group, "global_step": step, **numbers, **(metrics or {})}
    run.episode(
        episode_return=total,
        episode_length=turns,
        terminated=status == "ok",
        truncated=status == "truncated",
        agent_id=agent_id,
        episode_index=episode_index,
        rollout={name: value for name, value in rollout.items() if value is not None},
        **{name: value for name, value in facts.items() if value is not None},  # type: ignore[arg-type]
    )


def scores(rewards: float | Mapping[str, float | None] | None) -> dict[str, float]:
    """Rewards by name, without those of functions that did not score."""
    named = rewards if isinstance(rewards, Mapping) else {"reward": rewards}
    return {name: value for name, value in named.items() if value is not None and value == value}  # noqa: PLR0124


def weighted_sum(scored: Mapping[str, float], weights: Mapping[str, float] | None) -> float | None:
    """The total reward; None where nothing scored."""
    return sum(value * (weights or {}).get(name, 1) for name, value in scored.items()) if scored else None


@contextlib.contextmanager
def guarded(run: Run, what: str) -> Iterator[None]:
    """Training goes on: what goes wrong inside is warned about once, and counted as dropped."""
    try:
        yield
    except Exception as error:
        run.lose(what, error)


def group_of(prompt: object) -> str:
    """A name for the rollouts of an equal prompt, where their trainer has none."""
    return hashlib.blake2b(repr(prompt).encode("utf-8", "replace"), digest_size=8).hexdigest()


def as_messages(said: str | Sequence[Mapping[str, Any]], role: str) -> list[Mapping[str, Any]]:
    """Chat messages, also of one text."""
    return [{"role": role, "content": said}] if isinstance(said, str) else list(said)


def said(message: Mapping[str, Any]) -> str:
    """What a turn of the model is as text: its words, or the tools that it only calls."""
    calls = message.get("tool_calls")
    return text_of(message) or (json.dumps(calls, ensure_ascii=False, default=str) if calls else "")


def spoken(message: Mapping[str, Any]) -> str:
    """A message that the model reads, as text."""
    return f"{message.get('role', '')}: {text_of(message)}"


def _turns(seen: Iterable[str], answered: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What the model saw since its last turn, and what it said, turn by turn."""
    read, turns = list(seen), []
    for message in answered:
        if message["role"] == _AUTHOR:
            turns.append(("\n\n".join(read), said(message)))
            read = []
        else:
            read.append(spoken(message))
    return turns


def text_of(message: Mapping[str, Any]) -> str:
    """A message's words: of a content in parts the texts, of a picture its kind."""
    content = message.get("content")
    if not isinstance(content, (list, tuple)):
        return "" if content is None else str(content)
    return "".join(_part(part) if isinstance(part, Mapping) else str(part) for part in content)


def _part(part: Mapping[str, Any]) -> str:
    text = part.get("text")
    return text if isinstance(text, str) else f"[{part.get('type', 'part')}]"


def _name(value: object) -> str | None:
    return None if value is None else str(value)


def _listed(values: Any) -> Any:
    """NumPy's and torch's arrays as lists: as an array, a long one would be summed up."""
    return values.tolist() if hasattr(values, "tolist") else values
