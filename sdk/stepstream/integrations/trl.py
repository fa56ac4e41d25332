"""TRL: every completion that a GRPO or RLOO trainer generates, with its rewards and its advantage.

trainer = GRPOTrainer(...)
trainer.add_callback(StepstreamCallback(trainer))

Where there is no such trainer, its reward functions tell as much, but the advantage:

trainer = OtherTrainer(reward_funcs=logged([correct, format], weights=[1.0, 0.2]))
"""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from stepstream import Run, _warn, rollouts
from stepstream._newest import newest_or_new
from stepstream.integrations import transformers

_SCORE = "_generate_and_score_completions"


class StepstreamCallback(transformers.StepstreamCallback):
    """The trainer's logs, and each completion as soon as it is scored, in training and in evaluation.

    The main process logs those of all processes. A completion's step, and the version of the policy that
    wrote it, is the trainer's global step at that time.

    Args:
        trainer: a GRPOTrainer, RLOOTrainer or one derived from them.
        run: None: the newest run, or a new one.
    """

    def __init__(self, trainer: Any, run: Run | None = None) -> None:
        super().__init__(run)
        self._trainer = trainer
        self._score = getattr(trainer, _SCORE, None)
        self._numbered: dict[str, tuple[int, int]] = {}
        if self._score is None or not hasattr(trainer, "_logs"):
            name = type(trainer).__name__
            _warn.once("trl", f"{name} keeps no completions: wrap its reward functions with `logged`.")
        else:
            setattr(trainer, _SCORE, self._scored)

    def _scored(self, inputs: Any) -> Any:
        """The trainer's own method; what it keeps of this batch alone is logged."""
        trainer, kept = self._trainer, self._trainer._logs
        trainer._logs = fresh = {
            name: defaultdict(list) if isinstance(value, dict) else [] for name, value in kept.items()
        }
        try:
            scored = self._score(inputs)
        finally:
            trainer._logs = kept
            _append(kept, fresh)
        if trainer.accelerator.is_main_process:
            self.run = self.run or newest_or_new()
            with rollouts.guarded(self.run, "a batch of completions"):
                self._log(fresh)
        return scored

    def _log(self, batch: dict[str, Any]) -> None:
        trainer = self._trainer
        split = "train" if trainer.model.training else "eval"
        step, size = trainer.state.global_step, _generations(trainer, split)
        weights = dict(zip(trainer.reward_func_names, trainer.reward_weights.tolist()))
        before = self._before(split, step, len(batch["completion"]))
        for place, completion in enumerate(batch["completion"]):
            rollouts.log_rollout(
                batch["prompt"][place],
                completion,
                rewards={name: values[place] for name, values in batch["rewards"].items()},
                weights=weights,
                group=(before + place) // size,
                sample=(before + place) % size,
                step=step,
                split=split,
                advantage=batch["advantages"][place],
                policy_version=step,
                run=self.run,
            )

    def _before(self, split: str, step: int, more: int) -> int:
        """How many completions of this step are logged before these: a step may have many batches."""
        at, count = self._numbered.get(split, (step, 0))
        before = count if at == step else 0
        self._numbered[split] = step, before + more
        return before


def logged(
    reward_funcs: Callable[..., Any] | Sequence[Callable[..., Any]],
    weights: Sequence[float] | None = None,
    run: Run | None = None,
) -> list[Callable[..., Any]]:
    """Reward functions that log what they score: the last to answer logs each completion with all rewards.

    Each process logs its own completions: set `STEPSTREAM_RUN_ID`, so that they log to one run.

    Args:
        reward_funcs: as the trainer takes them, also asynchronous ones; no models.
        weights: as `reward_weights` of the trainer's arguments.
    """
    functions = [reward_funcs] if callable(reward_funcs) else list(reward_funcs)
    batch = _Batch([_name(function) for function in functions], weights, run)
    return [batch.listen(function) for function in functions]


class _Batch:
    """What the reward functions said of the completions that are scored now."""

    def __init__(self, names: list[str], weights: Sequence[float] | None, run: Run | None) -> None:
        self._names, self._run = names, run
        self._weights = dict(zip(names, weights)) if weights else None
        self._said: dict[str, Any] = {}

    def listen(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose answers are kept."""
        name = _name(function)
        if any(map(inspect.iscoroutinefunction, (function, type(function).__call__))):

            @functools.wraps(function)
            async def asked(*args: Any, **given: Any) -> Any:
                return self._take(name, await function(*args, **given), args, given)

        else:

            @functools.wraps(function)
            def asked(*args: Any, **given: Any) -> Any:
                return self._take(name, function(*args, **given), args, given)

        asked.__name__ = name
        return asked

    def _take(self, name: str, rewards: Any, args: tuple, given: dict[str, Any]) -> Any:
        self._said[name] = rewards
        if len(self._said) == len(set(self._names)):
            said, self._said = self._said, {}
            run = self._run = self._run or newest_or_new()
            with rollouts.guarded(run, "a batch of completions"):
                self._log(run, said, *args, **given)
        return rewards

    def _log(self, run: Run, said: dict[str, Any], prompts: Any, completions: Any, **more: Any) -> None:
        step = getattr(more.get("trainer_state"), "global_step", None)
        for place, (prompt, completion) in enumerate(zip(prompts, completions)):
            rollouts.log_rollout(
                prompt,
                completion,
                rewards={name: rewards[place] for name, rewards in said.items()},
                weights=self._weights,
                group=rollouts.group_of(prompt),
                step=step,
                policy_version=step,
                run=run,
            )


def _generations(trainer: Any, split: str) -> int:
    """How many completions in a row are of one prompt."""
    train = trainer.num_generations
    return train if split == "train" else getattr(trainer, "num_generations_eval", None) or train


def _append(kept: dict[str, Any], fresh: dict[str, Any]) -> None:
    for name, values in fresh.items():
        if isinstance(values, dict):
            for column, more in values.items():
                kept[name][column].extend(more)
        else:
            kept[name].extend(values)


def _name(function: Callable[..., Any]) -> str:
    """As TRL names it, also where it is a partial or an object."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)
