"""Rollouts of language models: a rollout is an episode, a turn a step, observation and action are text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stepstream._api import newest_or_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stepstream._run import Run


def log_rollout(
    prompt: str | Sequence[Mapping[str, str]],
    completion: str | Sequence[Mapping[str, str]],
    *,
    rewards: float | Mapping[str, float] | None = None,
    group: object = None,
    step: int | None = None,
    agent_id: str | None = None,
    run: Run | None = None,
) -> None:
    """Log one rollout.

    Args:
        prompt: text, or chat messages (`{"role": …, "content": …}`).
        completion: what the model answered: text, or chat messages; each of the role `assistant` is a step,
            what came before it is its observation.
        rewards: one number, or numbers by name; their sum is the reward of the last step.
        group: what the rollouts of one prompt have in common (GRPO's group).
        step: the trainer's global step.
    """
    run = run or newest_or_new()
    named = dict(rewards) if isinstance(rewards, Mapping) else {} if rewards is None else {"reward": rewards}
    total = sum(named.values()) if named else None
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
    run.episode(episode_return=total, episode_length=len(turns), terminated=True, agent_id=agent_id, **facts)  # type: ignore[arg-type]


def _turns(
    prompt: str | Sequence[Mapping[str, str]], completion: str | Sequence[Mapping[str, str]]
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


def _spoken(message: Mapping[str, str]) -> str:
    return f"{message.get('role', '')}: {message.get('content', '')}"
