"""The shared fixtures give each test real servers, and a database, a home and topics of its own."""

from __future__ import annotations

import os

import psycopg
import redis
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from infra.kafka.topics import ensure_topics
from infra.settings import Settings


def test_settings_reach_a_broker_with_topics_of_this_test_alone(settings: Settings) -> None:
    """Topics made through the fixture carry the test's prefix and take records."""
    ensure_topics(settings)
    names = AdminClient({"bootstrap.servers": settings.bootstrap_servers}).list_topics(timeout=10).topics
    assert f"{settings.topic_prefix}steps" in names
    assert settings.topic_prefix != "telemetry."
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    producer.produce(f"{settings.topic_prefix}steps", b"x")
    assert producer.flush(10) == 0


def test_redis_is_reached_by_the_same_settings(settings: Settings) -> None:
    """The Redis of the settings answers."""
    assert redis.Redis.from_url(settings.redis_url).ping()


def test_postgres_is_empty_and_refuses_what_postgresql_refuses(postgres: str) -> None:
    """Each test has an empty database of a real PostgreSQL 17."""
    with psycopg.connect(postgres.replace("+psycopg", "")) as connection:
        assert connection.info.server_version >= 170000
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_home_is_a_folder_of_this_test_alone(home: object) -> None:
    """No setting of the developer's own environment reaches a test."""
    named = {name for name in os.environ if name.startswith("STEPSTREAM_")}
    assert named - {"STEPSTREAM_JARS_DIR"} == {"STEPSTREAM_HOME"}
