"""Dead letters about records that cannot be stored, as Kafka Connect's own sinks write them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from consumers.persist.batch import Refused
from infra.kafka.dlq_producer import Letter
from schemas.codec import Encoder
from schemas.fold import Record
from schemas.topics import Kind
from schemas.values import EARLIEST_US, LATEST_US, LONGEST_ID, clean

RAW_BYTES = 15 * 1024 * 1024
"""Of a larger record only the head is kept: with its headers, a letter must fit the topic's 72 MiB."""
MESSAGE_LETTERS = 1000
CONNECTOR = "stepstream.persist"


class DeadLetterWriter:
    """Makes letters.

    Args:
        schema_id: id to write them with; None: the checked-in table's.
    """

    def __init__(self, schema_id: int | None = None) -> None:
        self._encode = Encoder(Kind.DLQ, schema_id)
        self._version = version("stepstream-server")

    def __call__(self, refused: Refused) -> Letter:
        """The letter about a refused record, with the record's own identity if that can be read."""
        message, text = refused.message, clean(str(refused.error))[:MESSAGE_LETTERS]
        record = _identity(refused) | {
            "reason": "unreadable" if refused.record is None else "refused",
            "field": None,
            "message": text,
            "raw": (message.value() or b"")[:RAW_BYTES],
            "topic": message.topic(),
            "topic_partition": message.partition(),
            "topic_offset": message.offset(),
            "producer_version": self._version,
        }
        return Letter(record["run_id"].encode(), self._encode(record), _headers(refused, text))


def _identity(refused: Refused) -> Record:
    message, record = refused.message, refused.record
    by_place = {
        "run_id": clean((message.key() or b"unknown").decode("utf-8", "replace"))[:LONGEST_ID],
        "stream_id": f"{message.topic()}-{message.partition()}",
        "seq": message.offset(),
        "agent_id": "default",
        "worker_id": None,
        "event_time": max(message.timestamp()[1], 0) * 1000,
    }
    if record is None:
        return by_place
    own = {name: _clean(record[name]) for name in by_place}
    if not EARLIEST_US <= own["event_time"] <= LATEST_US:
        own["event_time"] = by_place["event_time"]
    if refused.kind is Kind.DLQ or len(own["stream_id"]) > LONGEST_ID:
        # A letter about a letter must not replace that one, and a stream id that is too long would be
        # refused for ever.
        own |= {name: by_place[name] for name in ("stream_id", "seq")}
    cut = ("run_id", "agent_id", "worker_id")
    return own | {name: own[name][:LONGEST_ID] for name in cut if own[name] is not None}


def _clean(value: Any) -> Any:
    return clean(value) if isinstance(value, str) else value


def _headers(refused: Refused, text: str) -> list[tuple[str, str | bytes]]:
    message = refused.message
    told = {
        "topic": message.topic(),
        "partition": str(message.partition()),
        "offset": str(message.offset()),
        "connector.name": CONNECTOR,
        "task.id": "0",
        "stage": "VALUE_CONVERTER" if refused.record is None else "TASK_PUT",
        "exception.class.name": type(refused.error).__name__,
        "exception.message": text,
    }
    return [(f"__connect.errors.{name}", value) for name, value in told.items()]
