"""What tests share: real servers, started once a session, and a home of its own for each test.

`settings` names the whole stack at once, with topics, groups and keys that no other test sees.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings

from infra import settings as settings_module
from infra.embedded import aot, process
from infra.embedded.jars import class_path
from infra.embedded.kafka import KafkaServer
from infra.embedded.valkey import ValkeyServer
from infra.settings import Settings
from infra.sql import migrations
from infra.sql.writers import Writer, open_writer
from tests.support import needs
from tests.support.postgres import PostgresServer

# No test asserts a time. CI runs the same cases each time; developers' machines find new ones.
hypothesis_settings.register_profile("default", deadline=None, derandomize="CI" in os.environ)
hypothesis_settings.load_profile("default")

PROGRAM = Path(sys.executable).with_name("stepstream")
NO_SKIP = os.environ.get("STEPSTREAM_TEST_NO_SKIP") == "1"
GIVEN_JARS = Path(os.environ.get("STEPSTREAM_JARS_DIR", ""))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options that make some tests run longer than they do every day."""
    parser.addoption("--faults", type=int, default=0, help="strikes of each fault test (default: a few)")
    parser.addoption("--outage", type=float, default=5, help="seconds without a broker (default: 5)")
    parser.addoption("--fuzzed", type=int, default=5000, help="mutated lines (default: 5000)")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let files run side by side where they can."""
    from tests.support.scheduling import FilesSideBySide

    return FilesSideBySide(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run and say why; with STEPSTREAM_TEST_NO_SKIP=1 fail instead."""
    for marker, missing in (
        ("docker", needs.docker),
        ("browser", needs.chromium),
        ("promtool", needs.promtool_missing),
        ("fuse", needs.fuse),
    ):
        if item.get_closest_marker(marker) and (reason := missing()):
            if NO_SKIP:
                pytest.fail(f"STEPSTREAM_TEST_NO_SKIP=1, and {reason}", pytrace=False)
            pytest.skip(reason)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say in CI at once what failed: a run that is cut off prints no summary."""
    if report.failed and "CI" in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        cause = (crash.message if crash else report.longreprtext)[-1000:]
        print(f"\n{report.nodeid}: {report.when} failed in {report.duration:.0f} s: {cause}", flush=True)


@pytest.fixture
def strikes(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """How many faults to inject: the number of `--faults`, else a few."""
    told: int = request.config.getoption("--faults")
    return lambda few: told or few


@pytest.fixture(scope="session")
def kafka_jars() -> list[Path]:
    """Kafka's class path: from the user's cache, fetched where it is empty, or from STEPSTREAM_JARS_DIR."""
    return class_path(GIVEN_JARS)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, kafka_jars: list[Path]) -> Iterator[str]:
    """Address of an embedded Apache Kafka."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"), kafka_jars, java_flags=aot.flags(kafka_jars))
    server.start()
    yield server.address
    server.stop()


@pytest.fixture
def own_kafka(
    tmp_path: Path, kafka_jars: list[Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KafkaServer]:
    """A Kafka broker that only this test uses and may kill."""
    server = KafkaServer(tmp_path / "kafka", kafka_jars)
    server.start()
    monkeypatch.setenv("STEPSTREAM_BOOTSTRAP_SERVERS", server.address)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an embedded Valkey."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server.address
    server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that all tests of a session share."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """SQLAlchemy URL of a fresh, empty database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgres_server.sql(f"CREATE DATABASE {name} STRATEGY file_copy")
    yield postgres_server.url(name)
    postgres_server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Writer]:
    """A writer into an empty database of each kind."""
    postgres = request.param == "postgresql"
    address = request.getfixturevalue("postgres") if postgres else f"sqlite:///{tmp_path / 'test.db'}"
    made = open_writer(replace(settings_module.load({}), database_url=address))
    migrations.upgrade(made.engine)
    yield made
    made.close()
    made.engine.dispose()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty STEPSTREAM_HOME for this test; the developer's own settings are removed."""
    for name in [name for name in os.environ if name.startswith("STEPSTREAM_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("STEPSTREAM_HOME", str(folder))
    if Path() != GIVEN_JARS:
        monkeypatch.setenv("STEPSTREAM_JARS_DIR", str(GIVEN_JARS))
    return folder


@pytest.fixture
def topic_prefix(
    home: Path, kafka: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A prefix for topics and groups that only this test uses; its topics are deleted at the end."""
    from confluent_kafka.admin import AdminClient

    word = re.sub(r"\W+", "-", request.node.name)[:40].strip("-")
    prefix = f"{word}-{uuid.uuid4().hex[:8]}."
    monkeypatch.setenv("STEPSTREAM_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("STEPSTREAM_TOPIC_PREFIX", prefix)
    monkeypatch.setenv("STEPSTREAM_GROUP_PREFIX", prefix)
    yield prefix
    admin = AdminClient({"bootstrap.servers": kafka})
    if mine := [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]:
        for future in admin.delete_topics(mine).values():
            future.result(10)


@pytest.fixture
def redis_prefix(home: Path, valkey: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix for Redis keys that only this test uses."""
    prefix = f"{uuid.uuid4().hex[:8]}:"
    monkeypatch.setenv("STEPSTREAM_REDIS_URL", valkey)
    monkeypatch.setenv("STEPSTREAM_REDIS_PREFIX", prefix)
    return prefix


@pytest.fixture
def settings(home: Path, topic_prefix: str, redis_prefix: str) -> Settings:
    """Settings of the whole stack (Kafka, Valkey, SQLite in the home); child processes read the same ones."""
    return settings_module.load()


@pytest.fixture
def run_cli(home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_cli("runs", "list", "--json", input=…, env=…, timeout=60)` runs the real program to its end."""

    def run(*arguments: str, timeout: float = 60, env: dict[str, str] | None = None, **options: Any) -> Any:
        command = [str(PROGRAM), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=os.environ | (env or {}), **options
        )

    return run


@pytest.fixture
def spawn_cli(home: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`spawn_cli("persist")` starts the real program in the background; SIGTERM ends it after the test.

    The handle is a Popen; `.log` is the file with its stdout and stderr.
    """
    started: list[subprocess.Popen[bytes]] = []

    def spawn(*arguments: str, env: dict[str, str] | None = None) -> Any:
        log = tmp_path / f"{'-'.join(arguments)[:40].replace('/', '_')}-{len(started)}.log"
        with log.open("wb") as output:
            child = process.spawn([str(PROGRAM), *arguments], output=output, variables=env)
        child.log = log  # type: ignore[attr-defined]
        started.append(child)
        return child

    yield spawn
    for child in reversed(started):
        process.end(child)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB that a test can fill."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("a disk of its own needs root: mount was refused")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def chromium() -> str:
    """Path of a Chromium; tests that use it have the marker `browser`."""
    found = needs.chromium_path()
    assert found is not None
    return found
