"""PettingZoo: every agent's steps, by one wrapper, under the agents' own names.

env = StreamAEC(tictactoe_v3.env(render_mode="rgb_array"))
env = StreamParallel(pistonball_v6.parallel_env())
"""

from __future__ import annotations

from typing import Any

from pettingzoo.utils.wrappers import BaseParallelWrapper, BaseWrapper

from stepstream import Run
from stepstream._newest import newest_or_new


class StreamAEC(BaseWrapper):
    """Agents that act in turn. What an action brought is known, and logged, at the agent's next turn."""

    def __init__(self, env: Any, run: Run | None = None, frames: bool = True) -> None:
        super().__init__(env)
        self.run = run or newest_or_new(env_id=_name(env))
        self._frame = _renderer(env) if frames else None
        self._acted: dict[str, tuple[Any, Any]] = {}

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """As the environment's; turns that were never judged belong to an episode that was cut."""
        for agent, (observation, action) in self._acted.items():
            self.run.step(agent_id=agent, observation=observation, action=action, truncated=True)
        self._acted.clear()
        super().reset(seed=seed, options=options)

    def step(self, action: Any) -> None:
        """As the environment's."""
        agent = self.env.agent_selection
        observation, reward, terminated, truncated, info = self.env.last()
        if agent in self._acted:
            before, acted = self._acted.pop(agent)
            self.run.step(
                agent_id=agent,
                observation=before,
                action=acted,
                reward=reward,
                terminated=terminated,
                truncated=truncated,
                info=info or None,
                frame=self._frame,
            )
        if action is not None:
            self._acted[agent] = observation, action
        super().step(action)


class StreamParallel(BaseParallelWrapper):
    """Agents that act at once."""

    def __init__(self, env: Any, run: Run | None = None, frames: bool = True) -> None:
        super().__init__(env)
        self.run = run or newest_or_new(env_id=_name(env))
        self._frame = _renderer(env) if frames else None
        self._observations: dict[str, Any] = {}

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """As the environment's."""
        result = self.env.reset(seed=seed, options=options)
        self.agents = self.env.agents
        self._observations = dict(result[0])
        return result

    def step(self, actions: dict[str, Any]) -> Any:
        """As the environment's."""
        result = self.env.step(actions)
        self.agents = self.env.agents
        observations, rewards, terminated, truncated, infos = result
        for agent, action in actions.items():
            self.run.step(
                agent_id=agent,
                observation=self._observations.get(agent),
                action=action,
                reward=rewards.get(agent),
                terminated=terminated.get(agent),
                truncated=truncated.get(agent),
                info=infos.get(agent) or None,
                frame=self._frame,
            )
        self._observations = dict(observations)
        return result


def _renderer(env: Any) -> Any:
    return env.render if getattr(env, "render_mode", None) in ("rgb_array", "ansi") else None


def _name(env: Any) -> str | None:
    return getattr(env, "metadata", {}).get("name")
