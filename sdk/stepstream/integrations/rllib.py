"""RLlib: the result of each iteration, and every episode of every env runner.

config = PPOConfig().callbacks(callback(stepstream.init()))
"""

from __future__ import annotations

from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback

from stepstream import Run
from stepstream._run import joined

STEP_NAMES = ("num_env_steps_sampled_lifetime", "num_env_steps_sampled", "timesteps_total")


def callback(run: Run) -> type[RLlibCallback]:
    """A callback class for this run. Env runners in other processes log to the same run."""
    run_id, agent_id = run.id, run.agent_id

    class StepstreamCallback(RLlibCallback):
        """Logs results and episodes."""

        def on_train_result(self, *, result: dict[str, Any], **_: Any) -> None:
            """Numbers of an iteration, in the algorithm's process."""
            numbers = flattened(result)
            step = next((numbers[name] for name in STEP_NAMES if name in numbers), None)
            joined(run_id, agent_id).log(numbers, step=step)

        def on_episode_end(self, *, episode: Any, **_: Any) -> None:
            """An episode, in the process of its env runner."""
            here = joined(run_id, agent_id)
            for name, single in (getattr(episode, "agent_episodes", None) or {None: episode}).items():
                here.episode(
                    episode_return=single.get_return(),
                    episode_length=len(single),
                    terminated=single.is_terminated,
                    truncated=single.is_truncated,
                    agent_id=None if name is None else str(name),
                )

    return StepstreamCallback


def flattened(result: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The numbers of a nested result, names joined by `/`; its config is left out."""
    numbers: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, dict):
            if name != "config":
                numbers.update(flattened(value, f"{prefix}{name}/"))
        elif isinstance(value, (int, float)) or getattr(value, "ndim", None) == 0:
            numbers[f"{prefix}{name}"] = value
    return numbers
