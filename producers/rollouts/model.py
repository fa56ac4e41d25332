"""What the rows of any format become: rollouts, numbers at a step, notes. Pure.

Texts are the model's own; numbers are as the file has them. What a format does not say is None.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, Protocol

Row = dict[str, Any]
Message = dict[str, Any]

OK, TRUNCATED, FAILED, ABORTED = "ok", "truncated", "failed", "aborted"
TRAIN, EVAL = "train", "eval"


class UnfitError(ValueError):
    """A row that is no row of its format: one sentence why."""


@dataclass
class Turn:
    """One time that the model spoke: what it read since its last turn and what it said; None: unknown."""

    observation: str | None = None
    action: str | None = None
    reward: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Rollout:
    """One sample of one prompt.

    Args:
        run: the run that the file names.
        split: train or eval; the framework's own word where it has another goes to `extras`.
        group, sample: ids; the format's own, else numbers from 0 by order.
        copy_key: names the sample where copies of it have other steps; None: its split, step, group, sample.
        scope: what a later attempt in the same file replaces as a whole; None: the file.
        again: how often that began anew in this file, from 0.
        precedence: among copies of one attempt, the highest counts.
        rewards: name to (value, weight); a scoring that never ran is absent.
        metrics: numbers that are no reward.
        extras: what else the file says.
        tokens: a value for each token, by name.
        moment: when it ended, seconds since 1970.
    """

    group: str
    sample: str
    run: str | None = None
    run_name: str | None = None
    split: str | None = None
    step: int | None = None
    copy_key: str | None = None
    scope: str | None = None
    again: int = 0
    precedence: int = 0
    reward: float | None = None
    advantage: float | None = None
    rewards: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    policy_start: str | None = None
    policy_end: str | None = None
    status: str = OK
    stop_reason: str | None = None
    final_text: str | None = None
    duration: float | None = None
    moment: float | None = None
    tokens: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass
class Numbers:
    """Numbers by name at a step of the trainer."""

    step: int | None
    values: dict[str, Any]
    run: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    moment: float | None = None


@dataclass
class Note:
    """What a file says about the run and is neither of the two; with `tokens`, arrays beside it."""

    event: str
    payload: dict[str, Any]
    run: str | None = None
    split: str | None = None
    step: int | None = None
    group: str | None = None
    sample: str | None = None
    tokens: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    moment: float | None = None


Item = Rollout | Numbers | Note


@dataclass(frozen=True)
class Place:
    """Where a file is.

    Args:
        path: relative to the folder that is watched, or its absolute path where that has more names.
        beside: a JSON file in the same folder, by name; empty where there is none.
        tokenizer: turns token ids into text; None: there is none beside the file.
        doubles: columns of a table that hold numbers only: a null in them is NaN.
    """

    path: PurePosixPath
    beside: Callable[[str], Row] = lambda _name: {}
    tokenizer: Callable[[Sequence[int]], str] | None = None
    doubles: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def number(self, pattern: str) -> int | None:
        """The number that a pattern's first group finds in the path, the last one."""
        found = re.findall(pattern, str(self.path))
        return int(found[-1]) if found else None


class Reader(Protocol):
    """Reads one file from its start."""

    def row(self, row: Row, number: int, /) -> Iterable[Item]:
        """What a row completes. Rows are numbered as the format counts: lines from 1, parquet from 0.

        Raises:
            UnfitError: it is no row of this format.
        """

    def end(self) -> Iterable[Item]:
        """What was held back until a further row would have come."""


class Format(Protocol):
    """One format of rollout files. To add one, write a module and name it in `formats.FORMATS`."""

    name: str
    suffix: str
    """Of its files: `.jsonl`, `.json` or `.parquet`."""

    def claims(self, path: PurePosixPath, row: Row) -> bool:
        """Whether a file with this first row is of the format."""

    def root(self, path: PurePosixPath) -> PurePosixPath:
        """The folder that holds all files of the run."""

    def reader(self, place: Place) -> Reader:
        """For one file."""


# Values


def number(value: Any) -> float | None:
    """A number, NaN included; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def whole(value: Any) -> int | None:
    """A whole number, also as text; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip(), re.A):
        return int(value)
    found = number(value)
    return int(found) if found is not None and math.isfinite(found) and abs(found) < 2**62 else None


def name_of(value: Any) -> str | None:
    """An id as text; None where there is none."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, (str, int, float)) and value != "" else None


def text_of(value: Any) -> str | None:
    """A message's content as text: of parts the texts, of anything else its JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(part, (str, dict)) for part in value):
        return "".join(part if isinstance(part, str) else _part(part) for part in value)
    return to_json(value)


