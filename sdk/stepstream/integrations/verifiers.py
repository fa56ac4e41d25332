"""verifiers 0.4: each turn of a rollout when the model has made it, its rewards when it is scored.

env = stream(env)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import count
from typing import Any

from stepstream import Run, rollouts
from stepstream._newest import newest_or_new

_indexes = count()
"""Rollouts run side by side, so each has the index of its episode from the start."""


def stream(env: Any, run: Run | None = None) -> Any:
    """The environment, whose rollouts are logged, whatever runs them: an evaluation, a server, prime-rl.

    A turn is a step, of the agent that verifiers names. The rewards are known when a rollout ends, so that
    they are its episode's, and its steps have none. An attempt that verifiers gives up is `failed`.

    Args:
        env: an `Env`, before its slots run.
        run: None: the newest run, or a new one.
    """
    inner = env.run_slot

    @functools.wraps(inner)
    async def run_slot(
        slot: Any, ctx: Any, semaphore: Any = None, on_complete: Any = None, on_trace: Any = None
    ) -> Any:
        begun: list[_Live] = []

        def minted(trace: Any) -> None:
            if on_trace is not None:
                on_trace(trace)
            begun.append(_Live(run or newest_or_new(), trace))

        episode = None
        try:
            episode = await inner(slot, ctx, semaphore, on_complete, minted)
        finally:
            for live in begun:
                live.end(episode)
        return episode

    env.run_slot = run_slot
    return env


class _Live:
    """One trace while it grows."""

    def __init__(self, run: Run, trace: Any) -> None:
        self._run, self._trace, self._index = run, trace, next(_indexes)
        self._nodes = self._turns = 0
        self._read: list[str] = []
        self._messages: list[dict[str, Any]] = []
        self._others: Callable[[Any], None] | None = getattr(trace, "_on_change", None)
        trace.watch(self._changed)

    def _changed(self, trace: Any) -> None:
        if self._others is not None:
            self._others(trace)
        with rollouts.guarded(self._run, "a turn"):
            self._log()

    def _log(self) -> None:
        """The nodes that are new."""
        for node in self._trace.nodes[self._nodes :]:
            self._nodes += 1
            message = node.message.model_dump(mode="json", exclude_none=True)
            self._messages.append(message)
            if not node.sampled:
                self._read.append(rollouts.spoken(message))
                continue
            self._run.step(
                observation="\n\n".join(self._read),
                action=rollouts.said(message),
                agent_id=self._trace.agent.name,
                episode_index=self._index,
                step_index=self._turns,
            )
            self._turns, self._read = self._turns + 1, []

    def end(self, episode: Any) -> None:
        """The rollout is over, or given up: then its trace is none of the episode's. None: all are."""
        with rollouts.guarded(self._run, "a rollout"):
            self._log()
            if episode is None:
                ending = {**_UNSCORED, "status": "aborted"}
            elif all(trace is not self._trace for trace in episode.traces):
                ending = _UNSCORED
            else:
                ending = _scored(self._trace)
            rollouts.end_rollout(self._run, **ending, **self._told(), **_place(episode, self._trace))

    def _told(self) -> dict[str, Any]:
        answers = [one for one in self._messages if one.get("role") == "assistant"]
        return {
            "messages": self._messages,
            "final_text": rollouts.text_of(answers[-1]) if answers else None,
            "turns": self._turns,
            "agent_id": self._trace.agent.name,
            "episode_index": self._index,
        }


_UNSCORED = {"status": "failed", "total": None, "rewards": {}}


def _scored(trace: Any) -> dict[str, Any]:
    """Rewards, metrics and counts; a scoring that never ran is None."""
    rewards = {name: reward for name, reward in trace.rewards.items() if reward is not None}
    last = trace.calls[-1].finish_reason if trace.calls else None
    truncated = trace.is_truncated or trace.is_timeout
    return {
        "status": "failed" if not trace.ok else "truncated" if truncated else "ok",
        "stop_reason": trace.stop_condition or last,
        "total": trace.reward if rewards else None,
        "rewards": {name: reward.score for name, reward in rewards.items()},
        "weights": {name: reward.weight for name, reward in rewards.items()},
        "advantage": trace.info.get("advantage"),
        "metrics": {name: value for name, value in trace.metrics.items() if value is not None},
        "input_tokens": trace.num_input_tokens,
        "output_tokens": trace.num_output_tokens,
        "tokens": _tokens(trace.nodes),
    }


def _place(episode: Any, trace: Any) -> dict[str, Any]:
    """Which sample it is: as the run stamps the episode, else by the task."""
    stamped = getattr(episode, "run", None)
    work = getattr(stamped, "work", None)
    group, policy = getattr(episode, "group", None), getattr(work, "policy", None)
    return {
        "group": group.id if group else trace.task.hash or trace.task.key,
        "sample": trace.id,
        "step": getattr(work, "step", None),
        "split": getattr(work or stamped, "type", None),
        "policy_version": (policy.start, policy.end) if policy else None,
    }


def _tokens(nodes: list[Any]) -> dict[str, list[Any]] | None:
    """Ids and mask, and the log-probabilities of what was sampled; none where a server was relayed."""
    nodes = [node for node in nodes if node.token_ids]
    if not nodes:
        return None
    masks = [node.mask or [False] * len(node.token_ids) for node in nodes]
    sampled = [iter(node.logprobs) for node in nodes]
    return {
        "token_ids": [token for node in nodes for token in node.token_ids],
        "mask": [value for mask in masks for value in mask],
        "logprobs": [
            next(known, None) if value else None for known, mask in zip(sampled, masks) for value in mask
        ],
    }
