"""Planted secrets appear in no output, log, file or record of the commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from infra.kafka.client import client_config
from infra.settings import Settings
from schemas.topics import Kind
from tests.support.processes import wait_for

PLANTED = "pl4nted-S3cret"
NOWHERE = "127.0.0.1:1"
SETTINGS = {
    "STEPSTREAM_BOOTSTRAP_SERVERS": NOWHERE,
    "STEPSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "STEPSTREAM_KAFKA_SASL_MECHANISM": "PLAIN",
    "STEPSTREAM_KAFKA_SASL_USERNAME": "worker",
    "STEPSTREAM_KAFKA_SASL_PASSWORD": f"{PLANTED}-kafka",
    "STEPSTREAM_KAFKA_SSL_KEY_PASSWORD": f"{PLANTED}-key",
    "STEPSTREAM_DATABASE_URL": f"postgresql://us:{PLANTED}-url@{NOWHERE}/db?sslpassword={PLANTED}-query",
    "STEPSTREAM_REDIS_URL": f"redis://live:{PLANTED}-redis@{NOWHERE}/0?password={PLANTED}-redis2",
    "STEPSTREAM_SCHEMA_REGISTRY_URL": f"http://us:{PLANTED}-registry@{NOWHERE}",
    "STEPSTREAM_DASHBOARD_TOKEN": f"{PLANTED}-token-of-the-page",
    "STEPSTREAM_LOG_FORMAT": "json",
}
COMMANDS = [
    ["config"],
    ["config", "--json"],
    ["doctor"],
    ["doctor", "persist"],
    ["topics", "create"],
    ["topics", "diff"],
    ["db", "upgrade"],
    ["runs", "list"],
    ["dlq", "list"],
    ["replay", "nosuch"],
]
SERVICES = ["persist", "live", "forward", "dashboard"]


def leaks(texts: Iterator[str] | list[str]) -> list[str]:
    """The lines that hold a secret."""
    return [line for text in texts for line in text.splitlines() if PLANTED in line]


def files(folder: Path) -> Iterator[str]:
    """Every file below a folder, as text."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes().decode("utf-8", "replace")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_prints_one(
    command: list[str], home: Path, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """No command prints a planted secret, also where it prints the address that does not answer."""
    done = run_cli(*command, env=SETTINGS, timeout=120)
    assert done.stdout + done.stderr
    assert not leaks([done.stdout, done.stderr, *files(home)])


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_logs_one(service: str, home: Path, spawn_cli: Callable[..., Any]) -> None:
    """No service logs a planted secret while it waits for its servers, or at its end."""
    started = spawn_cli(service, env=SETTINGS)
    wait_for(lambda: started.log.read_text() or started.poll() is not None, 60, f"{service} says nothing")
    started.terminate()
    started.wait(30)
    assert not leaks([started.log.read_text(), *files(home)])


def test_no_record_of_a_run_holds_one(
    settings: Settings, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A worker's command line is recorded with the values of secret options masked."""
    program = [sys.executable, "-c", "print('{\"reward\": 1}')"]
    secret = [f"--api-key={PLANTED}-1", "--hf-token", f"{PLANTED}-2", f"db.password={PLANTED}-3"]
    done = run_cli("run", "--run-id", "r", "--", *program, *secret, env={"WANDB_API_KEY": f"{PLANTED}-4"})
    assert done.returncode == 0, done.stderr
    values = _values(settings)
    assert any("--api-key=***" in value for value in values)
    assert not leaks([done.stdout, done.stderr, *values, *files(settings.home)])


def _values(settings: Settings) -> list[str]:
    """Every record of the run's life, as it lies on Kafka."""
    consumer = Consumer(client_config(settings, **{"group.id": "secrets", "enable.auto.commit": False}))
    topic, found = Kind.RUNS.topic(settings.topic_prefix), []
    with closing(consumer):
        for number in consumer.list_topics(topic, 20).topics[topic].partitions:
            high = consumer.get_watermark_offsets(TopicPartition(topic, number), 20)[1]
            consumer.assign([TopicPartition(topic, number, 0)])
            for _ in range(high):
                message = consumer.poll(20)
                assert message is not None
                assert message.error() is None
                found.append((message.value() or b"").decode("utf-8", "replace"))
    return found