def _part(part: Row) -> str:
    text = part.get("text", part.get("content"))
    return text if isinstance(text, str) else f"[{part.get('type', 'part')}]"


def to_json(value: Any) -> str:
    """JSON text of a value."""
    return json.dumps(value, ensure_ascii=False, default=str)


def inside(value: Any) -> Row:
    """An object, also as JSON text; empty for anything else."""
    if isinstance(value, str) and value[:1] == "{":
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    """A list; empty for anything else."""
    return value if isinstance(value, list) else []


def need(row: Row, name: str, kind: type | tuple[type, ...]) -> Any:
    """A field of a type.

    Raises:
        UnfitError: it is missing, or another type.
    """
    value = row.get(name)
    if isinstance(value, kind):
        return value
    raise UnfitError(f"The field {name} is {'missing' if name not in row else 'of another type'}.")


def rest(row: Row, *known: str) -> Row:
    """What no column takes; null fields say nothing."""
    return {name: value for name, value in row.items() if name not in known and value is not None}


# Rewards

_REWARD = re.compile(r"(^|_)(rewards?|penalty|bonus)(_|$)", re.I)
_NO_REWARD = re.compile(
    r"(^|_)(num|n|count|len|length|chars|tokens?|turns?|steps?|calls?|time|seconds?|sec|ms|latency|duration|entropy|"
    r"perplexity|kl|logprobs?|pred|prediction|index|idx|id|seed|epoch|judge|temperature|timeouts?|errors?|retries|"
    r"cost|usd|version|ratio|size)(_|$)",
    re.I,
)
"""Words in the names of numbers that are no reward, where a format does not tell the two apart."""


@lru_cache(4096)
def is_reward_name(name: str) -> bool:
    """Whether a number of this name is taken for a reward, where a format does not say."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return bool(_REWARD.search(snake)) or not _NO_REWARD.search(snake)


def divided(values: Mapping[str, Any]) -> tuple[dict[str, tuple[float, float | None]], Row, Row]:
    """Rewards by name, other numbers, and the rest of an object of named values; nulls say nothing."""
    rewards: dict[str, tuple[float, float | None]] = {}
    numbers: Row = {}
    others: Row = {}
    for name, value in values.items():
        found = number(value)
        if found is not None and is_reward_name(name):
            rewards[name] = (found, None)
        elif found is not None:
            numbers[name] = value
        elif value is not None:
            others[name] = value
    return rewards, numbers, others


# How it ended

_ENDINGS = {
    TRUNCATED: re.compile(
        r"length|max_(\w+_)?tokens|max_turns|truncat|exceeded|too_long|overlong|context_window", re.I
    ),
    ABORTED: re.compile(r"abort|cancel|interrupt|preempt|killed", re.I),
    FAILED: re.compile(r"error|fail|exception|crash|timeout|timed_out", re.I),
}


def status_of(reason: Any) -> str:
    """ok, truncated, failed or aborted, by a stop reason's words."""
    words = reason if isinstance(reason, str) else ""
    return next((status for status, pattern in _ENDINGS.items() if pattern.search(words)), OK)


def split_of(word: Any) -> str | None:
    """train or eval, of a framework's own word; None where it says nothing."""
    if not isinstance(word, str) or not word:
        return None
    first = re.split(r"[/_:.-]", word.lower())[0]
    if first in ("train", "training", "rollout", "rollouts"):
        return TRAIN
    return EVAL if first in ("eval", "evaluation", "val", "valid", "validation", "test") else None


class InARow:
    """Numbers groups by equal prompts in a row: (group, sample), both from 0."""

    def __init__(self) -> None:
        self._prompt: object = self
        self._group, self._sample = -1, 0

    def __call__(self, prompt: object) -> tuple[str, str]:
        """The numbers of the next sample."""
        if prompt == self._prompt:
            self._sample += 1
        else:
            self._prompt, self._group, self._sample = prompt, self._group + 1, 0
        return str(self._group), str(self._sample)


class Again:
    """Tells that a step began anew in an appended file: one of its samples comes once more."""

    def __init__(self) -> None:
        self._seen: dict[object, set[object]] = {}
        self._times: dict[object, int] = {}

    def __call__(self, step: object, sample: object) -> int:
        """How often the sample's step began anew, from 0."""
        seen = self._seen.setdefault(step, set())
        if sample in seen:
            seen.clear()
            self._times[step] = self._times.get(step, 0) + 1
        seen.add(sample)
        return self._times.get(step, 0)


class Whole:
    """A reader that holds nothing back."""

    def end(self) -> Iterable[Item]:
        """Nothing."""
        return ()
