"""verl: `<rollout_data_dir>/<step>.jsonl` and `<validation_data_dir>/<step>.jsonl`, a line is one output."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from producers.rollouts.messages import messages_of
from producers.rollouts.model import (
    InARow,
    Item,
    Place,
    Rollout,
    Row,
    Turn,
    divided,
    need,
    number,
    split_of,
    whole,
)

_UID = re.compile(r"(.+)_(\d+)_(\d+)")
"""Of trainer v1: prompt, sample, output."""
_KNOWN = frozenset({"input", "output", "score", "step", "uid", "gts"})


class Verl:
    """The format."""

    name = "verl"
    suffix = ".jsonl"

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """A prompt, an output and one of what verl always adds, in a file named by its step."""
        if whole(path.stem) is None:
            return False
        return "input" in row and "output" in row and any(name in row for name in ("score", "gts", "uid"))

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The folder that holds those of training and of validation."""
        return path.parent.parent if split_of(path.parent.name) else path.parent

    def reader(self, place: Place) -> VerlReader:
        """For one step."""
        return VerlReader(place)


class VerlReader:
    """Reads one step."""

    def __init__(self, place: Place) -> None:
        self._split = next(
            (split for part in reversed(place.path.parts[-3:-1]) if (split := split_of(part))), None
        )
        self._step = whole(place.path.stem)
        self._in_a_row = InARow()
        self._samples: Counter[str] = Counter()
        self._held: Rollout | None = None

    def row(self, row: Row, number_: int) -> Iterable[Item]:
        """A session of several outputs has a line for each: it is complete when another one begins."""
        made = self._rollout(row)
        if "uid" not in row:
            yield from self.end()
            yield made
        elif self._held is not None and (self._held.group, self._held.sample) == (made.group, made.sample):
            self._held = _joined(self._held, made)
        else:
            held, self._held = self._held, made
            if held is not None:
                yield held

    def end(self) -> Iterable[Item]:
        """The last session."""
        held, self._held = self._held, None
        return () if held is None else (held,)

    def _rollout(self, row: Row) -> Rollout:
        prompt, output = need(row, "input", str), need(row, "output", str)
        rewards, metrics, extras = divided({name: value for name, value in row.items() if name not in _KNOWN})
        if row.get("gts") is not None:
            extras["gts"] = row["gts"]
        if row.get("uid") is not None:
            extras["uid"] = row["uid"]
        group, sample = self._place(row, prompt)
        return Rollout(
            group,
            sample,
            split=self._split,
            step=whole(row.get("step")) if "step" in row else self._step,
            reward=number(row.get("score")),
            rewards=rewards,
            metrics=metrics,
            extras=extras,
            messages=[*messages_of(prompt, "prompt"), {"role": "assistant", "content": output}],
            turns=[Turn(prompt, output, number(row.get("score")))],
            final_text=output,
        )

    def _place(self, row: Row, prompt: str) -> tuple[str, str]:
        uid = row.get("uid")
        if not isinstance(uid, str):
            return self._in_a_row(prompt)
        if found := _UID.fullmatch(uid):
            return found[1], found[2]
        self._samples[uid] += 1
        return uid, str(self._samples[uid] - 1)


def _joined(first: Rollout, more: Rollout) -> Rollout:
    for turn in first.turns:
        turn.reward = None
    return replace(more, messages=[*first.messages, *more.messages], turns=[*first.turns, *more.turns])
