"""SkyRL: `dumped_evals/global_step_<N>_evals/<data source>.jsonl`, a line is one sample of an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.messages import messages_of
from producers.rollouts.model import (
    ABORTED,
    EVAL,
    InARow,
    Item,
    Numbers,
    Place,
    Rollout,
    Row,
    Turn,
    Whole,
    inside,
    name_of,
    need,
    number,
    rest,
    status_of,
    text_of,
)

_KNOWN = ("input_prompt", "output_response", "score", "stop_reason")
MEANS = "aggregated_results.jsonl"


class SkyRl:
    """The format."""

    name = "skyrl"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """Its texts, or the means of an evaluation."""
        return ("input_prompt" in row and "output_response" in row) or (
            path.name == MEANS and "_evals" in path.parent.name
        )

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The export folder."""
        folder = path.parent
        if folder.name.endswith("_evals"):
            folder = folder.parent
        return folder.parent if folder.name == "dumped_evals" else folder

    def reader(self, place: Place) -> SkyRlReader:
        """For one data source of one evaluation."""
        return SkyRlReader(place)


class SkyRlReader(Whole):
    """Reads one data source of one evaluation."""

    def __init__(self, place: Place) -> None:
        self._is_means = place.name == MEANS
        self._step = place.number(r"global_step_(\d+)")
        self._stem = place.path.stem
        self._in_a_row = InARow()
        self._samples: Counter[str] = Counter()

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A rollout, or means."""
        if self._is_means:
            return [Numbers(self._step, row)]
        return [self._rollout(row)]

    def _rollout(self, row: Row) -> Rollout:
        prompt, said = (
            text_of(need(row, "input_prompt", (str, list))) or "",
            need(row, "output_response", str),
        )
        group = self._group(row, prompt)
        self._samples[group] += 1
        reason = row.get("stop_reason")
        return Rollout(
            group,
            str(self._samples[group] - 1),
            split=EVAL,
            step=self._step,
            reward=_score(row.get("score")),
            extras=rest(row, *_KNOWN),
            messages=[*messages_of(prompt, "prompt"), {"role": "assistant", "content": said}],
            turns=[Turn(prompt, said, _score(row.get("score")))],
            status=ABORTED if reason == "abort" else status_of(reason),
            stop_reason=text_of(reason),
            final_text=said,
        )

    def _group(self, row: Row, prompt: str) -> str:
        source = name_of(row.get("data_source")) or self._stem
        index = name_of(inside(inside(row.get("env_extras")).get("extra_info")).get("index"))
        return f"{source}#{index if index is not None else self._in_a_row(prompt)[0]}"


def _score(value: Any) -> float | None:
    """A total, or the rewards of its tokens."""
    if isinstance(value, list):
        parts = [found for part in value if (found := number(part)) is not None]
        return sum(parts) if parts else None
    return number(value)
