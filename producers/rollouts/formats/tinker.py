"""Tinker cookbook: summaries of trajectories, captured calls, evaluations, checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.messages import final_text, messages_of, turns_of
from producers.rollouts.model import (
    EVAL,
    FAILED,
    Again,
    Item,
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
    whole,
)

_SUMMARY = ("split", "iteration", "group_idx", "traj_idx", "sampling_client_step", "total_reward",
            "trajectory_metrics", "steps", "schema_version")  # fmt: skip
_TRAJECTORY = ("idx", "example_id", "turns", "reward", "metrics", "error", "time_seconds")


class TinkerSummaries:
    """`iteration_<N>/{train,eval_<name>}_rollout_summaries.jsonl`: a line is one trajectory, without text."""

    name = "tinker-cookbook"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """A trajectory's steps."""
        return "traj_idx" in row and "group_idx" in row and isinstance(row.get("steps"), list)

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The run's folder."""
        return path.parent.parent if path.parent.name.startswith("iteration_") else path.parent

    def reader(self, place: Place) -> SummaryReader:
        """For one iteration."""
        return SummaryReader(place)


class SummaryReader(Whole):
    """Reads one iteration."""

    def __init__(self, place: Place) -> None:
        self._split = split_of(place.name)
        self._step = place.number(r"iteration_(\d+)")

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A rollout."""
        steps = [inside(step) for step in need(row, "steps", list)]
        rewards, metrics, others = divided(inside(row.get("trajectory_metrics")))
        policy, step = name_of(row.get("sampling_client_step")), whole(row.get("iteration"))
        word = row.get("split")
        split = split_of(word) or self._split
        said = {"split": word} if isinstance(word, str) and word != split else {}
        yield Rollout(
            name_of(row.get("group_idx")) or "0",
            name_of(row.get("traj_idx")) or "0",
            split=split,
            step=step if step is not None else self._step,
            reward=number(row.get("total_reward")),
            rewards=rewards,
            metrics=metrics,
            extras=rest(row, *_SUMMARY)
            | others
            | said
            | {"steps": [s["logs"] for s in steps if s.get("logs")]},
            turns=[_turn(step) for step in steps],
            output_tokens=sum(whole(step.get("ac_len")) or 0 for step in steps),
            policy_start=policy,
            policy_end=policy,
        )


def _turn(step: Row) -> Turn:
    numbers = {name: step[name] for name in ("ob_len", "ac_len") if number(step.get(name)) is not None}
    others = {k: v for k, v in inside(step.get("metrics")).items() if number(v) is not None}
    return Turn(reward=number(step.get("reward")), metrics=numbers | others)


class TinkerEval:
    """`runs/<run>/<benchmark>/trajectories.jsonl`: a line is one trajectory of an evaluation."""

    name = "tinker-cookbook-eval"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """Turns of an example."""
        return isinstance(row.get("turns"), list) and "example_id" in row

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The run's folder."""
        return path.parent.parent

    def reader(self, place: Place) -> EvalReader:
        """For one benchmark."""
        return EvalReader(place)


class EvalReader(Whole):
    """Reads one benchmark."""

    def __init__(self, place: Place) -> None:
        found = re.search(r"(?:^|/)runs/([^/]+)/[^/]+/[^/]+$", str(place.path))
        self._run = found[1] if found else None
        self._again = Again()

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A rollout."""
        messages = messages_of(need(row, "turns", list))
        rewards, metrics, others = divided(inside(row.get("metrics")))
        group, sample = name_of(row.get("example_id")) or "0", name_of(row.get("idx")) or str(number_ - 1)
        turns = turns_of(messages)
        if turns:
            turns[-1].reward = number(row.get("reward"))
        again = self._again(sample, None)
        yield Rollout(
            group,
            sample,
            run=self._run,
            split=EVAL,
            scope=f"sample {group}/{sample}",
            again=again,
            reward=number(row.get("reward")),
            rewards=rewards,
            metrics=metrics,
            extras=rest(row, *_TRAJECTORY) | others | ({"error": row["error"]} if row.get("error") else {}),
            messages=messages,
            turns=turns,
            status=FAILED if row.get("error") else "ok",
            final_text=final_text(messages),
            duration=number(row.get("time_seconds")),
        )


class TinkerCapture:
    """`capture/<kind>.jsonl`, `checkpoints.jsonl`: a line is one call, or one checkpoint."""

    name = "tinker-cookbook-capture"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """A call's scope, or a checkpoint's paths."""
        return (row.get("kind") in ("sample", "train_op") and "scope" in row) or (
            path.name == "checkpoints.jsonl" and "name" in row
        )

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The run's folder."""
        return path.parent.parent if path.parent.name == "capture" else path.parent

    def reader(self, place: Place) -> CaptureReader:
        """For one file."""
        return CaptureReader()


class CaptureReader(Whole):
    """Reads one file."""

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A note; of a sampling call with its tokens."""
        if "kind" not in row:
            yield Note("checkpoint_saved", row, step=whole(row.get("batch")))
            return
        scope = inside(row.get("scope"))
        samples = [inside(sample) for sample in listed(row.get("samples"))]
        arrays: dict[str, Any] = {"prompt_ids": listed(row.get("prompt_tokens"))}
        for index, sample in enumerate(samples):
            ending = f"_{index}" if index else ""
            arrays["token_ids" + ending] = listed(sample.get("tokens"))
            arrays["logprobs" + ending] = listed(sample.get("logprobs"))
        arrays = {name: values for name, values in arrays.items() if values}
        reasons = [sample.get("stop_reason") for sample in samples]
        yield Note(
            "tokens" if arrays else "other",
            {**rest(row, "samples", "prompt_tokens", "kind"), "call": row["kind"], "stop_reasons": reasons},
            split=split_of(scope.get("split")),
            step=whole(scope.get("iteration")),
            group=name_of(scope.get("group_idx")),
            sample=name_of(scope.get("traj_idx")),
            tokens=arrays,
            moment=number(row.get("created_at")),
        )
