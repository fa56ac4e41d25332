"""Dead letters of a consumer: onto the dlq topic, acknowledged before anybody goes on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import KafkaError, Producer

from infra import kafka
from infra.settings import Settings
from schemas.errors import BrokerError
from schemas.topics import Kind

ACKNOWLEDGED_WITHIN_S = 10.0


class Letter(NamedTuple):
    """One record for the dlq topic."""

    key: bytes
    value: bytes
    headers: list[tuple[str, str | bytes]]


class Letterbox:
    """Sends letters. Nothing is connected before there is one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = Kind.DLQ.topic(settings.topic_prefix)
        self._producer: Producer | None = None
        self._failed: list[KafkaError] = []

    def send(self, letters: Iterable[Letter]) -> None:
        """Send letters and wait until Kafka has them all.

        Raises:
            BrokerError: it did not take them. Some may be there all the same; sending them again is harmless.
        """
        producer = self._producer = self._producer or kafka.producer(
            self._settings, on_delivery=self._delivered
        )
        self._failed.clear()
        for letter in letters:
            producer.produce(self._topic, letter.value, letter.key, headers=letter.headers)
        waiting = producer.flush(ACKNOWLEDGED_WITHIN_S)
        if waiting or self._failed:
            self._producer = None  # what waits would be sent twice
            producer.purge()
            reason = self._failed[0].str() if self._failed else "no answer"
            raise BrokerError(
                f"Kafka did not take {waiting or 'the'} dead letters on {self._topic} ({reason})."
            )

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error is not None:
            self._failed.append(error)
