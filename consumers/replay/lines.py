"""A record as the JSONL line that a worker would have written for it.

Ingested again, the line gives the same event: JSON texts are copied as they are, numbers that are none
are the bare words, log lines and dead letters are their raw line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from schemas.codec import Record
from schemas.topics import Kind

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOT_NUMBERS = {"NaN", "Infinity", "-Infinity"}
JSON_FIELDS = frozenset({"observation", "action", "info", "payload"})
SPREAD = frozenset({"metrics", "extras"})
IDENTITY = frozenset({"run_id", "stream_id", "seq", "agent_id", "worker_id", "event_time"})
TYPES = {Kind.STEPS: "step", Kind.EPISODES: "episode"}


def as_line(kind: Kind, record: Record) -> bytes | None:
    """The line without its end; None for what was no line of a worker's own.

    That is a picture, and a letter about a record that a consumer refused: the record itself is there.
    """
    return _WRITERS[kind](record) if kind in _WRITERS else None


def _event(kind: Kind) -> Callable[[Record], bytes]:
    def write(record: Record) -> bytes:
        fields = _head(record)
        if kind in TYPES:
            fields["type"] = TYPES[kind]
        for name, value in record.items():
            if value is not None and name not in IDENTITY and name not in SPREAD:
                fields[name] = _raw(value) if name in JSON_FIELDS else _number(value)
        metrics = _members(record.get("metrics"))
        fields |= {name: _bare_word(value) for name, value in metrics.items() if name not in fields}
        # A worker's own word for the kind was kept among the extras, and says more than ours.
        extras = _members(record.get("extras"))
        return _encode(fields | {k: v for k, v in extras.items() if k not in fields or k == "type"})

    return write


def _head(record: Record) -> dict[str, Any]:
    when = EPOCH + timedelta(microseconds=record["event_time"])
    fields = {
        "ts": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "run_id": record["run_id"],
        "agent_id": record["agent_id"],
    }
    if record["worker_id"] is not None:
        fields["worker_id"] = record["worker_id"]
    return fields


def _log_line(record: Record) -> bytes:
    return str(record["line"]).encode("utf-8", "replace")


def _letter(record: Record) -> bytes | None:
    return bytes(record["raw"]) if record["topic"] is None else None


_WRITERS: dict[Kind, Callable[[Record], bytes | None]] = {
    Kind.STEPS: _event(Kind.STEPS),
    Kind.EPISODES: _event(Kind.EPISODES),
    Kind.METRICS: _event(Kind.METRICS),
    Kind.RUNS: _event(Kind.RUNS),
    Kind.LOGS: _log_line,
    Kind.DLQ: _letter,
}


def _number(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return msgspec.Raw(json.dumps(value).encode())
    return value


def _raw(text: str) -> msgspec.Raw:
    # JSON that a worker sent inside a string may hold line ends; outside of strings they are blanks.
    return msgspec.Raw(text.translate({10: " ", 13: " "}).encode())


def _members(text: str | None) -> dict[str, Any]:
    """The members of a JSON object, each as its own text."""
    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:  # lone surrogates, which the stdlib reads
        return {name: _raw(json.dumps(value)) for name, value in json.loads(text).items()}


def _bare_word(value: Any) -> Any:
    """Metrics hold numbers only: a string there stands for NaN or an infinity."""
    word = bytes(value).strip(b'"').decode("utf-8", "replace")
    return _raw(word) if word in NOT_NUMBERS else value


def _encode(fields: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError:  # a lone surrogate in a name
        texts = {name: msgspec.json.encode(value).decode() for name, value in fields.items()}
        return ("{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in texts.items()) + "}").encode()
