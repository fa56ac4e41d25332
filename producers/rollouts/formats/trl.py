"""TRL: `completions/completions_<step>.parquet`, a row is one completion."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import PurePosixPath

from producers.rollouts.messages import final_text, messages_of, turns_of
from producers.rollouts.model import (
    TRAIN,
    InARow,
    Item,
    Message,
    Place,
    Rollout,
    Row,
    Turn,
    UnfitError,
    Whole,
    divided,
    number,
    text_of,
    to_json,
    whole,
)

_KNOWN = ("step", "prompt", "completion", "advantage")


class Trl:
    """The format."""

    name = "trl"
    suffix = ".parquet"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """Its two texts, and a step or the file's name."""
        named = path.name.startswith("completions")
        return "prompt" in row and "completion" in row and ("step" in row or named)

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The folder of the run, above `completions`."""
        return path.parent.parent if path.parent.name == "completions" else path.parent

    def reader(self, place: Place) -> TrlReader:
        """For one step."""
        return TrlReader(place)


class TrlReader(Whole):
    """Reads one step."""

    def __init__(self, place: Place) -> None:
        self._step = place.number(r"completions_(\d+)\.")
        self._doubles = place.doubles
        self._in_a_row = InARow()

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A rollout."""
        if "prompt" not in row or "completion" not in row:
            raise UnfitError("The columns prompt and completion are missing.")
        group, sample = self._in_a_row(to_json(row["prompt"]))
        own = {k: v for k, v in row.items() if k not in _KNOWN}
        own |= {k: math.nan for k, v in own.items() if v is None and k in self._doubles}
        rewards, metrics, extras = divided(own)
        prompt = messages_of(row["prompt"], "prompt")
        messages, turns = conversation(prompt, row["completion"])
        yield Rollout(
            group,
            sample,
            split=TRAIN,
            step=whole(row.get("step")) if row.get("step") is not None else self._step,
            advantage=number(row.get("advantage")),
            rewards=rewards,
            metrics=metrics,
            extras=extras,
            messages=messages,
            turns=turns,
            final_text=final_text(messages[len(prompt) :]),
        )


def conversation(prompt: list[Message], completion: object) -> tuple[list[Message], list[Turn]]:
    """All messages and the model's turns: of a completion of messages, or of one undivided text."""
    if isinstance(completion, list):
        messages = [*prompt, *messages_of(completion)]
        asked = "\n\n".join(message.get("content") or "" for message in prompt)
        turns = turns_of([{"role": "prompt", "content": asked}, *messages_of(completion)])
        return messages, turns
    said = text_of(completion) or ""
    asked = "\n\n".join(message.get("content") or "" for message in prompt)
    return [*prompt, {"role": "assistant", "content": said}], [Turn(asked, said)]
