"""A Kafka with a login and ACLs: librdkafka's properties pass through the settings."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from infra.kafka import client as kafka
from infra.settings import load
from schemas.codec import Encoder
from schemas.topics import Kind
from tests.support import containers

pytestmark = pytest.mark.docker
Cli = Callable[..., subprocess.CompletedProcess[str]]

USERS = {"admin": "admin-secret", "worker": "worker-secret"}


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """Address of a Kafka that wants a login."""
    from infra.embedded.ports import free_ports

    [port] = free_ports([None])
    with containers.guarded_kafka(port, USERS):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def log_in(guarded: str, home: object, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the login in the environment, as an operator does."""

    def log_in(user: str, password: str | None = None) -> None:
        monkeypatch.setenv("STEPSTREAM_BOOTSTRAP_SERVERS", guarded)
        monkeypatch.setenv("STEPSTREAM_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
        monkeypatch.setenv("STEPSTREAM_KAFKA_SASL_MECHANISM", "PLAIN")
        monkeypatch.setenv("STEPSTREAM_KAFKA_SASL_USERNAME", user)
        monkeypatch.setenv("STEPSTREAM_KAFKA_SASL_PASSWORD", password or USERS[user])

    return log_in


def found_by_doctor(run_cli: Cli) -> dict[str, object]:
    """What doctor says of Kafka."""
    findings = json.loads(run_cli("doctor", "--json").stdout)
    return next(finding for finding in findings if finding["part"] == "kafka")


def test_a_login_passes_through_to_every_client(log_in: Callable[..., None], run_cli: Cli) -> None:
    """Topics are made, a record is written and read back, and the password shows nowhere."""
    log_in("admin")
    made = run_cli("topics", "create", "--json")
    assert made.returncode == 0, made.stderr
    assert all(topic["created"] for topic in json.loads(made.stdout))
    settings = load()
    record = {
        "run_id": "r1",
        "stream_id": "s1",
        "seq": 1,
        "agent_id": "a",
        "worker_id": None,
        "event_time": 1,
        "source": "stdout",
        "line": "through the gate",
    }
    producer = kafka.producer(settings)
    producer.produce("telemetry.logs", Encoder(Kind.LOGS)(record), "r1")
    assert producer.flush(10) == 0
    assert run_cli("replay", "r1").stdout == "through the gate\n"
    assert found_by_doctor(run_cli)["ok"] is True
    assert USERS["admin"] not in run_cli("config").stdout
    assert run_cli("topics", "create").stdout.count("is there") == len(Kind)


def test_a_wrong_password_is_said_to_be_one(log_in: Callable[..., None], run_cli: Cli) -> None:
    """A refused login is no time-out: the sentence has the broker's answer and the settings to check."""
    log_in("admin", "guessed")
    done = run_cli("topics", "create")
    assert done.returncode == 1
    assert "refused the login" in done.stderr
    assert "STEPSTREAM_KAFKA_SASL_" in done.stderr
    assert "guessed" not in done.stderr


def test_missing_rights_are_named(log_in: Callable[..., None], run_cli: Cli, guarded: str) -> None:
    """doctor names READ and WRITE to a user who may describe and read the topics, but not write."""
    log_in("admin")
    run_cli("topics", "create")
    admin = AdminClient(kafka.client_config(load()))
    rules = [
        AclBinding(
            ResourceType.TOPIC,
            "telemetry.",
            ResourcePatternType.PREFIXED,
            "User:worker",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for operation in (AclOperation.DESCRIBE, AclOperation.READ)
    ]
    for future in admin.create_acls(rules).values():
        future.result(10)
    log_in("worker")
    finding = found_by_doctor(run_cli)
    assert finding["ok"] is False
    assert "grant this user READ and WRITE" in str(finding["message"])
