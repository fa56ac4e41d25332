"""When Kafka does not answer, commands end with one sentence, and services wait and say so."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import wait_for

Cli = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS = [
    ("topics", "create"),
    ("doctor",),
    ("dlq", "redrive"),
    ("replay", "run", "--output", "topic:other"),
    ("up", "--port", "0"),
]


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"127.0.0.1:{server.getsockname()[1]}"


def ends_with_a_sentence(done: subprocess.CompletedProcess[str], address: str) -> None:
    """Assert exit code 1, a sentence with the address, and no traceback."""
    said = done.stdout + done.stderr
    assert (done.returncode, "Traceback" in said) == (1, False), said
    assert f"No Kafka broker answers at {address}" in said.replace("\n", " ")


def test_commands_end_with_one_sentence(silent: str, home: Path, run_cli: Cli) -> None:
    """Every command that needs a broker ends with one sentence when the broker is silent."""
    assert run_cli("db", "upgrade").returncode == 0
    for command in COMMANDS:
        done = run_cli(*command, env={"STEPSTREAM_BOOTSTRAP_SERVERS": silent}, timeout=100)
        ends_with_a_sentence(done, silent)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "kafka.invalid:9092"])
def test_an_address_of_nobody(address: str, home: Path, run_cli: Cli) -> None:
    """A port that refuses and a host name that is unknown each end a command with one sentence."""
    done = run_cli("topics", "create", env={"STEPSTREAM_BOOTSTRAP_SERVERS": address}, timeout=100)
    ends_with_a_sentence(done, address)


def test_services_wait_and_say_so(
    silent: str, home: Path, valkey: str, run_cli: Cli, spawn_cli: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Services wait for a broker that is silent, and their logs name its address."""
    assert run_cli("db", "upgrade").returncode == 0
    variables = {"STEPSTREAM_BOOTSTRAP_SERVERS": silent, "STEPSTREAM_REDIS_URL": valkey}
    children = [spawn_cli(service, env=variables) for service in ("persist", "live", "forward")]
    for child in children:
        log = child.log  # type: ignore[attr-defined]
        wait_for(lambda log=log: "waiting" in log.read_text(), 150, f"{log.name} says nothing")  # type: ignore[misc]
        assert silent in log.read_text()
        assert child.poll() is None


@pytest.mark.parametrize("module", ["cli.ops", "cli.topics", "cli.main"])
def test_a_command_starts_without_what_it_does_not_need(module: str) -> None:
    """The commands for setup do not import SQLAlchemy, which takes longer than the broker's answer."""
    code = f"import {module}, sys; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
