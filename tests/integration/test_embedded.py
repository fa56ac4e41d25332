"""The embedded servers are real, keep what they hold, and come up again after any end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from infra.embedded import ports
from infra.embedded.kafka import KafkaServer
from infra.embedded.valkey import ValkeyServer
from schemas.errors import AlreadyRunning, StepstreamError
from tests.support.processes import wait_until_gone


def _acknowledged(server: KafkaServer, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": server.address, "acks": "all"})
    for value in values:
        producer.produce("t", value)
    assert producer.flush(20) == 0


def _read(server: KafkaServer, count: int) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": server.address, "group.id": "g", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["t"])
    values: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        values += [message.value() for message in consumer.consume(count - len(values), 1.0)]
    consumer.close()
    return values


def test_kafka_keeps_every_acknowledged_record_and_its_port_over_sigkill(
    tmp_path: Path, kafka_jars: list[Path]
) -> None:
    """After SIGKILL the broker comes up on the same port and holds all that was acknowledged."""
    folder = tmp_path / "wähl, dies = 1"
    server = KafkaServer(folder, kafka_jars)
    server.start()
    admin = AdminClient({"bootstrap.servers": server.address})
    admin.create_topics([NewTopic("t", 1, 1)])["t"].result(10)
    values = [b"%d" % n for n in range(500)]
    _acknowledged(server, values)
    port = server.port
    server.kill()

    again = KafkaServer(folder, kafka_jars)
    again.start()
    try:
        assert again.port == port
        assert _read(again, 500) == values
    finally:
        again.stop()


def test_a_second_broker_on_a_folder_is_refused_before_it_touches_the_data(
    tmp_path: Path, kafka_jars: list[Path]
) -> None:
    """A second broker on a folder is refused, and the first one goes on."""
    server = KafkaServer(tmp_path, kafka_jars)
    server.start()
    try:
        with pytest.raises(AlreadyRunning, match=str(tmp_path)):
            KafkaServer(tmp_path, kafka_jars).start()
        assert ports.answers(server.port, bytes.fromhex("0000000a0012000000000001ffff"), prefix=b"\0\0")
    finally:
        server.stop()


def test_a_taken_port_means_another_port(tmp_path: Path, kafka_jars: list[Path]) -> None:
    """Kafka starts on another port when another program has taken its port."""
    server = KafkaServer(tmp_path, kafka_jars)
    (server.port,) = ports.free_ports([None])
    with socket.create_server((ports.LOOPBACK, server.port)):
        taken = server.port
        server.start()
        assert server.port != taken
        server.stop()


def test_a_full_disk_is_one_sentence(tmp_path: Path, kafka_jars: list[Path], tiny_disk: Path) -> None:
    """On a full disk Kafka is not started, and the error says how many megabytes are free."""
    with pytest.raises(StepstreamError, match=r"disk is full: \d+ MB are free"):
        KafkaServer(tiny_disk / "kafka", kafka_jars).start()


def test_valkey_keeps_its_keys_and_port_over_a_restart(tmp_path: Path) -> None:
    """After SIGTERM and a new start Valkey holds the same keys at the same address."""
    folder = tmp_path / "wähl, dies = 1"
    server = ValkeyServer(folder)
    server.start()
    redis.Redis.from_url(server.address).set("k", "v")
    url = server.address
    server.stop()

    again = ValkeyServer(folder)
    again.start()
    try:
        assert again.address == url
        assert redis.Redis.from_url(again.address).get("k") == b"v"
    finally:
        again.stop()


def test_valkey_stays_within_its_memory(tmp_path: Path) -> None:
    """A full Valkey drops its oldest keys instead of growing or refusing writes."""
    server = ValkeyServer(tmp_path, max_memory="8mb")
    server.start()
    try:
        client = redis.Redis.from_url(server.address)
        for n in range(40):
            client.set(f"k{n}", b"x" * 1024 * 1024)
        assert client.info("memory")["used_memory"] <= 9 * 1024 * 1024
        assert client.exists("k39")
        assert not client.exists("k0")
    finally:
        server.stop()


PARENT = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from infra.embedded.kafka import KafkaServer
from infra.embedded.valkey import ValkeyServer
from infra.embedded.jars import class_path
kafka = KafkaServer(Path({folder!r}) / "kafka", class_path(Path({jars!r})))
valkey = ValkeyServer(Path({folder!r}) / "valkey")
print(kafka.start().pid, valkey.start().pid, flush=True)
sys.stdin.read()
"""


def test_no_server_outlives_a_parent_that_was_killed(tmp_path: Path, kafka_jars: list[Path]) -> None:
    """SIGKILL of the parent process ends Kafka and Valkey, too."""
    root = str(Path(__file__).parents[2])
    code = PARENT.format(root=root, folder=str(tmp_path), jars=str(kafka_jars[0].parent))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.send_signal(signal.SIGKILL)
    wait_until_gone(pids)
