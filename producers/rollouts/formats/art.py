"""OpenPipe ART: `trajectories/<split>/<step>.parquet`, a row is one trajectory.

`trajectory_json` and `group_json` are the truth where they are there; older files have only columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.messages import final_text, message_of, turns_of
from producers.rollouts.model import (
    Item,
    Message,
    Note,
    Place,
    Rollout,
    Row,
    Whole,
    divided,
    inside,
    listed,
    name_of,
    number,
    rest,
    split_of,
    status_of,
    whole,
)

_COLUMNS = (
    *("format_version", "group_index", "trajectory_index", "group_json", "trajectory_json", "group_metadata"),
    *("group_metrics", "group_logs", "reward", "metrics", "metadata", "tools", "logs", "messages"),
)


class Art:
    """The format."""

    name = "art"
    suffix = ".parquet"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """A group, and a trajectory's messages."""
        return "group_index" in row and ("messages" in row or "trajectory_json" in row)

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The model's folder."""
        folder = path.parent.parent
        return folder.parent if folder.name == "trajectories" else folder

    def reader(self, place: Place) -> ArtReader:
        """For one step."""
        return ArtReader(place)


class ArtReader(Whole):
    """Reads one step."""

    def __init__(self, place: Place) -> None:
        self._split = split_of(place.path.parent.name)
        self._step = whole(place.path.stem)
        self._samples: Counter[str] = Counter()
        self._told: set[str] = set()

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A rollout; the failed ones of its group, which have no row, are told with its first."""
        group = name_of(row.get("group_index")) or "0"
        of_group = inside(row.get("group_json"))
        if of_group.get("exceptions") and group not in self._told:
            self._told.add(group)
            exceptions = {"event": "rollouts_failed", "group_id": group, **of_group}
            yield Note("other", exceptions, split=self._split, step=self._step, group=group)
        if _has_trajectory(row):
            yield self._rollout(group, row)
        elif not of_group.get("exceptions"):
            payload = {"event": "group_without_trajectories", "group_id": group, **of_group}
            yield Note("other", payload, split=self._split, step=self._step, group=group)

    def _rollout(self, group: str, row: Row) -> Rollout:
        sample = name_of(row.get("trajectory_index"))
        sample = sample if sample is not None else str(self._samples[group])
        self._samples[group] += 1
        trajectory = inside(row.get("trajectory_json")) or _of_columns(row)
        raw = listed(trajectory.get("messages_and_choices")) or listed(trajectory.get("messages"))
        messages = [_message(item) for item in raw]
        rewards, metrics, others = divided(inside(trajectory.get("metrics")))
        reason = next((item["finish_reason"] for item in reversed(raw) if item.get("finish_reason")), None)
        turns = turns_of(messages)
        if turns:
            turns[-1].reward = number(trajectory.get("reward"))
        kept = rest(trajectory, "messages_and_choices", "messages", "reward", "metrics",
                    "initial_policy_version", "final_policy_version")  # fmt: skip
        return Rollout(
            group,
            sample,
            split=self._split,
            step=self._step,
            reward=number(trajectory.get("reward")),
            rewards=rewards,
            metrics=metrics,
            extras=kept | others | rest(row, *_COLUMNS) | _group_facts(row),
            messages=messages,
            turns=turns,
            policy_start=name_of(trajectory.get("initial_policy_version")),
            policy_end=name_of(trajectory.get("final_policy_version")),
            status=status_of(reason),
            stop_reason=reason,
            final_text=final_text(messages),
        )


def _has_trajectory(row: Row) -> bool:
    return any(row.get(name) is not None for name in ("trajectory_json", "messages", "reward"))


def _of_columns(row: Row) -> Row:
    import json  # noqa: PLC0415 - only older files need it

    def value(name: str) -> Any:
        text = row.get(name)
        if not isinstance(text, str):
            return text
        try:
            return json.loads(text)
        except ValueError:
            return text

    return {name: value(name) for name in ("reward", "metrics", "metadata", "tools", "logs", "messages")}


def _message(item: Any) -> Message:
    """A message, or the choice of a model that holds one."""
    raw = dict(inside(inside(item).get("message")) or inside(item))
    if isinstance(raw.get("tool_calls"), str):
        raw["tool_calls"] = inside_list(raw["tool_calls"])
    for name in ("trainable", "refusal", "annotations", "audio", "function_call"):
        if raw.get(name) in (None, True, False):
            raw.pop(name, None)
    return message_of(raw)


def inside_list(text: str) -> list[Any]:
    """A list of JSON text; empty for anything else."""
    return listed(inside('{"list":' + text + "}").get("list"))


def _group_facts(row: Row) -> Row:
    metadata = inside(row.get("group_json")).get("metadata") or inside(row.get("group_metadata"))
    return {"group_metadata": metadata} if metadata else {}
