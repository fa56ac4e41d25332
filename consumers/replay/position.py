"""Positions in a run, as users write them: `beginning`, `offset:0:1234`, `time:2026-11-24T08:00` …"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.errors import UsageError
from schemas.topics import LINES, Kind

FORMS = (
    "beginning, end, offset:PARTITION:N (of the steps topic), offset:TOPIC:PARTITION:N, time:ISO, "
    "seq:N or episode:N"
)


@dataclass(frozen=True)
class Beginning:
    """The first record that the log still holds."""


@dataclass(frozen=True)
class End:
    """Behind the newest record."""


@dataclass(frozen=True)
class Offset:
    """A record of one partition."""

    kind: Kind
    partition: int
    offset: int


@dataclass(frozen=True)
class Time:
    """An event time, in microseconds since 1970, UTC."""

    micros: int


@dataclass(frozen=True)
class Seq:
    """A line's number in its stream, from 1."""

    number: int


@dataclass(frozen=True)
class Episode:
    """A worker's number of an episode."""

    number: int


Position = Beginning | End | Offset | Time | Seq | Episode


def parse_position(text: str, topic_prefix: str = "telemetry.") -> Position:
    """Read a position; topics are named with or without their prefix.

    Raises:
        UsageError: it is none.
    """
    word, _, rest = text.strip().partition(":")
    try:
        match word:
            case "beginning" if not rest:
                return Beginning()
            case "end" if not rest:
                return End()
            case "offset":
                return _offset(rest, topic_prefix)
            case "time":
                return Time(_micros(rest))
            case "seq":
                return Seq(_natural(rest))
            case "episode":
                return Episode(_natural(rest))
    except ValueError as error:
        raise UsageError(f"{text!r} is no position: {error}. Positions are {FORMS}.") from None
    raise UsageError(f"{text!r} is no position. Positions are {FORMS}.")


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
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is no whole number from 0")
    return int(text)


def _micros(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no ISO-8601 time such as 2026-11-24T08:00:00Z") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
