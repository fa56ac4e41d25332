"""AReaL: `{rollout,eval-rollout}/<tail version>/<task id>.jsonl`, a line is one sample."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from producers.rollouts.messages import messages_of
from producers.rollouts.model import (
    Again,
    Item,
    Place,
    Rollout,
    Row,
    Turn,
    Whole,
    name_of,
    need,
    number,
    rest,
    split_of,
    whole,
)

_KNOWN = ("task_id", "sample_idx", "head_version", "tail_version", "reward", "prompt", "completion")


class Areal:
    """The format."""

    name = "areal"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """A task, its texts and versions."""
        return "task_id" in row and "prompt" in row and "completion" in row and "tail_version" in row

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The folder that holds those of training and of evaluation."""
        folder = path.parent.parent
        return folder.parent if split_of(folder.name) else folder

    def reader(self, place: Place) -> ArealReader:
        """For one task."""
        return ArealReader(place)


class ArealReader(Whole):
    """Reads one task. After a restart its number is given again, and appended to the same file."""

    def __init__(self, place: Place) -> None:
        parts = reversed(place.path.parts[-3:-1])
        self._split = next((split for part in parts if (split := split_of(part))), None)
        self._folder, self._stem = whole(place.path.parent.name), place.path.stem
        self._again = Again()

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A rollout."""
        prompt, said = need(row, "prompt", str), need(row, "completion", str)
        group = name_of(row.get("task_id")) or self._stem
        sample = name_of(row.get("sample_idx")) or str(number_ - 1)
        tail = whole(row.get("tail_version"))
        length, of_prompt = whole(row.get("seqlen")), whole(row.get("prompt_len"))
        yield Rollout(
            group,
            sample,
            split=self._split,
            step=tail if tail is not None else self._folder,
            again=self._again(group, sample),
            reward=number(row.get("reward")),
            extras=rest(row, *_KNOWN),
            messages=[*messages_of(prompt, "prompt"), {"role": "assistant", "content": said}],
            turns=[Turn(prompt, said, number(row.get("reward")))],
            input_tokens=of_prompt,
            output_tokens=None if length is None or of_prompt is None else length - of_prompt,
            policy_start=name_of(row.get("head_version")),
            policy_end=name_of(row.get("tail_version")),
            final_text=said,
        )
