"""ms-swift: `completions.jsonl`, a line is one log step, its columns lists of equal length."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.messages import messages_of
from producers.rollouts.model import (
    TRAIN,
    Again,
    InARow,
    Item,
    Place,
    Rollout,
    Row,
    Turn,
    UnfitError,
    Whole,
    divided,
    need,
    number,
    text_of,
    whole,
)

_KNOWN = ("step", "prompt", "completion", "advantages", "num_turns")
_MODEL_BEGINS = re.compile(
    r"<\|im_start\|>assistant|<\|start_header_id\|>assistant|<start_of_turn>model|<\|assistant\|>|\[/INST\]|"
    r"<\uff5cAssistant\uff5c>|<\|start\|>assistant|\nassistant\n|\n+(?:Assistant|ASSISTANT):"
)
"""Where a chat template lets the model speak: what stands before the first is the prompt of the group."""


class MsSwift:
    """The format."""

    name = "ms-swift"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """Columns of texts."""
        return isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list)

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """Its folder."""
        return path.parent

    def reader(self, place: Place) -> MsSwiftReader:
        """For the file."""
        return MsSwiftReader(place)


class MsSwiftReader(Whole):
    """Reads the file."""

    def __init__(self, place: Place) -> None:
        self._path = place.path
        self._again = Again()

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """The rollouts of a log step."""
        prompts, completions = need(row, "prompt", list), need(row, "completion", list)
        columns = {name: values for name, values in row.items() if _is_column(values, len(completions))}
        if len(prompts) != len(completions):
            raise UnfitError("The columns prompt and completion differ in length.")
        others = {name: values for name, values in row.items() if name not in columns}
        rows: InARow | None = None
        at: Any = self
        for index in range(len(completions)):
            one = {name: values[index] for name, values in columns.items()}
            if rows is None or one.get("step") != at:
                at, rows = one.get("step"), InARow()
                again = self._again(at, None)
            yield self._rollout(one, others, rows, again)

    def _rollout(self, one: Row, others: Row, rows: InARow, again: int) -> Rollout:
        prompt, said = text_of(one.get("prompt")) or "", text_of(one.get("completion")) or ""
        begins = _MODEL_BEGINS.search(prompt)
        group, sample = rows(prompt[: begins.end()] if begins else prompt)
        rewards, metrics, extras = divided({k: v for k, v in one.items() if k not in _KNOWN})
        turns, step = whole(one.get("num_turns")), whole(one.get("step"))
        if turns is not None:
            metrics["num_turns"] = one["num_turns"]
        return Rollout(
            group,
            sample,
            split=TRAIN,
            step=step,
            scope=f"step {step}",
            again=again,
            advantage=number(one.get("advantages", one.get("advantage"))),
            rewards=rewards,
            metrics=metrics,
            extras=extras | others,
            messages=[*messages_of(prompt, "prompt"), {"role": "assistant", "content": said}],
            turns=[*(Turn() for _ in range((turns or 1) - 1)), Turn(prompt, said)],
            final_text=said,
        )


def _is_column(values: object, length: int) -> bool:
    return isinstance(values, list) and len(values) == length
