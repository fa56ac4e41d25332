"""Servers in containers, as a cluster has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Set before testcontainers reads them. Each fixture ends its container, so Ryuk (one more image to pull) is
# not needed. Published ports are on this machine, also where this machine is itself a container.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy

from infra.embedded.ports import free_ports

REGISTRY_API = "/apis/ccompat/v7"


def registry(port: int | None = None) -> Any:
    """A Confluent-compatible schema registry on this port of the machine; without one on a free port."""
    container = DockerContainer("apicurio/apicurio-registry:3.3.3")
    container = container.with_bind_ports(8080, port) if port else container.with_exposed_ports(8080)
    return container.waiting_for(HttpWaitStrategy(8080, f"{REGISTRY_API}/subjects"))


def address(container: DockerContainer, port: int) -> str:
    """Where a port of a container is reached from here: host:port."""
    return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"


def guarded_kafka(port: int, users: dict[str, str]) -> Any:
    """A Kafka that wants a login (SASL PLAIN) and has ACLs; the user `admin` may do everything."""
    logins = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    environment = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LISTENERS": "CLIENTS://:9092,CONTROLLER://localhost:9093,BROKER://localhost:9094",
        "KAFKA_ADVERTISED_LISTENERS": f"CLIENTS://127.0.0.1:{port},BROKER://localhost:9094",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": (
            "CLIENTS:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT,BROKER:PLAINTEXT"
        ),
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "BROKER",
        "KAFKA_LISTENER_NAME_CLIENTS_SASL_ENABLED_MECHANISMS": "PLAIN",
        "KAFKA_LISTENER_NAME_CLIENTS_PLAIN_SASL_JAAS_CONFIG": f"{login} required {logins};",
        "KAFKA_AUTHORIZER_CLASS_NAME": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "KAFKA_SUPER_USERS": "User:ANONYMOUS;User:admin",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
    container = DockerContainer("apache/kafka:4.3.1").with_bind_ports(9092, port)
    for name, value in environment.items():
        container = container.with_env(name, value)
    return container.waiting_for(LogMessageWaitStrategy("Kafka Server started"))


@contextmanager
def durable() -> Iterator[tuple[list[DockerContainer], dict[str, str]]]:
    """Kafka and PostgreSQL on ports that they keep when they are started again; and their addresses."""
    from testcontainers.community.kafka import KafkaContainer
    from testcontainers.community.postgres import PostgresContainer

    kafka_port, postgres_port = free_ports([None, None])
    with (
        KafkaContainer("confluentinc/cp-kafka:8.3.2").with_kraft().with_bind_ports(9093, kafka_port) as kafka,
        PostgresContainer("postgres:17", driver="psycopg").with_bind_ports(5432, postgres_port) as postgres,
    ):
        yield (
            [kafka, postgres],
            {
                "STEPSTREAM_BOOTSTRAP_SERVERS": kafka.get_bootstrap_server(),
                "STEPSTREAM_DATABASE_URL": postgres.get_connection_url(),
            },
        )


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Kafka, PostgreSQL and Redis; their addresses as the environment that stepstream reads."""
    from testcontainers.community.kafka import KafkaContainer
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.community.redis import RedisContainer

    with (
        KafkaContainer("confluentinc/cp-kafka:8.3.2").with_kraft() as kafka,
        PostgresContainer("postgres:17", driver="psycopg") as postgres,
        RedisContainer("redis:8") as redis,
    ):
        yield {
            "STEPSTREAM_BOOTSTRAP_SERVERS": kafka.get_bootstrap_server(),
            "STEPSTREAM_DATABASE_URL": postgres.get_connection_url(),
            "STEPSTREAM_REDIS_URL": f"redis://{address(redis, 6379)}/0",
        }


def redis_over_tls(port: int, certificates: Path, files: str) -> Any:
    """A Redis that speaks only TLS and asks for a client certificate; the folder is its /tls."""
    container = DockerContainer("redis:8").with_bind_ports(6379, port)
    container = container.with_volume_mapping(str(certificates), "/tls", "ro")
    container = container.with_command(
        f"redis-server --port 0 --tls-port 6379 --tls-auth-clients yes {files}"
    )
    return container.waiting_for(LogMessageWaitStrategy("Ready to accept connections"))
