"""Reads topics from the first record to the last, and then what follows, without a consumer group."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from infra.kafka import client as kafka
from infra.kafka.errors import kafka_error, translated
from infra.settings import Settings
from schemas.errors import BrokerError
from schemas.topics import Kind, Watermarks

BATCH = 5000
POLL_S = 0.2
LEADERLESS = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)


class Entry(NamedTuple):
    """One record in the log."""

    kind: Kind
    partition: int
    offset: int
    timestamp: int
    """Kafka's, ms since 1970."""
    value: bytes


Part = Mapping[tuple[Kind, int], Watermarks]
"""Offsets by kind and partition."""


class LogReader:
    """All partitions of some kinds' topics, for the records of one key.

    A run has one partition in each topic, but another one before partitions were added to the topic, so all
    are read. The key is compared before anything is decoded.

    Raises:
        BrokerError: no broker answers, or a topic is missing.
    """

    def __init__(self, settings: Settings, kinds: Iterable[Kind], key: str) -> None:
        self._settings = settings
        self._key = key.encode()
        self._kinds = {kind.topic(settings.topic_prefix): kind for kind in kinds}
        self._errors: list[KafkaError] = []
        self._consumer = kafka.consumer(
            settings,
            "replay",
            # Partitions are assigned by hand: no group, no commit.
            **{
                "group.protocol": "classic",
                "enable.partition.eof": True,
                "error_cb": self._errors.append,
                "auto.offset.reset": "earliest",
                # Fetched and not read yet: 64 MB by default, more than all else of a replay takes.
                "queued.max.messages.kbytes": 8_192,
            },
        )
        try:
            self.watermarks = self._find_watermarks()
        except KafkaException as error:
            self._consumer.poll(0)  # serves the callback that fills `_errors`
            self._consumer.close()
            raise translated(error, settings, self._errors) from error

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def present(self, part: Part | None = None, most: int = BATCH) -> Iterator[list[Entry]]:
        """Batches of the records that existed when the reader was made, or of a part of them.

        Args:
            part: read only these offsets. A few records behind them may be returned, too.
            most: records of a batch.
        """
        for _, batch in self.counted(self.watermarks if part is None else part, most):
            yield batch

    def counted(self, part: Part, most: int = BATCH) -> Iterator[tuple[int, list[Entry]]]:
        """The same, each with the number of records read so far, of any key."""
        read = 0
        self._consumer.assign([self._where(place, marks.low) for place, marks in part.items()])
        unread = {place for place, marks in part.items() if marks.high > marks.low}
        left = sum(part[place].high - part[place].low for place in unread)
        while unread:
            messages, ended = self._read(max(1, min(most, left)))
            # A partition's offsets rise, so its last message says how far it is read.
            for message in {(each.topic(), each.partition()): each for each in messages}.values():
                place = self._place(message)
                if (message.offset() or 0) + 1 >= part[place].high:
                    ended.add(place)
            unread -= ended
            left -= len(messages)
            read += len(messages)
            yield read, self._mine(messages)

    def at(self, kind: Kind, timestamp: int) -> dict[int, int]:
        """By partition, the first offset whose record is not older than a time of Kafka's clock.

        Args:
            kind: one of the reader's.
            timestamp: ms since 1970.

        Raises:
            BrokerError: no answer.
        """
        asked = [self._where(place, timestamp) for place in self.watermarks if place[0] is kind]
        try:
            found = self._consumer.offsets_for_times(asked, timeout=kafka.TIMEOUT_S)
        except KafkaException as error:
            raise translated(error, self._settings, self._errors) from error
        return {
            item.partition: item.offset if item.offset >= 0 else self.watermarks[kind, item.partition].high
            for item in found
        }

    def newer(self) -> list[Entry]:
        """The records since the last call; may be empty."""
        return self._mine(self._read(BATCH)[0])

    def _find_watermarks(self) -> dict[tuple[Kind, int], Watermarks]:
        found = self._consumer.list_topics(timeout=kafka.TIMEOUT_S).topics
        if missing := [topic for topic in self._kinds if topic not in found]:
            raise BrokerError(
                f"Kafka has no topic {missing[0]}: run `stepstream topics create`, or is "
                "STEPSTREAM_TOPIC_PREFIX another one?"
            )
        watermarks = {}
        for topic, kind in self._kinds.items():
            for partition in found[topic].partitions:
                watermarks[kind, partition] = self._watermarks(TopicPartition(topic, partition))
        return watermarks

    def _watermarks(self, place: TopicPartition) -> Watermarks:
        """A partition's offsets; asks again where the partition is new or its leader changes."""
        until = time.monotonic() + kafka.TIMEOUT_S
        while True:
            try:
                return Watermarks(*self._consumer.get_watermark_offsets(place, timeout=kafka.TIMEOUT_S))
            except KafkaException as error:
                if kafka_error(error).code() not in LEADERLESS or time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def _read(self, count: int) -> tuple[list[Message], set[tuple[Kind, int]]]:
        """At most so many messages, and the partitions that have no further one."""
        try:
            messages = self._consumer.consume(count, timeout=POLL_S)
        except KafkaException as error:
            raise translated(error, self._settings, self._errors) from error
        events = [message for message in messages if message.error() is not None]
        if not events:
            return messages, set()
        ended = {self._place(message) for message in events if self._at_end(message)}
        return [message for message in messages if message.error() is None], ended

    def _at_end(self, message: Message) -> bool:
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise translated(KafkaException(error), self._settings, self._errors)
        return error is not None

    def _where(self, place: tuple[Kind, int], offset: int) -> TopicPartition:
        kind, partition = place
        return TopicPartition(kind.topic(self._settings.topic_prefix), partition, offset)

    def _place(self, message: Message) -> tuple[Kind, int]:
        return self._kinds[message.topic() or ""], message.partition() or 0

    def _mine(self, messages: Iterable[Message]) -> list[Entry]:
        key, kinds = self._key, self._kinds
        return [
            Entry(
                kinds[message.topic() or ""],
                message.partition() or 0,
                message.offset() or 0,
                message.timestamp()[1],
                message.value() or b"",
            )
            for message in messages
            if message.key() == key
        ]
