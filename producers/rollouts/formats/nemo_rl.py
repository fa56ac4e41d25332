"""NeMo-RL: `train_data_step<N>.jsonl` and `val_data_step<N>.jsonl`, each value a list of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.messages import final_text, messages_of, turns_of
from producers.rollouts.model import (
    EVAL,
    TRAIN,
    InARow,
    Item,
    Message,
    Place,
    Rollout,
    Row,
    UnfitError,
    Whole,
    listed,
    number,
    rest,
    text_of,
    to_json,
    whole,
)

_ARRAYS = {
    "token_ids": "token_ids",
    "token_loss_mask": "mask",
    "advantages": "advantages",
    "generation_logprobs": "logprobs",
    "prev_logprobs": "trainer_logprobs",
    "reference_policy_logprobs": "reference_logprobs",
}
"""Of a value for each token: their names there and here."""
_KNOWN = ("content", "rewards", "idx", "input_lengths", *_ARRAYS)


class NemoRl:
    """The format."""

    name = "nemo-rl"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """Lists of content and rewards."""
        return isinstance(row.get("content"), list) and isinstance(row.get("rewards"), list)

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """Its folder."""
        return path.parent

    def reader(self, place: Place) -> NemoRlReader:
        """For one step."""
        return NemoRlReader(place)


class NemoRlReader(Whole):
    """Reads one step."""

    def __init__(self, place: Place) -> None:
        self._split = EVAL if place.name.startswith("val") else TRAIN
        self._step = place.number(r"step_?(\d+)")
        self._in_a_row = InARow()

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """The samples of a micro batch, which is mostly one."""
        contents = row.get("content")
        if not isinstance(contents, list):
            raise UnfitError("The field content is no list.")
        for index, content in enumerate(contents):
            one = {
                name: values[index]
                for name, values in row.items()
                if isinstance(values, list) and len(values) == len(contents)
            }
            yield self._rollout(content, one, {k: v for k, v in row.items() if k not in one})

    def _rollout(self, content: Any, one: Row, others: Row) -> Rollout:
        length = whole(one.get("input_lengths"))
        arrays = {
            ours: values[:length]
            for theirs, ours in _ARRAYS.items()
            if isinstance(values := one.get(theirs), list)
        }
        mask = listed(arrays.get("mask"))
        messages = _messages(content, mask)
        prompt = messages[: _first_turn(messages)]
        group, sample = self._in_a_row(to_json(prompt))
        advantage = one.get("advantages")
        if isinstance(advantage, list):
            advantage = next((a for a, trained in zip(advantage, mask, strict=False) if trained), None)
        if mask:
            arrays["mask"] = [bool(value) for value in mask]
        return Rollout(
            group,
            sample,
            split=self._split,
            step=self._step,
            reward=number(one.get("rewards")),
            advantage=number(advantage),
            extras=rest(one, *_KNOWN) | rest(others, *_KNOWN),
            messages=messages,
            turns=turns_of(messages),
            input_tokens=None if not mask else len(mask) - sum(map(bool, mask)),
            output_tokens=None if not mask else sum(map(bool, mask)),
            final_text=final_text(messages),
            tokens=arrays,
        )


def _first_turn(messages: Sequence[Message]) -> int:
    return next((i for i, message in enumerate(messages) if message["role"] == "assistant"), len(messages))


def _messages(content: Any, mask: Sequence[Any]) -> list[Message]:
    """A message log; of texts without roles, the trained stretches of tokens are the turns."""
    if not isinstance(content, list) or not all(isinstance(text, str) for text in content):
        return messages_of(content)
    spoken = sum(1 for trained, _ in groupby(mask, bool) if trained) or 1
    first = len(content) - 2 * spoken + 1
    first = first if 0 <= first <= 2 else min(2, max(len(content) - 1, 0))
    turns = {first + 2 * n for n in range(spoken)}
    if mask and mask[-1] and max(turns) != len(content) - 1:  # several results between two turns
        turns = {*sorted(turns)[:-1], len(content) - 1}
    return [
        {"role": _role(index, first, turns), "content": text_of(text) or ""}
        for index, text in enumerate(content)
    ]


def _role(index: int, first: int, turns: set[int]) -> str:
    if index in turns:
        return "assistant"
    if index < first:
        return "user" if index == first - 1 else "system"
    return "tool"
