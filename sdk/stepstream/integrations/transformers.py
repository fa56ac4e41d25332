"""Hugging Face transformers: what the Trainer logs. TRL has a module of its own.

trainer = Trainer(..., callbacks=[StepstreamCallback()])
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from stepstream import Run
from stepstream._newest import newest_or_new
from stepstream.rollouts import log_rollout

__all__ = ["StepstreamCallback", "log_rollout"]


class StepstreamCallback(TrainerCallback):
    """The Trainer's logs at its global step; arguments become the run's config.

    Args:
        run: None: the newest run, or a new one.
    """

    def __init__(self, run: Run | None = None) -> None:
        self.run = run

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the training arguments over."""
        if state.is_world_process_zero:
            self.run = self.run or newest_or_new()
            self.run.config.setdefaults(args.to_sanitized_dict())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Numbers by name; nothing from the other processes of a distributed training."""
        if state.is_world_process_zero and logs:
            self.run = self.run or newest_or_new()
            self.run.log(dict(logs), step=state.global_step)
