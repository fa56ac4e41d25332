"""Dead letters of a consumer: sent to the dlq topic and acknowledged before it continues."""

from __future__ import annotations

from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from infra.kafka import client as kafka
from infra.kafka.errors import translated
from infra.settings import Settings
from schemas.errors import BrokerError
from schemas.topics import Kind

ACKNOWLEDGED_WITHIN_S = 10.0


class Letter(NamedTuple):
    """One record for the dlq topic."""

    key: bytes
    value: bytes
    headers: list[tuple[str, str | bytes]]


class DlqProducer:
    """Sends letters; connects with the first one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = Kind.DLQ.topic(settings.topic_prefix)
        self._producer: Producer | None = None
        self._failed: list[KafkaError] = []

    def post(self, letter: Letter) -> None:
        """Hand a letter to Kafka, and do not wait."""
        if self._producer is None:
            self._failed.clear()
            # A letter sent twice is stored once, so this one need not be idempotent, which costs a new
            # producer half a second.
            self._producer = kafka.producer(
                self._settings, on_delivery=self._delivered, **{"enable.idempotence": False, "linger.ms": 0}
            )
        self._producer.produce(self._topic, letter.value, letter.key, headers=letter.headers)

    def wait(self) -> None:
        """Wait until Kafka has acknowledged all letters.

        Raises:
            BrokerError: it did not take them. Some may be stored; sending them again is harmless.
        """
        if self._producer is None:
            return
        waiting = self._producer.flush(ACKNOWLEDGED_WITHIN_S)
        if waiting or self._failed:
            self._producer.purge()
            self._producer = None  # what waits would be sent twice
            if self._failed:
                raise translated(
                    KafkaException(self._failed[0]), self._settings, right=f"WRITE topic {self._topic}"
                )
            raise BrokerError(f"Kafka did not take {waiting} dead letters on {self._topic} (no answer).")

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error is not None:
            self._failed.append(error)
