"""rLLM: `episodes/{train,val}_step_<N>_epoch_<E>/episode_*.json`, a file is one episode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.messages import final_text, is_models, message_of, said
from producers.rollouts.model import (
    Item,
    Message,
    Note,
    Place,
    Rollout,
    Row,
    Turn,
    Whole,
    divided,
    inside,
    listed,
    name_of,
    need,
    number,
    rest,
    split_of,
    status_of,
    text_of,
    whole,
)

_KNOWN = ("training_step", "episode_id", "task_hash", "termination_reason", "metrics", "trajectories")


class Rllm:
    """The format."""

    name = "rllm"
    suffix = ".json"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """An episode, or the summary of a batch of them."""
        is_summary = path.name == "batch_summary.json" and "num_episodes" in row
        return (isinstance(row.get("trajectories"), list) and "episode_id" in row) or is_summary

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The experiment's folder."""
        folder = path.parent.parent
        return folder.parent if folder.name == "episodes" else folder

    def reader(self, place: Place) -> RllmReader:
        """For one episode."""
        return RllmReader(place)


class RllmReader(Whole):
    """Reads one episode."""

    def __init__(self, place: Place) -> None:
        self._folder = place.path.parent.name
        self._step = place.number(r"_step_(\d+)")

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A rollout, or the summary."""
        step = whole(row.get("training_step"))
        step = step if step is not None else self._step
        if "trajectories" not in row:
            yield Note("other", {"event": "batch_summary", **row}, split=split_of(self._folder), step=step)
            return
        trajectories = [inside(item) for item in need(row, "trajectories", list)]
        rewards, metrics, others = divided(inside(row.get("metrics")))
        messages, turns = _conversation(trajectories)
        policy = name_of(inside(row.get("metadata")).get("weight_version"))
        episode = name_of(row.get("episode_id")) or "0"
        timing = inside(row.get("timing"))
        yield Rollout(
            name_of(row.get("task_hash")) or episode.rpartition(":")[0] or episode,
            episode,
            split=split_of(self._folder),
            step=step,
            reward=next(
                (found for item in trajectories if (found := number(item.get("reward"))) is not None), None
            ),
            rewards=rewards,
            metrics=metrics,
            extras=rest(row, *_KNOWN) | others | _names(trajectories),
            messages=messages,
            turns=turns,
            policy_start=policy,
            policy_end=policy,
            status=status_of(row.get("termination_reason")),
            stop_reason=text_of(row.get("termination_reason")),
            final_text=turns[-1].action if turns else final_text(messages),
            duration=number(timing.get("episode_time", timing.get("total"))),
        )


def _names(trajectories: Sequence[Row]) -> Row:
    kept = [rest(item, "steps", "reward", "num_steps") for item in trajectories]
    return {"trajectories": kept} if any(kept) else {}


def _conversation(trajectories: Sequence[Row]) -> tuple[list[Message], list[Turn]]:
    messages: list[Message] = []
    turns: list[Turn] = []
    for trajectory in trajectories:
        steps = [inside(step) for step in listed(trajectory.get("steps"))]
        turns += [_turn(step) for step in steps]
        complete = max((listed(step.get("chat_completions")) for step in steps), key=len, default=[])
        messages += [message_of(item) for item in complete] or _of_steps(steps)
    return messages, turns


def _turn(step: Row) -> Turn:
    spoken = [message_of(item) for item in listed(step.get("chat_completions"))]
    last = said(spoken[-1]) if spoken and is_models(spoken[-1]) else None
    response = step.get("model_response")
    action = response if isinstance(response, str) else last
    if action is None:
        action = text_of(step.get("action")) or ""
    return Turn(text_of(step.get("observation")), action, number(step.get("reward")))


def _of_steps(steps: Sequence[Row]) -> list[Message]:
    messages: list[Message] = []
    for step in steps:
        if step.get("observation") is not None:
            messages.append({"role": "environment", "content": text_of(step["observation"])})
        made: Message = {"role": "assistant", "content": _turn(step).action}
        thought: Any = step.get("thought")
        messages.append(made | ({"reasoning": thought} if isinstance(thought, str) and thought else {}))
    return messages
