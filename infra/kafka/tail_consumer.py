"""Partitions shared by the live processes, read near their end. No offset is committed.

The group only assigns partitions. At each assignment the caller sets the position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.kafka import client as kafka
from infra.kafka.errors import REFUSALS, translated
from infra.kafka.membership import Membership
from infra.kafka.watch import Watch
from infra.settings import Settings
from schemas.topics import Partition, Watermarks

__all__ = ["Message", "Tail"]

ANSWER_S = 5.0
FETCHED_KB = 8 * 1024

log = structlog.get_logger(service="live")


class Tail:
    """A member of the live group. A partition returns no record until it has a position.

    Classic protocol, range assignor: a member gets the same partition numbers of each topic, so one process
    has a run's steps and episodes. Under KIP-848 the broker keeps a dead member for 45 s, which is too long
    for a viewer.
    """

    def __init__(self, settings: Settings, topics: Sequence[str]) -> None:
        self._settings = settings
        self.unplaced: set[Partition] = set()
        self.positions: dict[Partition, int] = {}
        self.lost_any = False
        """Set when a partition was revoked; the caller clears it."""
        self._group = settings.group("live")
        self._membership = Membership(settings, "live")
        self._topics = topics
        self.watch = Watch(settings, topics)
        self._fenced = ""
        """Why the client is of no more use; empty: it is."""
        self._consumer = self._joined()

    def _joined(self) -> Consumer:
        made: Consumer = kafka.consumer(
            self._settings,
            "live",
            **{
                "error_cb": self.watch.heard,
                "group.protocol": "classic",
                "partition.assignment.strategy": "range",
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 1000,
                "group.instance.id": self._membership.instance_id,
                "auto.offset.reset": "latest",
                "queued.max.messages.kbytes": FETCHED_KB,
                "queued.min.messages": 10_000,
            },
        )
        made.subscribe(
            list(self._topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )
        return made

    def poll(self, records: int, wait: float, gather: float) -> list[Message]:
        """Records of placed partitions: the first within `wait` seconds, more within `gather` seconds.

        Raises:
            BrokerError: Kafka refuses for good.
        """
        if self._fenced:
            self._join_anew()
        first = self._consumer.poll(wait)
        if first is None:
            if not self.positions and not self.unplaced:
                self.watch.idle(self._consumer)
            return []
        found = [first, *self._consumer.consume(records - 1, gather)]
        wanted = [message for message in found if self._wanted(message)]
        if wanted:
            self.watch.reads()
        return wanted

    def _wanted(self, message: Message) -> bool:
        error = message.error()
        if error is not None:
            self._heard(error, message.topic())
            return False
        partition = Partition(message.topic() or "", message.partition() or 0)
        offset = message.offset() or 0
        if offset < self.positions.get(partition, 1 << 63):
            return False  # read before a seek, or of a revoked partition
        self.positions[partition] = offset + 1
        return True

    def place(self, starts: Mapping[Partition, int]) -> None:
        """Read from these offsets, also in partitions that have a position."""
        for partition, offset in starts.items():
            where = TopicPartition(partition.topic, partition.number, offset)
            try:
                self._consumer.seek(where)
                self._consumer.resume([where])
            except KafkaException:
                self.positions.pop(partition, None)
                self.unplaced.add(partition)  # not ready yet, or revoked meanwhile: try again
            else:
                self.unplaced.discard(partition)
                self.positions[partition] = offset

    def unplace(self) -> None:
        """Read nothing until all partitions have new positions."""
        self._consumer.pause([TopicPartition(*partition) for partition in self.positions])
        self.unplaced.update(self.positions)
        self.positions.clear()

    def watermarks(self, partitions: Sequence[Partition]) -> dict[Partition, Watermarks]:
        """The watermarks of partitions now.

        Raises:
            BrokerError: no answer.
        """
        try:
            return {
                partition: Watermarks(
                    *self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=ANSWER_S)
                )
                for partition in partitions
            }
        except KafkaException as error:
            raise translated(error, self._settings) from error

    def lag(self, partition: Partition) -> int:
        """Records that wait on Kafka, as of the last fetch."""
        _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
        return max(0, high - self.positions.get(partition, high))

    def close(self) -> None:
        """Close the consumer. Its partitions wait for this member, or until its session times out."""
        self._consumer.close()
        self._membership.release()

    def _join_anew(self) -> None:
        """Replace the client: Kafka gave this member's name away, as may happen in a restart of brokers."""
        log.warning("joining the group anew", reason=self._fenced)
        self._consumer.close()
        self.positions.clear()
        self.unplaced.clear()
        self.lost_any = True
        self._fenced, self._consumer = "", self._joined()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if partitions:
            self.watch.reads()
        where = [TopicPartition(item.topic, item.partition, OFFSET_END) for item in partitions]
        consumer.assign(where)
        consumer.pause(where)
        self.positions.clear()
        self.unplaced = {Partition(item.topic, item.partition) for item in partitions}

    def _revoked(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self.positions.clear()
        self.unplaced.clear()
        self.lost_any = True
        consumer.unassign()

    def _heard(self, error: KafkaError, topic: str | None) -> None:
        if error.code() == KafkaError._FATAL:
            self._fenced = error.str()
        elif error.fatal() or error.code() in (*REFUSALS, *_UNFIT):
            group = error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
            right = f"READ group {self._group}" if group else f"READ topic {topic or self._topics[0]}"
            raise translated(KafkaException(error), self._settings, right=right)
        else:
            log.debug("Kafka", reason=error.str())


_UNFIT = (KafkaError.INCONSISTENT_GROUP_PROTOCOL, KafkaError.INVALID_SESSION_TIMEOUT)
