"""A consumer group whose positions are kept elsewhere: read in batches, from where the caller says.

An assigned partition returns no record until the caller sets its position (`unplaced` lists them), and none
after it was revoked. Positions move when the caller says what it has stored: what was read and not stored is
dropped with the partition.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec

from infra import metrics
from infra.kafka import client as kafka
from infra.kafka.errors import REFUSALS, kafka_error, translated
from infra.kafka.membership import Membership
from infra.kafka.watch import Watch
from infra.settings import Settings
from schemas.topics import Partition, Watermarks

ANSWER_S = 3.0
"""How long a request to a broker may take."""
COMMIT_EVERY_S = 1.0
SESSION_MS = 10_000
"""When a machine is lost, its partitions wait this long for another member."""
BATCH_BYTES = 32 * 1024 * 1024
"""Bytes of a batch, at most (roughly), whatever its number of records."""

UNREACHED = 1 << 63

log = structlog.get_logger(part="consumer")


@dataclass(frozen=True)
class Slice:
    """Records of one partition, in order; `first` is the position they were read at."""

    partition: Partition
    first: int
    messages: Sequence[Message]

    @property
    def next_offset(self) -> int:
        """The offset behind the last record."""
        offset = self.messages[-1].offset()
        assert offset is not None
        return offset + 1


class GroupConsumer:
    """A member of a service's group.

    Args:
        settings: address, group protocol, names.
        service: whose group.
        topics: what to read, full names.
    """

    def __init__(self, settings: Settings, service: str, topics: Sequence[str]) -> None:
        self._settings = settings
        self._group = settings.group(service)
        self._membership = Membership(settings, service)
        self._question: kafka.Question | None = None
        self.watch = Watch(settings, topics)
        self._topics = topics
        self._service = service
        self._newest_ms = time.time() * 1000
        self._average = 200.0
        self._stored: dict[Partition, int] = {}
        self._committed_at = 0.0
        self.positions: dict[Partition, int] = {}
        self.unplaced: set[Partition] = set()
        self._fenced = ""
        """Why the client is of no more use; empty: it is."""
        self._consumer = self._joined()

    def _joined(self) -> Consumer:
        made: Consumer = kafka.consumer(
            self._settings,
            self._service,
            **_protocol(self._settings, self._membership),
            **{
                "error_cb": self.watch.heard,
                # An offset out of range means a gap or a new topic: never jump silently.
                "auto.offset.reset": "error",
                # Nobody waits for a row: an answer for every batch of every producer would cost the
                # broker, and this process, far more than the rows.
                "fetch.min.bytes": 64 * 1024,
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": BATCH_BYTES // 1024,
            },
        )
        made.subscribe(
            list(self._topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )
        return made

    def poll(self, records: int, seconds: float) -> list[Slice]:
        """Records of partitions with a position: at most `most`, or those that come within `seconds`.

        Raises:
            BrokerError: Kafka refuses, and retries do not help.
        """
        if self._fenced:
            self._join_anew()
        fitting = max(1, min(records, int(BATCH_BYTES / self._average)))
        found: dict[tuple[str, int], list[Message]] = {}
        size = count = 0
        for message in self._consumer.consume(fitting, seconds):
            if message.error() is not None:
                self._heard(message)
                continue
            key = (message.topic() or "", message.partition() or 0)
            size, count = size + len(message), count + 1
            if (messages := found.get(key)) is not None:
                messages.append(message)
            elif (message.offset() or 0) >= self.positions.get(Partition(*key), UNREACHED):
                # Above the position behind a transaction's marker; below it if it was fetched before a seek.
                found[key] = [message]
        if count:
            self._newest_ms = (
                max(each[-1].timestamp()[1] for each in found.values()) if found else self._newest_ms
            )
            self._average = max(size / count, self._average * 0.9)
            self.watch.reads()
        elif not self.positions and not self.unplaced:
            self.watch.idle(self._consumer)
        self._commit_if_due()
        slices = ((Partition(*key), messages) for key, messages in found.items())
        return [Slice(place, self.positions[place], messages) for place, messages in slices]

    def place(self, partition: Partition, offset: int) -> bool:
        """Read a partition from this offset; False: it is not ready yet, try again."""
        where = TopicPartition(partition.topic, partition.number, offset)
        try:
            self._consumer.seek(where)
            self._consumer.resume([where])
        except KafkaException as error:
            if partition in self.unplaced and kafka_error(error).code() != KafkaError._STATE:
                raise translated(error, self._settings) from error
            return False
        self.unplaced.discard(partition)
        self.positions[partition] = offset
        return True

    def unplace(self, partitions: Iterable[Partition]) -> None:
        """Drop what was read of these partitions; they need a new position."""
        for partition in partitions:
            if self.positions.pop(partition, None) is not None:
                self.unplaced.add(partition)
                self._consumer.pause([TopicPartition(*partition)])

    def advance(self, next_offsets: Mapping[Partition, int]) -> None:
        """The caller has stored these. Commits once a second, for tools that show lag only."""
        self.positions.update(next_offsets)
        self._stored.update(next_offsets)
        self._commit_if_due()

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Stay a member of the group without reading: while nothing can be stored."""
        paused = [TopicPartition(*partition) for partition in self.positions]
        self._consumer.pause(paused)
        deadline = time.monotonic() + seconds
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            message = self._consumer.poll(min(left, 0.1))
            if message is None:
                continue
            if (error := message.error()) is None:  # it was on its way already
                self.unplace([Partition(message.topic() or "", message.partition() or 0)])
            elif error.code() == KafkaError._FATAL:
                self._fenced = error.str()
        still = [TopicPartition(*partition) for partition in self.positions]
        self._consumer.resume(still)

    def watermarks(self, partitions: Iterable[Partition]) -> dict[Partition, Watermarks]:
        """The watermarks of partitions now.

        Raises:
            BrokerError: no answer.
        """
        asked = [TopicPartition(*partition) for partition in partitions]
        with self._asking() as question:
            low, high = (
                question.client.list_offsets(
                    dict.fromkeys(asked, spec),
                    isolation_level=IsolationLevel.READ_UNCOMMITTED,
                    request_timeout=ANSWER_S,
                )
                for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
            )
            found = {where: (kafka.answer(low[where]), kafka.answer(high[where])) for where in asked}
        return {
            Partition(where.topic, where.partition): Watermarks(first.offset, last.offset)
            for where, (first, last) in found.items()
        }

    def topic_ids(self) -> dict[str, str]:
        """Kafka's id of each topic that exists.

        Raises:
            BrokerError: no answer, or a topic may not be seen.
        """
        found: dict[str, str] = {}
        with self._asking() as question:
            names = TopicCollection(list(self._topics))
            asked = question.client.describe_topics(names, request_timeout=ANSWER_S)
            for topic, future in asked.items():
                with question.about(f"DESCRIBE topic {topic}"):
                    try:
                        found[topic] = str(kafka.answer(future).topic_id)
                    except KafkaException as error:
                        if kafka_error(error).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                            raise
        return found

    @contextmanager
    def _asking(self) -> Iterator[kafka.Question]:
        """A client for requests, replaced after a failure: it may hold on to a controller that died."""
        question, self._question = self._question or kafka.Question(self._settings), None
        try:
            with question.about("DESCRIBE topics"):
                yield question
                self._question = question
        finally:
            if self._question is None:
                question.close()

    def report_lag(self) -> None:
        """Set the lag of this process, as of the last fetch, for Prometheus."""
        lags: dict[str, int] = dict.fromkeys(self._topics, 0)
        for partition, position in self.positions.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
            lags[partition.topic] += max(0, high - position)
        for topic, lag in lags.items():
            metrics.LAG_RECORDS.labels(self._service, topic).set(lag)
        behind = max(0.0, time.time() - self._newest_ms / 1000) if any(lags.values()) else 0.0
        metrics.LAG_SECONDS.labels(self._service).set(behind)

    def close(self) -> None:
        """Commit what was stored, and leave the group."""
        self._commit(asynchronous=False)
        self._consumer.close()
        if self._question is not None:
            self._question.close()
        self._membership.release()

    def _join_anew(self) -> None:
        """Replace the client: Kafka gave this member's name away, as may happen in a restart of brokers."""
        log.warning("joining the group anew", reason=self._fenced)
        self._consumer.close()
        for places in (self.positions, self._stored, self.unplaced):
            places.clear()
        self._fenced, self._consumer = "", self._joined()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if partitions:
            self.watch.reads()
        # Any offset, so that librdkafka looks up none: they are paused until they have a position.
        where = [TopicPartition(item.topic, item.partition, OFFSET_BEGINNING) for item in partitions]
        consumer.incremental_assign(where)
        consumer.pause(where)
        for item in partitions:
            self.unplaced.add(Partition(item.topic, item.partition))

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit(asynchronous=False)
        for item in partitions:
            partition = Partition(item.topic, item.partition)
            self.unplaced.discard(partition)
            for places in (self.positions, self._stored):
                places.pop(partition, None)
        consumer.incremental_unassign(partitions)

    def _commit_if_due(self) -> None:
        if self._stored and time.monotonic() - self._committed_at >= COMMIT_EVERY_S:
            self._committed_at = time.monotonic()
            self._commit(asynchronous=True)

    def _commit(self, *, asynchronous: bool) -> None:
        stored, self._stored = self._stored, {}
        if not stored:
            return
        try:
            offsets = [TopicPartition(*partition, offset) for partition, offset in stored.items()]
            self._consumer.commit(offsets=offsets, asynchronous=asynchronous)
        except KafkaException as error:
            log.debug("Kafka did not take the offsets, which the database has", reason=str(error))

    def _heard(self, message: Message) -> None:
        """Handle an error that came instead of a record."""
        error = message.error()
        assert error is not None
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self.unplace([Partition(message.topic() or "", message.partition() or 0)])
        elif error.code() == KafkaError._FATAL:
            self._fenced = error.str()
        elif error.fatal() or error.code() in (*REFUSALS, *_UNFIT):
            group = error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
            right = (
                f"READ group {self._group}" if group else f"READ topic {message.topic() or self._topics[0]}"
            )
            raise translated(KafkaException(error), self._settings, right=right)
        else:
            log.debug("Kafka", reason=error.str())


def _protocol(settings: Settings, membership: Membership) -> dict[str, Any]:
    """The group's protocol. KIP-848 refuses the name of a dead member until its session ends."""
    if settings.group_protocol == "consumer":
        return {"group.protocol": "consumer"}
    return {
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": 1000,
        "group.instance.id": membership.instance_id,
    }


_UNFIT = (
    KafkaError._UNSUPPORTED_FEATURE,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError.INCONSISTENT_GROUP_PROTOCOL,
    KafkaError.INVALID_SESSION_TIMEOUT,
)
