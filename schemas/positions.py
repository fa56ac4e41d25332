"""Positions in a run, as users write them: `beginning`, `episode:7-20`, `time:-5m`, `best` …

`replay --from`, the page's address and the API use the same words; `str(position)` returns them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from schemas.errors import UsageError
from schemas.topics import LINES, Kind

FORMS = (
    "beginning, end, offset:PARTITION:N (of the steps topic), offset:TOPIC:PARTITION:N, time:ISO, "
    "time:-5m (before the run's newest event), seq:N, episode:N, step:N, best, worst or latest (episode), "
    "each also with +N or -N steps"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Beginning:
    """The first record of the run."""

    def __str__(self) -> str:
        return "beginning"


@dataclass(frozen=True)
class End:
    """Behind the newest record."""

    def __str__(self) -> str:
        return "end"


@dataclass(frozen=True)
class Offset:
    """A record of one partition."""

    kind: Kind
    partition: int
    offset: int

    def __str__(self) -> str:
        topic = "" if self.kind is Kind.STEPS else f"{self.kind}:"
        return f"offset:{topic}{self.partition}:{self.offset}"


@dataclass(frozen=True)
class Time:
    """An event time, in microseconds since 1970, UTC."""

    micros: int

    def __str__(self) -> str:
        return f"time:{(EPOCH + timedelta(microseconds=self.micros)).isoformat().replace('+00:00', 'Z')}"


@dataclass(frozen=True)
class Ago:
    """A number of microseconds before the run's newest event."""

    micros: int

    def __str__(self) -> str:
        unit = next(unit for unit, size in reversed(UNITS.items()) if self.micros % size == 0)
        return f"time:-{self.micros // UNITS[unit]}{unit}"


@dataclass(frozen=True)
class Seq:
    """A line's number in its stream, from 1."""

    number: int

    def __str__(self) -> str:
        return f"seq:{self.number}"


@dataclass(frozen=True)
class Episode:
    """An episode by the index that the worker gave it."""

    number: int

    def __str__(self) -> str:
        return f"episode:{self.number}"


@dataclass(frozen=True)
class Step:
    """The run's global step, from 0, in replay's order."""

    number: int

    def __str__(self) -> str:
        return f"step:{self.number}"


@dataclass(frozen=True)
class Named:
    """An episode by its rank: `best` and `worst` by return; `latest` is the newest that has steps."""

    word: str

    def __str__(self) -> str:
        return self.word


Anchor = Beginning | End | Offset | Time | Ago | Seq | Episode | Step | Named

WORDS: dict[str, Anchor] = {
    "beginning": Beginning(),
    "end": End(),
    **{word: Named(word) for word in ("best", "worst", "latest")},
}
UNITS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
"""Units of a relative time, in µs, each a multiple of the one before."""

_SHIFT = re.compile(r"(.+?)([+-]\d+)\Z", re.A | re.S)
_AGO = re.compile(r"-(\d+(?:\.\d+)?)(us|ms|s|m|h|d)\Z", re.A)


@dataclass(frozen=True)
class Position:
    """A place in a run, moved by so many steps back (-) or forward (+)."""

    anchor: Anchor
    steps: int = 0

    def __str__(self) -> str:
        return f"{self.anchor}{self.steps:+d}" if self.steps else str(self.anchor)


def parse_position(text: str, topic_prefix: str = "telemetry.") -> Position:
    """Read a position; topics are named with or without their prefix.

    If the end of a time can be read as its zone or as a number of steps, it is the zone.

    Raises:
        UsageError: the text is no position.
    """
    text = text.strip()
    try:
        return Position(_anchor(text, topic_prefix))
    except ValueError as error:
        shifted = _SHIFT.match(text)
        try:
            if shifted is None:
                raise error
            return replace(Position(_anchor(shifted[1], topic_prefix)), steps=int(shifted[2]))
        except ValueError:
            raise UsageError(f"{text!r} is no position: {error}. Positions are {FORMS}.") from None


def ends_before_it_begins(start: Position, stop: Position) -> bool:
    """Whether two positions of one kind are in the wrong order; False where that is not known yet."""
    pair = (start.anchor, stop.anchor)
    if (start.steps or stop.steps) and start.anchor != stop.anchor:
        return False
    match pair:
        case (Seq(first), Seq(last)) | (Episode(first), Episode(last)) | (Step(first), Step(last)):
            return (first, start.steps) > (last, stop.steps)
        case (Time(first), Time(last)):
            return (first, start.steps) > (last, stop.steps)
        case (Offset(kind, partition, first), Offset(other, another, last)):
            return (kind, partition) == (other, another) and (first, start.steps) > (last, stop.steps)
        case (Ago(first), Ago(last)):
            return (-first, start.steps) > (-last, stop.steps)
    return start.anchor == stop.anchor and start.steps > stop.steps


def _anchor(text: str, topic_prefix: str) -> Anchor:
    word, colon, rest = text.partition(":")
    if not colon and word in WORDS:
        return WORDS[word]
    match word if colon else "":
        case "offset":
            return _offset(rest, topic_prefix)
        case "time":
            return _time(rest)
        case "seq":
            return Seq(_natural(rest))
        case "episode":
            return Episode(_natural(rest))
        case "step":
            return Step(_natural(rest))
    raise ValueError(f"{word!r} is no word for one" if word else "it is empty")


def _offset(rest: str, topic_prefix: str) -> Offset:
    parts = rest.split(":")
    if len(parts) not in (2, 3):
        raise ValueError("offset takes PARTITION:N or TOPIC:PARTITION:N")
    name = parts[0].removeprefix(topic_prefix) if len(parts) == 3 else Kind.STEPS.value
    names = {kind.value: kind for kind in LINES}
    if name not in names:
        raise ValueError(f"{parts[0]!r} is no topic of a run's lines ({', '.join(names)})")
    return Offset(names[name], _natural(parts[-2]), _natural(parts[-1]))


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"{text!r} is no whole number from 0")
    return int(text)


def _time(text: str) -> Time | Ago:
    if relative := _AGO.match(text):
        return Ago(round(float(relative[1]) * UNITS[relative[2]]))
    try:
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return Time((aware - EPOCH) // timedelta(microseconds=1))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no ISO-8601 time such as 2026-11-24T08:00:00Z, and no relative one such as -5m"
        ) from None
