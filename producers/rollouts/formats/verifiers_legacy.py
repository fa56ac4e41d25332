"""verifiers before 0.4: `results.jsonl` and `metadata.json`, a line is one rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.formats.trl import conversation
from producers.rollouts.messages import final_text, messages_of
from producers.rollouts.model import (
    EVAL,
    FAILED,
    TRUNCATED,
    Item,
    Place,
    Rollout,
    Row,
    Whole,
    divided,
    inside,
    name_of,
    need,
    number,
    rest,
    status_of,
    text_of,
    whole,
)

_KNOWN = (
    *("example_id", "prompt", "completion", "reward", "advantage", "metrics", "token_usage", "is_completed"),
    *("is_truncated", "stop_condition", "trajectory"),
)


class VerifiersLegacy:
    """The format."""

    name = "verifiers-legacy"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """An example, its two texts and its reward."""
        return "example_id" in row and "prompt" in row and "completion" in row

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """Its folder."""
        return path.parent

    def reader(self, place: Place) -> LegacyReader:
        """For the file."""
        return LegacyReader(place)


class LegacyReader(Whole):
    """Reads the file. A resumed evaluation runs an example again that was not complete."""

    def __init__(self, place: Place) -> None:
        self._beside = place.beside
        self._seen: Counter[str] = Counter()
        self._each: int | None = None

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A rollout."""
        if "prompt" not in row or "completion" not in row:
            need(row, "prompt", list)
        group = name_of(row.get("example_id")) or "0"
        again, sample = divmod(self._seen[group], self._samples(self._seen[group]))
        self._seen[group] += 1
        prompt = messages_of(row["prompt"], "prompt")
        messages, turns = conversation(prompt, row["completion"])
        rewards, metrics, others = divided(inside(row.get("metrics")))
        if turns:
            turns[-1].reward = number(row.get("reward"))
        copies = {name: value for name, value in row.items() if name in inside(row.get("metrics"))}
        usage = inside(row.get("token_usage"))
        timing = inside(row.get("timing"))
        yield Rollout(
            group,
            str(sample),
            split=EVAL,
            scope=f"example {group}/{sample}",
            again=again,
            reward=number(row.get("reward")),
            advantage=number(row.get("advantage")),
            rewards=rewards,
            metrics=metrics,
            extras=rest(row, *_KNOWN, *copies) | others,
            messages=messages,
            turns=turns,
            input_tokens=whole(usage.get("input_tokens")),
            output_tokens=whole(usage.get("output_tokens")),
            status=_status(row),
            stop_reason=text_of(row.get("stop_condition")),
            final_text=final_text(messages[len(prompt) :]),
            duration=number(timing.get("total")),
            moment=number(inside(timing.get("scoring")).get("end")) or number(timing.get("start_time")),
        )

    def _samples(self, seen: int) -> int:
        """Rollouts of each example: where nothing says, all of them are samples."""
        if self._each is None:
            self._each = whole(self._beside("metadata.json").get("rollouts_per_example"))
        return self._each if self._each else seen + 1


def _status(row: Row) -> str:
    error: Any = row.get("error")
    if error:
        return FAILED
    return TRUNCATED if row.get("is_truncated") is True else status_of(row.get("stop_condition"))
