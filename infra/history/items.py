"""What a run's history consists of: records with their place, and heads, which are what a search needs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct

from infra.history.clock import micros
from schemas.codec import Decoder, Encoder, Record, Schema, current_schema
from schemas.topics import BESIDE, LINES, Kind

ORDER = {kind: number for number, kind in enumerate((*LINES, *BESIDE))}
"""Among records of one line: a dead letter that was redriven gives way to what it became; what stands beside
a line, such as a picture, comes behind it."""

SQL_COLUMNS = {
    kind: tuple(
        field["name"]
        for field in current_schema(kind)["fields"]
        if field["name"] not in ("run_id", "stream_id", "topic_partition", "topic_offset")
    )
    for kind in (*LINES, Kind.ROLLOUTS, Kind.TOKENS)
}
"""Of the kinds that SQL keeps whole: columns of a row, in this order, before its partition and offset."""

_BOOLEANS = {
    Kind.STEPS: ("terminated", "truncated"),
    Kind.EPISODES: ("terminated", "truncated"),
    Kind.ROLLOUTS: ("superseded",),
}
_DOUBLES = {Kind.STEPS: ("reward",), Kind.EPISODES: ("episode_return", "duration", "elapsed")}


class Item(NamedTuple):
    """One record of a run."""

    kind: Kind
    stream_id: str
    seq: int
    time: int
    """µs since 1970, UTC. In replay's order: the greatest event time of its stream so far."""
    agent_id: str
    partition: int
    offset: int
    timestamp: int
    """Kafka's, ms since 1970; of a row from SQL, which does not keep it, its event time."""
    load: bytes | tuple[Any, ...]
    """Wire bytes, or a row of `SQL_COLUMNS`."""


class Head(Struct, frozen=True, gc=False):
    """What a search needs of a record."""

    seq: int
    kind: Kind
    time: int
    episode_index: int | None
    agent_id: str
    partition: int
    offset: int


class Records:
    """Items as records with the fields of the newest schemas, and as wire bytes.

    Args:
        run_id: whose.
        lookup: schema of an id; raises SchemaError where there is none.
    """

    def __init__(self, run_id: str, lookup: Callable[[int], Schema]) -> None:
        self._run_id = run_id
        self._decoders = {kind: Decoder(kind, lookup) for kind in Kind}
        self._encoders: dict[Kind, Encoder] = {}

    def __call__(self, item: Item) -> Record:
        """The record.

        Raises:
            SchemaError: its bytes cannot be read.
        """
        if isinstance(item.load, bytes):
            return self._decoders[item.kind](item.load)
        record: Record = {"run_id": self._run_id, "stream_id": item.stream_id}
        record.update(zip(SQL_COLUMNS[item.kind], item.load, strict=False))
        return _as_sent(item, record)

    def wire(self, item: Item) -> bytes:
        """The bytes that lie on Kafka; of a row from SQL, its record encoded anew."""
        if isinstance(item.load, bytes):
            return item.load
        encode = self._encoders.get(item.kind) or self._encoders.setdefault(item.kind, Encoder(item.kind))
        return encode(self(item))


def _as_sent(item: Item, record: Record) -> Record:
    """What SQLite has no type for: times, booleans, and NaN, of which `extras` has a note."""
    kind, record["event_time"] = item.kind, micros([record["event_time"]])[0]
    for name in _BOOLEANS.get(kind, ()):
        if record[name] is not None:
            record[name] = bool(record[name])
    if kind is Kind.STEPS or kind is Kind.EPISODES:
        extras = record["extras"]
        if extras is not None and '"NaN"' in extras:
            noted = json.loads(extras)
            for name in _DOUBLES[kind]:
                if record[name] is None and noted.get(name) == "NaN":
                    record[name] = math.nan
    elif kind is Kind.DLQ:
        place = (None, None) if record["topic"] is None else (item.partition, item.offset)
        record |= {"topic_partition": place[0], "topic_offset": place[1]}
    return record
