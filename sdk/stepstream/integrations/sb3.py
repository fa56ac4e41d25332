"""Stable-Baselines3: what its logger writes, and every episode that a Monitor saw.

model.learn(100_000, callback=StepstreamCallback())
"""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from stepstream import Run
from stepstream._newest import newest_or_new


class StepstreamWriter(KVWriter):
    """One more of the logger's outputs: `model.logger.output_formats.append(StepstreamWriter(run))`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        """Numbers and texts under the logger's own names, such as `train/loss`."""
        excluded = {name for name, outputs in key_excluded.items() if outputs and "stepstream" in outputs}
        plain = (int, float, str)
        kept = {
            name: value
            for name, value in key_values.items()
            if name not in excluded and (isinstance(value, plain) or getattr(value, "ndim", None) == 0)
        }
        self._run.log(kept, step=step)

    def close(self) -> None:
        """The run goes on: the same model may learn again."""


class StepstreamCallback(BaseCallback):
    """Everything: the logger's values, and the episodes.

    Args:
        run: None: the newest run, or a new one.
        agent_id: None: the run's.
    """

    def __init__(self, run: Run | None = None, agent_id: str | None = None, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.run, self._agent_id = run, agent_id

    def _on_training_start(self) -> None:
        self.run = self.run or newest_or_new()
        formats = self.logger.output_formats
        if not any(isinstance(each, StepstreamWriter) for each in formats):
            formats.append(StepstreamWriter(self.run))
        self.run.config.setdefaults({"algorithm": type(self.model).__name__, **_hyperparameters(self.model)})

    def _on_step(self) -> bool:
        for info in self.locals.get("infos", ()):
            episode = info.get("episode")
            if episode is not None and self.run is not None:
                self.run.episode(
                    episode_return=episode["r"],
                    episode_length=episode["l"],
                    agent_id=self._agent_id,
                    truncated=bool(info.get("TimeLimit.truncated", False)),
                    elapsed=episode["t"],
                    timesteps=self.num_timesteps,
                )
        return True


def _hyperparameters(model: Any) -> dict[str, Any]:
    plain = (int, float, str, bool, type(None))
    return {
        name: value
        for name, value in vars(model).items()
        if isinstance(value, plain) and not name.startswith("_")
    }
