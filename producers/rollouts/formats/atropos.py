"""Atropos: the file of `data_path_to_save_groups`, a line is one group, its arrays by member."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from producers.rollouts.messages import final_text, is_models, messages_of, turns_of
from producers.rollouts.model import TRAIN, Item, Place, Rollout, Row, Turn, Whole, listed, need, number, rest

_BY_MEMBER = ("tokens", "masks", "scores", "advantages", "ref_logprobs", "messages", "inference_logprobs",
              "overrides", "images", "distill_token_ids", "distill_logprobs")  # fmt: skip
_UNTRAINED = -100


class Atropos:
    """The format."""

    name = "atropos"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """Lists of tokens and scores."""
        return isinstance(row.get("scores"), list) and isinstance(row.get("tokens"), list)

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """Its folder."""
        return path.parent

    def reader(self, place: Place) -> AtroposReader:
        """For the file."""
        return AtroposReader()


class AtroposReader(Whole):
    """Reads the file."""

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """The rollouts of a group."""
        scores = need(row, "scores", list)
        of_group = rest(row, *_BY_MEMBER)
        members = max(len(scores), len(listed(row.get("tokens"))), len(listed(row.get("messages"))))
        for index in range(members):
            score = scores[index] if index < len(scores) else None
            one = {name: row[name][index] for name in _BY_MEMBER if index < len(listed(row.get(name)))}
            yield _rollout(str(number_), index, score, one, of_group)


def _rollout(group: str, index: int, score: Any, one: Row, of_group: Row) -> Rollout:
    messages = messages_of(one.get("messages"))
    turns = turns_of(messages) or [Turn()]
    spoken = [message for message in messages if is_models(message)]
    for turn, message in zip(turns, spoken, strict=False):
        turn.reward = number(message.get("extras", {}).get("reward"))
    tokens, masks = listed(one.get("tokens")), listed(one.get("masks"))
    mask = [value != _UNTRAINED for value in masks]
    advantages: Any = one.get("advantages")
    arrays = {
        "token_ids": tokens,
        "mask": mask,
        "logprobs": listed(one.get("inference_logprobs")),
        "reference_logprobs": listed(one.get("ref_logprobs")),
        "advantages": listed(advantages),
    }
    if isinstance(advantages, list):
        advantages = next((a for a, trained in zip(advantages, mask, strict=False) if trained), None)
    kept = ("overrides", "images", "distill_token_ids", "distill_logprobs")
    return Rollout(
        group,
        str(index),
        split=TRAIN,
        reward=number(score),
        advantage=number(advantages),
        extras=of_group | {name: one[name] for name in kept if one.get(name) is not None},
        messages=messages,
        turns=turns,
        input_tokens=len(mask) - sum(mask) if mask else None,
        output_tokens=sum(mask) if mask else None,
        final_text=final_text(messages),
        tokens={name: values for name, values in arrays.items() if values},
    )
