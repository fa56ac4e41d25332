"""Sends records in windows: a window counts once every record is acknowledged or known to have failed.

There is no callback per record: the producer reports failures only, and an empty queue after a flush means
that all other records are stored, whatever partitions, retries and brokers do.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import AdminClient

from infra.kafka import client as kafka
from infra.kafka import topics
from infra.kafka.errors import REFUSALS, kafka_error, translated
from infra.settings import Settings
from schemas.topics import MAX_RECORD_BYTES, Kind

OVERHEAD_BYTES = 1024
"""Bytes that Kafka's batch and a key of usual length add to a value."""
LARGEST_BATCH_BYTES = 1_000_000
"""Below Kafka's default of `max.message.bytes`: for topics whose settings may not be read."""
TROUBLE_KEPT_S = 30.0
PROBE_SECONDS = 3.0
"""A broker that does not answer within this time is away; the caller tries again."""

_RECORDS_FAULT = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_RECORD,
    }
)
"""Failures that stay when the record is sent again alone."""


_AGAIN = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
"""No final answer: the broker is slow, or the topic was created a moment ago."""


class Failure(NamedTuple):
    """A record that was not stored."""

    topic: str
    value: bytes
    reason: str
    records_fault: bool
    fatal: bool


class BatchProducer:
    """One idempotent producer.

    Args:
        settings: where Kafka is.

    Raises:
        BrokerError: no broker answers, or it refuses; then try again.
        UsageError: no address is known.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.limits = _limits(settings)
        self._failures: list[Failure] = []
        self._errors: list[tuple[float, KafkaError]] = []
        batch = min(LARGEST_BATCH_BYTES, *(limit // 2 for limit in self.limits.values()))
        self._producer = kafka.producer(
            settings,
            **{
                "batch.size": batch,
                "delivery.report.only.error": True,
                "on_delivery": self._failed,
                "error_cb": self._troubled,
            },
        )
        self._produce = self._producer.produce

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        """Hand one record to the producer."""
        while True:
            try:
                self._produce(topic, value, key)
            except BufferError:
                self.flush(0.05)
            except KafkaException as error:
                self._note(topic, value, kafka_error(error))
            else:
                return
            if self._failures and (self._failures[-1].value is value or self._failures[-1].fatal):
                return

    def flush(self, seconds: float) -> bool:
        """Wait at most `seconds` until nothing is in flight or the producer ended; whether that happened."""
        try:
            return bool(self._producer.flush(seconds) == 0)
        except (KafkaException, SystemError) as error:
            # After a fatal error the client raises it from the next callback, whichever that is.
            self._ended(error if isinstance(error, KafkaException) else error.__cause__)
            return True

    def failures(self) -> list[Failure]:
        """Records that failed since the last call."""
        found, self._failures = self._failures, []
        return found

    def trouble(self) -> str:
        """The client's errors of the last seconds as a sentence; empty: none."""
        since = time.monotonic() - TROUBLE_KEPT_S
        self._errors = [(at, error) for at, error in self._errors if at > since]
        if not self._errors:
            return ""
        errors = [error for _, error in self._errors]
        return str(translated(KafkaException(errors[-1]), self.settings, errors))

    def abandon(self) -> None:
        """Drop what is in flight: another producer sends it again."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._producer.flush(0.5)

    def _failed(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._note(message.topic() or "", message.value() or b"", error)

    def _note(self, topic: str, value: bytes, error: KafkaError) -> None:
        fault = error.code() in _RECORDS_FAULT
        reason = error.str()
        if error.code() in REFUSALS:
            reason = str(translated(KafkaException(error), self.settings, right=f"WRITE topic {topic}"))
        self._failures.append(Failure(topic, value, reason, fault, error.fatal()))

    def _ended(self, error: BaseException | None) -> None:
        if not isinstance(error, KafkaException):
            error = KafkaException(KafkaError(KafkaError._FATAL))
        right = f"WRITE topic {next(iter(self.limits))}"
        self._failures.append(
            Failure("", b"", str(translated(error, self.settings, right=right)), False, True)
        )

    def _troubled(self, error: KafkaError) -> None:
        self._errors = [*self._errors[-9:], (time.monotonic(), error)]


def _limits(settings: Settings) -> dict[str, int]:
    """The largest value of each of our topics, in bytes; creates missing topics."""
    names = [kind.topic(settings.topic_prefix) for kind in Kind]
    with kafka.asking(settings, "DESCRIBE topics") as question:
        present = question.metadata(PROBE_SECONDS).topics
        if not all(name in present for name in names):
            topics.ensure_topics(settings)
        largest = _largest(question.client, names)
    return {name: max(limit - OVERHEAD_BYTES, limit // 2) for name, limit in largest.items()}


def _largest(client: AdminClient, names: list[str]) -> dict[str, int]:
    """Kafka's `max.message.bytes` of each topic; our own limit where it may not be read.

    A record that is too large for the topic then fails alone, and becomes a dead letter.
    """
    found: dict[str, int] = {}
    for name, answered in topics.described(client, names).items():
        found[name] = MAX_RECORD_BYTES
        if not isinstance(answered, KafkaException):
            largest = answered.get("max.message.bytes") or ""
            found[name] = int(largest) if largest.isdecimal() else MAX_RECORD_BYTES
        elif kafka_error(answered).code() in _AGAIN:
            raise answered
    return found
