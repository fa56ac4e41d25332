"""Gymnasium: every step of an environment, by one wrapper.

env = Stream(gym.make("CartPole-v1", render_mode="rgb_array"))
envs = StreamVector(gym.make_vec("CartPole-v1", num_envs=8))
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from stepstream import Run
from stepstream._newest import newest_or_new


class Stream(gym.Wrapper):
    """Logs what passes through: the observation acted on, action, reward, end, info, and pictures.

    Args:
        env: any environment; one whose `render_mode` is `rgb_array` or `ansi` is drawn when a picture is due.
        run: None: the newest run, or a new one.
        agent_id: None: the run's.
        frames: False: no pictures.
    """

    def __init__(
        self, env: gym.Env, run: Run | None = None, agent_id: str | None = None, frames: bool = True
    ) -> None:
        super().__init__(env)
        self.run = run or _run_for(env)
        self._agent_id = agent_id
        self._frame = env.render if frames and env.render_mode in ("rgb_array", "ansi") else None
        self._observation: Any = None

    def reset(self, **named: Any) -> tuple[Any, dict[str, Any]]:
        """As the environment's."""
        self._observation, info = self.env.reset(**named)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's."""
        result = self.env.step(action)
        observation, reward, terminated, truncated, info = result
        self.run.step(
            observation=self._observation,
            action=action,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            info=_without_statistics(info),
            agent_id=self._agent_id,
            frame=self._frame,
        )
        self._observation = observation
        return result


class StreamVector(gym.vector.VectorWrapper):
    """The same for vector environments: each sub-environment is an agent of its own, `env-0`, `env-1`, ….

    All of Gymnasium's autoreset modes are understood: the step in which a sub-environment only resets
    (`AutoresetMode.NEXT_STEP`) is no step of an agent, and is not logged.
    """

    def __init__(self, env: gym.vector.VectorEnv, run: Run | None = None, agent_id: str = "env") -> None:
        super().__init__(env)
        self.run = run or _run_for(env)
        self._names = [f"{agent_id}-{number}" for number in range(env.num_envs)]
        mode = env.metadata.get("autoreset_mode", gym.vector.AutoresetMode.NEXT_STEP)
        self._resets_next = mode == gym.vector.AutoresetMode.NEXT_STEP
        self._ended = np.zeros(env.num_envs, dtype=bool)
        self._observations: Any = None

    def reset(self, **named: Any) -> tuple[Any, dict[str, Any]]:
        """As the environments'."""
        self._observations, infos = self.env.reset(**named)
        self._observations = _copied(self._observations)
        mask = (named.get("options") or {}).get("reset_mask")
        self._ended = self._ended & ~np.asarray(mask) if mask is not None else np.zeros_like(self._ended)
        return self._observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """As the environments'."""
        result = self.env.step(actions)
        observations, rewards, terminated, truncated, _ = result
        for number, name in enumerate(self._names):
            if not self._ended[number]:
                self.run.step(
                    observation=_part(self._observations, number),
                    action=_part(actions, number),
                    reward=float(rewards[number]),
                    terminated=bool(terminated[number]),
                    truncated=bool(truncated[number]),
                    agent_id=name,
                )
        if self._resets_next:
            self._ended = np.logical_or(terminated, truncated) & ~self._ended
        self._observations = _copied(observations)
        return result


def _run_for(env: Any) -> Run:
    return newest_or_new(env_id=getattr(getattr(env, "spec", None), "id", None))


def _without_statistics(info: dict[str, Any]) -> dict[str, Any] | None:
    """RecordEpisodeStatistics puts there what episodes have of themselves."""
    return {name: value for name, value in info.items() if name not in ("episode", "_episode")} or None


def _part(batch: Any, number: int) -> Any:
    """One environment's part of a batch: of an array, or of a dict or tuple of arrays."""
    if isinstance(batch, dict):
        return {name: _part(value, number) for name, value in batch.items()}
    if isinstance(batch, tuple):
        return [_part(value, number) for value in batch]
    return batch[number]


def _copied(batch: Any) -> Any:
    """Vector environments may write the next observations into the same arrays."""
    if isinstance(batch, dict):
        return {name: _copied(value) for name, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_copied(value) for value in batch)
    return batch.copy() if hasattr(batch, "copy") else batch
