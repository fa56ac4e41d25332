"""A record as the JSONL line that a worker would have written for it.

Ingested again, the line gives the same event: JSON texts are copied as they are, numbers that are none
are the bare words, log lines and dead letters are their raw line. A rollout and its tokens, which stand
beside a line, are a field of it.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any

import msgspec

from schemas.codec import Record, current_schema
from schemas.positions import EPOCH
from schemas.topics import BESIDE_FIELD, Kind

NOT_NUMBERS = {"NaN", "Infinity", "-Infinity"}
JSON_COLUMNS = frozenset({"observation", "action", "info"})
TYPES = {Kind.STEPS: "step", Kind.EPISODES: "episode"}
KIND_NAMES = ("type", "event_type", "event")
"""Names of the kind, in the order in which they are read."""
GLOBAL_STEP_NAMES = ("global_step", "step", "total_timesteps")
TIME_NAMES = ("ts", "timestamp", "ts_unix_ns")
_FOLLOWING = frozenset({"superseded", "derived_advantage", "length", "names"})
"""Columns beside a line that follow from other rows, or from the arrays."""
_SAID_FIRST = frozenset({"stream_id", "seq", "run_id", "agent_id", "worker_id", "event_time"})
"""Who and when. What names an event on Kafka is left out: a line that is ingested again gets new ones."""


def as_line(kind: Kind, record: Record, beside: Mapping[Kind, Record] | None = None) -> bytes | None:
    """The line without its end; None for what was no line of a worker's own.

    That is a picture, and a letter about a record that a consumer refused: the record itself is there.

    Args:
        beside: the rollout and the tokens under the same key.
    """
    line = _WRITERS[kind](record) if kind in _WRITERS else None
    if not beside or line is None or kind in (Kind.LOGS, Kind.DLQ):
        return line
    told = ",".join(f'"{other}":{_columns_text(other, beside[other])}' for other in sorted(beside))
    return line[:-1] + f',"{BESIDE_FIELD}":{{{told}}}}}'.encode()


def _columns_text(kind: Kind, record: Record) -> str:
    """The columns that are not those of the line, nor follow from others."""
    columns = (field["name"] for field in current_schema(kind)["fields"])
    wanted = (name for name in columns if name not in _SAID_FIRST and name not in _FOLLOWING)
    return (
        "{"
        + ",".join(f'"{name}":{_cell(name, record[name])}' for name in wanted if record[name] is not None)
        + "}"
    )


def _cell(name: str, value: Any) -> str:
    if name in ("rewards", "messages"):
        return _one_line(value)
    if isinstance(value, bytes):
        value = base64.b64encode(value).decode()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else _value(value)


def _step_or_episode(kind: Kind) -> Callable[[Record], bytes]:
    """Its columns by their names, also `metrics` and `extras`: nothing in them can be taken for another.

    Most lines of a run are of these kinds, so their text is put together here and not by an encoder.
    """
    names = [field["name"] for field in current_schema(kind)["fields"]]
    columns = [(name, f',"{name}":', _column(name)) for name in names if name not in _SAID_FIRST]
    begin = f'{{"type":"{TYPES[kind]}","ts":"'

    def write(record: Record) -> bytes:
        who = _who(record["run_id"], record["agent_id"], record["worker_id"])
        parts = [begin, _time(record["event_time"]), '"', who]
        for name, label, text_of in columns:
            value = record[name]
            if value is not None:
                parts.append(label)
                parts.append(text_of(value))
        parts.append("}")
        return "".join(parts).encode()

    return write


def _column(name: str) -> Callable[[Any], str]:
    if name in JSON_COLUMNS or name == "extras":
        return _one_line
    return _numbers_text if name == "metrics" else _value


@lru_cache(1024)
def _who(run_id: str, agent_id: str, worker_id: str | None) -> str:
    fields = {"run_id": run_id, "agent_id": agent_id} | (
        {} if worker_id is None else {"worker_id": worker_id}
    )
    return f",{msgspec.json.encode(fields)[1:-1].decode()}"


def _value(value: Any) -> str:
    """A number or a flag; a number that is none as its bare word."""
    if value is True or value is False:
        return "true" if value else "false"
    return json.dumps(value) if value.__class__ is float and not math.isfinite(value) else repr(value)


def _numbers_text(text: str) -> str:
    """The text of `metrics`: copied, unless it names NaN or an infinity."""
    if 'NaN"' in text or 'Infinity"' in text:
        return _encode(_numbers(text)).decode()
    return _one_line(text)


def _metrics(record: Record) -> bytes:
    # The line's own names, as `metrics` in it would be one more name; they are no column's.
    fields = _members(record["extras"]) | _numbers(record["metrics"])
    if record["global_step"] is not None:
        fields[_free(GLOBAL_STEP_NAMES, fields)] = record["global_step"]
    return _encode(fields | _identity(record, _free(TIME_NAMES, fields)))


def _run_event(record: Record) -> bytes:
    fields = _members(record["payload"])
    if record["event"] != "other":  # else the payload has the worker's own word for it
        fields[_free(KIND_NAMES, fields)] = record["event"]
    return _encode(fields | _identity(record, _free(TIME_NAMES, fields)))


def _free(names: tuple[str, ...], fields: dict[str, Any]) -> str:
    """The first of some names of one meaning that the worker did not use for something else."""
    return next((name for name in names if name not in fields), names[0])


def _log_line(record: Record) -> bytes:
    return str(record["line"]).encode("utf-8", "replace")


def _letter(record: Record) -> bytes | None:
    return bytes(record["raw"]) if record["topic"] is None else None


def _identity(record: Record, time_name: str = "ts") -> dict[str, Any]:
    """Time, run, agent and worker."""
    when = record["event_time"]
    fields = {
        time_name: when * 1000 if time_name == "ts_unix_ns" else _time(when),
        "run_id": record["run_id"],
        "agent_id": record["agent_id"],
    }
    if record["worker_id"] is not None:
        fields["worker_id"] = record["worker_id"]
    return fields


def _time(micros: int) -> str:
    """An event time in ISO 8601, UTC."""
    second, rest = divmod(micros, 1_000_000)
    return f"{_second(second)}.{rest:06d}Z"


@lru_cache(4096)
def _second(second: int) -> str:
    return (EPOCH + timedelta(seconds=second)).isoformat().removesuffix("+00:00")


def _numbers(text: str | None) -> dict[str, Any]:
    """Numbers by name. There are no strings among them: one stands for NaN or an infinity."""
    return {name: _bare_word(value) for name, value in _members(text).items()}


def _one_line(text: str) -> str:
    # JSON that a worker sent inside a string may hold line ends; outside of strings they are blanks.
    return text.translate({10: " ", 13: " "}) if "\n" in text or "\r" in text else text


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(_one_line(text).encode())


def _members(text: str | None) -> dict[str, Any]:
    """The members of a JSON object, each as its own text."""
    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:  # lone surrogates, which the stdlib reads
        return {name: _raw(json.dumps(value)) for name, value in json.loads(text).items()}


def _bare_word(value: Any) -> Any:
    word = bytes(value).strip(b'"').decode("utf-8", "replace")
    return _raw(word) if word in NOT_NUMBERS else value


def _encode(fields: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError:  # a lone surrogate in a name
        texts = {name: msgspec.json.encode(value).decode() for name, value in fields.items()}
        return ("{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in texts.items()) + "}").encode()


_WRITERS: dict[Kind, Callable[[Record], bytes | None]] = {
    Kind.STEPS: _step_or_episode(Kind.STEPS),
    Kind.EPISODES: _step_or_episode(Kind.EPISODES),
    Kind.METRICS: _metrics,
    Kind.RUNS: _run_event,
    Kind.LOGS: _log_line,
    Kind.DLQ: _letter,
}
