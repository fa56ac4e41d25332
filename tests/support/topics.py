"""Reads the topics of a test from the first record to the last, with a consumer of its own."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from infra.settings import Settings
from schemas.codec import Decoder, checked_in
from schemas.head_reader import HeadReader
from schemas.topics import LINES, META_SUFFIX, Kind


class Found(NamedTuple):
    """One record as a consumer sees it."""

    kind: Kind
    key: bytes
    record: dict[str, Any]


def read_topics(settings: Settings, kinds: Iterable[Kind] = Kind) -> list[Found]:
    """Every record that is there now."""
    decoders = {kind: Decoder(kind) for kind in kinds}
    return [
        Found(kind, message.key() or b"", decoders[kind](message.value() or b""))
        for kind, message in _messages(settings, decoders)
    ]


def numbers_of_streams(settings: Settings, kinds: Iterable[Kind] = LINES) -> dict[str, array[int]]:
    """The record numbers of every stream, duplicates included; quick enough for millions."""
    read = HeadReader(checked_in)
    numbers: dict[str, array[int]] = {}
    for _, message in _messages(settings, kinds):
        stream, seq, *_ = read(message.value() or b"")
        numbers.setdefault(stream, array("q")).append(seq)
    return numbers


def _messages(settings: Settings, kinds: Iterable[Kind]) -> Iterator[tuple[Kind, Message]]:
    consumer = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": "tests"})
    names = {kind.topic(settings.topic_prefix): kind for kind in kinds}
    unread: dict[tuple[str, int], int] = {}
    topics = consumer.list_topics(timeout=10).topics
    for topic in names:
        for partition in topics[topic].partitions if topic in topics else ():
            low, high = _watermarks(consumer, TopicPartition(topic, partition))
            if high > low:
                unread[topic, partition] = high
    consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in unread])
    while unread:
        for message in consumer.consume(1000, timeout=1.0):
            assert message.error() is None, message.error()
            place = (message.topic() or "", message.partition() or 0)
            yield names[place[0]], message
            if (message.offset() or 0) + 1 >= unread.get(place, 0):
                unread.pop(place, None)
    consumer.close()


def _watermarks(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """Wait for the leader of a topic that was just created."""
    for _ in range(50):
        try:
            return consumer.get_watermark_offsets(place, timeout=10)
        except KafkaException:
            time.sleep(0.1)
    raise AssertionError(f"{place} has no leader")


def of_workers(found: Iterable[Found]) -> list[Found]:
    """Only the records of workers' lines, without stepstream's own and without pictures."""
    return [
        item for item in found if item.kind in LINES and not item.record["stream_id"].endswith(META_SUFFIX)
    ]


def of_stepstream(found: Iterable[Found]) -> list[Found]:
    """stepstream's own records."""
    return [item for item in found if item.record["stream_id"].endswith(META_SUFFIX)]


def places(found: Iterable[Found]) -> Counter[tuple[str, int]]:
    """How often each (stream, line) occurs."""
    return Counter((item.record["stream_id"], item.record["seq"]) for item in found)
