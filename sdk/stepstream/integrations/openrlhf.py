"""OpenRLHF: every completion that its reward function scores. In the file of `--reward.remote_url`:

@logged
def reward_func(queries, prompts, labels): ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from stepstream import Run, rollouts
from stepstream._newest import newest_or_new


def logged(reward_func: Callable[..., Any], run: Run | None = None) -> Callable[..., Any]:
    """The reward function, whose completions are logged: their reward, and what it returns as `extra_logs`.

    A group is an equal prompt; OpenRLHF tells a reward function no step. It runs in the rollout workers: set
    `STEPSTREAM_RUN_ID`, so that they log to one run.

    Args:
        reward_func: takes queries (prompt and answer in one text), prompts and labels; returns the rewards,
            or a mapping with `rewards` and perhaps `scores` and `extra_logs`.
        run: None: the newest run, or a new one.
    """

    @functools.wraps(reward_func)
    def scored(queries: list, prompts: list, labels: list, **more: Any) -> Any:
        said = reward_func(queries, prompts, labels, **more)
        into = run or newest_or_new()
        with rollouts.guarded(into, "a batch of completions"):
            told = said if isinstance(said, dict) else {"rewards": said}
            for place, (query, prompt) in enumerate(zip(queries, prompts)):
                _log(into, query, prompt, {name: _at(values, place) for name, values in _flat(told)})
        return said

    return scored


def _flat(told: dict[str, Any]) -> list[tuple[str, Any]]:
    return [("rewards", told["rewards"]), *(told.get("extra_logs") or {}).items()]


def _log(run: Run, query: str, prompt: str, numbers: dict[str, Any]) -> None:
    rollouts.log_rollout(
        prompt,
        query[len(prompt) :] if query.startswith(prompt) else query,
        rewards=numbers.pop("rewards"),
        metrics=numbers,
        group=rollouts.group_of(prompt),
        run=run,
    )


def _at(values: Any, place: int) -> Any:
    """One sample's value, of a tensor, a list, or one number for all."""
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, (list, tuple)):
        return values
    value = values[place] if len(values) > place else values[0]
    return value[0] if isinstance(value, list) and value else value
