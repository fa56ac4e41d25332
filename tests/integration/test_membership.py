"""Kafka's offsets of persist's group reach the end, and a killed member gets its partitions back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import Engine, text

from infra.kafka import client as kafka
from infra.kafka.group_consumer import GroupConsumer
from infra.kafka.tail_consumer import Tail
from infra.kafka.topics import ensure_topics
from infra.settings import Settings
from infra.sql import migrations
from infra.sql.engine import engine
from schemas.topics import Kind
from tests.support.events import Stream, record
from tests.support.processes import wait_for

PATIENCE_S = 90.0


@pytest.fixture
def database(settings: Settings) -> Iterator[Engine]:
    """The home's SQLite, with tables; topics are there, too."""
    ensure_topics(settings)
    made = engine(settings)
    migrations.upgrade(made)
    yield made
    made.dispose()


def stored(database: Engine) -> int:
    """Steps in SQL."""
    with database.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM steps")) or 0)


def committed(settings: Settings) -> int:
    """The offsets of the steps topic that persist has committed to Kafka, over all partitions."""
    topic = Kind.STEPS.topic(settings.topic_prefix)
    consumer = Consumer(
        {"bootstrap.servers": settings.bootstrap_servers, "group.id": settings.group("persist")}
    )
    places = [TopicPartition(topic, number) for number in range(settings.partitions)]
    found = sum(max(place.offset, 0) for place in consumer.committed(places, timeout=10))
    consumer.close()
    return found


def test_lag_ends_at_0_and_a_killed_member_has_its_partitions_back(
    settings: Settings, database: Engine, spawn_cli: Callable[..., Any]
) -> None:
    """After a burst, and after a kill, persist commits the last offset to Kafka; KEDA and alerts read it."""
    stream = Stream(settings.bootstrap_servers, settings.topic_prefix)
    persist = spawn_cli("persist")
    for start in (1, 2001):
        for seq in range(start, start + 2000):
            stream.send(Kind.STEPS, record(Kind.STEPS, seq))
        stream.flush()
        began = time.monotonic()
        wait_for(lambda until=start + 1999: stored(database) == until, PATIENCE_S)
        print(f"stored after {time.monotonic() - began:.1f} s")
        wait_for(lambda until=start + 1999: committed(settings) == until, PATIENCE_S)
        persist.kill()
        persist.wait()
        persist = spawn_cli("persist")


@pytest.mark.parametrize("service", ["persist", "live"])
def test_a_member_whose_name_kafka_gave_away_joins_anew(settings: Settings, service: str) -> None:
    """A client that Kafka has fenced, as may happen when brokers are restarted, is replaced and reads on."""
    ensure_topics(settings)
    topics = [Kind.STEPS.topic(settings.topic_prefix)]
    member: Any = GroupConsumer(settings, service, topics) if service == "persist" else Tail(settings, topics)
    waits = (100, 0.1) if service == "persist" else (100, 0.1, 0.1)

    def assigned() -> bool:
        member.poll(*waits)
        return len(member.unplaced) == settings.partitions

    wait_for(assigned, PATIENCE_S)
    first = member._consumer
    protocol = {
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky" if service == "persist" else "range",
        "group.instance.id": member._membership.instance_id,
    }
    namesake = kafka.consumer(settings, service, **protocol)
    namesake.subscribe(topics)
    wait_for(lambda: namesake.poll(0.1) or namesake.assignment(), PATIENCE_S)
    namesake.close()
    wait_for(lambda: assigned() and member._consumer is not first, PATIENCE_S)
    member.close()
