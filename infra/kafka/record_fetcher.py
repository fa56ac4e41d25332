"""Reads single records by partition and offset, over one consumer that stays connected."""

from __future__ import annotations

import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from infra.kafka import client as kafka
from infra.kafka.errors import translated
from infra.settings import Settings
from schemas.errors import BrokerError
from schemas.topics import Kind

FETCH_BYTES = 64 * 1024
"""What one answer of Kafka holds; a larger record comes whole. Kafka's own default makes each read slower."""


class RecordFetcher:
    """Reads records of one kind's topic. Threads take turns.

    Args:
        settings: addresses.
        kind: whose topic.
    """

    def __init__(self, settings: Settings, kind: Kind) -> None:
        self._settings = settings
        self._topic = kind.topic(settings.topic_prefix)
        self._lock = threading.Lock()
        self._consumer: Consumer | None = None
        self._errors: list[KafkaError] = []

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def fetch(self, partition: int, offset: int, count: int = 1) -> dict[int, bytes]:
        """Values by offset: that of the record, and of those behind it that came with it, at most `count`.

        Empty: Kafka does not hold the record any more.

        Raises:
            BrokerError: no answer.
        """
        with self._lock:
            try:
                return self._fetch(partition, offset, count)
            except KafkaException as error:
                self._drop()
                raise translated(error, self._settings, self._errors) from error

    def low(self, partition: int) -> int:
        """The first offset that Kafka still holds.

        Raises:
            BrokerError: no answer.
        """
        with self._lock:
            place = TopicPartition(self._topic, partition)
            try:
                return int(self._connected().get_watermark_offsets(place, timeout=kafka.TIMEOUT_S)[0])
            except KafkaException as error:
                self._drop()
                raise translated(error, self._settings, self._errors) from error

    def _fetch(self, partition: int, offset: int, count: int) -> dict[int, bytes]:
        consumer = self._connected()
        consumer.assign([TopicPartition(self._topic, partition, offset)])
        until = time.monotonic() + kafka.TIMEOUT_S
        while time.monotonic() < until:
            message = consumer.poll(0.5)
            if message is None:
                continue
            if (error := message.error()) is not None:
                if error.code() in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
                    return {}
                raise KafkaException(error)
            if message.offset() != offset:  # it was compacted away, or belongs to the assignment before
                return {}
            return {offset: message.value() or b""} | self._neighbours(consumer, count - 1)
        raise BrokerError(
            f"Kafka did not answer within {kafka.TIMEOUT_S:.0f} s: is {self._settings.bootstrap_servers} up?"
        )

    def _neighbours(self, consumer: Consumer, count: int) -> dict[int, bytes]:
        """What came in the same answer: nothing is waited for."""
        messages = consumer.consume(count, timeout=0) if count > 0 else []
        return {each.offset() or 0: each.value() or b"" for each in messages if each.error() is None}

    def _connected(self) -> Consumer:
        if self._consumer is None:
            self._consumer = kafka.consumer(
                self._settings,
                "replay",
                # A partition is assigned by hand: no group, no commit.
                **{
                    "group.protocol": "classic",
                    "enable.partition.eof": True,
                    "auto.offset.reset": "error",
                    "error_cb": self._errors.append,
                    "fetch.wait.max.ms": 5,
                    "fetch.message.max.bytes": FETCH_BYTES,
                    "queued.max.messages.kbytes": 1024,
                },
            )
        return self._consumer

    def _drop(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
