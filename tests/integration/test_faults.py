"""After kills, freezes and full disks every event is in SQL exactly once, or is a dead letter.

Each test injects a few faults; with `--faults=100` a hundred.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from infra.embedded.kafka import KafkaServer
from infra.kafka import topics
from infra.settings import Settings, load
from infra.sql import engine as sql
from infra.sql import migrations
from schemas.tables import EVENT_TABLES, Run
from tests.support.cluster import Cluster
from tests.support.events import until
from tests.support.load import Load, prove, rows
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(0)]

Spawn = Callable[..., Any]


def ready(settings: Settings) -> Engine:
    """Make the topics, upgrade the tables, and return the database's engine."""
    topics.ensure_topics(settings)
    engine = sql.engine(settings)
    migrations.upgrade(engine)
    return engine


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A database of each kind, which the programs of this test use, too."""
    if request.param == "postgresql":
        monkeypatch.setenv("STEPSTREAM_DATABASE_URL", request.getfixturevalue("postgres"))
    return ready(load())


def kill(program: Any) -> None:
    """Kill a program and its children by SIGKILL."""
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()


def test_persist_is_killed(
    engine: Engine, settings: Settings, spawn_cli: Spawn, strikes: Callable[[int], int]
):
    """No event is lost when persist gets SIGKILL at random points under load, bad records included."""
    programs = [spawn_cli("persist") for _ in range(2)]
    with Load(settings, poison=2000) as load:
        for _ in range(strikes(5)):
            time.sleep(random.uniform(0.5, 2.5))
            kill(programs.pop(random.randrange(len(programs))))
            programs.append(spawn_cli("persist"))
    prove(engine, load)


def test_persist_is_killed_alone(
    engine: Engine, settings: Settings, spawn_cli: Spawn, strikes: Callable[[int], int]
):
    """A process is killed just after it began to write: the next one completes the work."""
    with Load(settings) as load:
        for _ in range(strikes(2)):
            before = rows(engine)
            program = spawn_cli("persist")
            until(lambda before=before: rows(engine) > before, 60, 0.01)
            kill(program)
    spawn_cli("persist")
    prove(engine, load)


def test_rebalances_in_a_storm(
    engine: Engine, settings: Settings, spawn_cli: Spawn, strikes: Callable[[int], int]
):
    """No event is lost when members join and leave faster than the group settles."""
    programs = [spawn_cli("persist")]
    with Load(settings) as load:
        for _ in range(strikes(6)):
            programs.append(spawn_cli("persist"))
            time.sleep(random.uniform(0.2, 1.5))
            if len(programs) > 2:
                programs.pop(random.randrange(len(programs))).terminate()
    prove(engine, load)


def test_a_zombie_wakes_up(
    engine: Engine, settings: Settings, spawn_cli: Spawn, strikes: Callable[[int], int]
):
    """A process is frozen at any moment and another takes over; when it wakes up it writes nothing old."""
    sleeper, _other = spawn_cli("persist"), spawn_cli("persist")
    with Load(settings) as load:
        for _ in range(strikes(1)):
            time.sleep(random.uniform(1, 2))
            os.killpg(sleeper.pid, signal.SIGSTOP)
            time.sleep(8)  # the group gives a member up after 6 s
            os.killpg(sleeper.pid, signal.SIGCONT)
        time.sleep(1)
    prove(engine, load)
    assert sleeper.poll() is None


WORKER = """
import stepstream

with stepstream.init(run_id="sdk") as run:
    for i in range(30_000):
        run.step(reward=1.0, terminated=i % 50 == 49)
"""


def test_the_forwarder_is_killed(engine: Engine, home: Path, spawn_cli: Spawn, strikes: Callable[[int], int]):
    """A forwarder that is killed while it ships a spool repeats windows, but no row is stored twice."""
    subprocess.run([sys.executable, "-c", WORKER], check=True)
    spawn_cli("persist")
    for _ in range(strikes(3)):
        forwarder = spawn_cli("forward")
        time.sleep(random.uniform(0.8, 2))
        kill(forwarder)
    spawn_cli("forward")
    until(lambda: stored_of(engine, "steps") == 30_000, 90, 0.2)
    until(lambda: stored_of(engine, "episodes") == 600, 30, 0.2)
    with engine.connect() as connection:
        run = connection.execute(select(Run.__table__)).mappings().one()
        lines = [
            seq
            for table in EVENT_TABLES.values()
            for seq in connection.scalars(select(table.c.seq).where(table.c.stream_id.not_like("%.meta")))
        ]
    assert sorted(lines) == list(range(1, len(lines) + 1))
    assert (run["steps"], run["episodes"]) == (30_000, 600)


def stored_of(engine: Engine, table: str) -> int:
    """Rows of one table."""
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(EVENT_TABLES[table])) or 0


def test_kafka_is_killed(own_kafka: KafkaServer, spawn_cli: Spawn, strikes: Callable[[int], int]):
    """No event is lost when the broker gets SIGKILL and comes back on the same port."""
    engine = ready(load())
    program = spawn_cli("persist")
    with Load(load()) as sending:
        for _ in range(strikes(2)):
            time.sleep(random.uniform(1, 2))
            own_kafka.kill()
            time.sleep(random.uniform(0, 2))
            own_kafka.start()
    prove(engine, sending)
    assert program.poll() is None


def test_sigterm_while_the_broker_hangs(own_kafka: KafkaServer, spawn_cli: Spawn):
    """persist ends although the broker is frozen, and nothing is half written."""
    engine = ready(load())
    program = spawn_cli("persist")
    with Load(load()) as sending:
        until(lambda: rows(engine) > 0)
    assert own_kafka._process is not None
    own_kafka._process.send_signal(signal.SIGSTOP)
    try:
        program.terminate()
        assert program.wait(5.5) == 0
    finally:
        own_kafka._process.send_signal(signal.SIGCONT)
    spawn_cli("persist")
    prove(engine, sending)


@pytest.fixture
def own_postgres(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """A database server of this test's own, to crash."""
    server = PostgresServer()
    try:
        server.start()
        monkeypatch.setenv("STEPSTREAM_DATABASE_URL", server.url("postgres"))
        yield server
    finally:
        server.stop()


def test_postgresql_crashes(
    own_postgres: PostgresServer, settings: Settings, spawn_cli: Spawn, strikes: Callable[[int], int]
):
    """PostgreSQL crashes and even loses its last commits: rows and offsets go back together."""
    engine = ready(load())
    programs = [spawn_cli("persist"), spawn_cli("persist")]
    with Load(settings, poison=5000) as sending:
        for _ in range(strikes(2)):
            time.sleep(random.uniform(1, 2))
            own_postgres.crash()
            time.sleep(random.uniform(0, 2))
            own_postgres.start()
    engine.dispose()
    prove(engine, sending)
    assert [program.poll() for program in programs] == [None, None]


def test_sigterm_while_the_database_hangs(own_postgres: PostgresServer, settings: Settings, spawn_cli: Spawn):
    """persist ends although the database is frozen, and nothing is lost."""
    engine = ready(load())
    program = spawn_cli("persist")
    with Load(settings) as sending:
        until(lambda: rows(engine) > 0)
        assert own_postgres._process is not None
        os.killpg(own_postgres._process.pid, signal.SIGSTOP)
        time.sleep(1)
        program.terminate()
        assert program.wait(5.5) == 0
        os.killpg(own_postgres._process.pid, signal.SIGCONT)
    spawn_cli("persist")
    prove(engine, sending)


def test_the_disk_is_full(
    settings: Settings, tiny_disk: Path, spawn_cli: Spawn, monkeypatch: pytest.MonkeyPatch
):
    """With a full disk persist waits, says so, and goes on once there is room."""
    monkeypatch.setenv("STEPSTREAM_DATABASE_URL", f"sqlite:///{tiny_disk / 'full.db'}")
    engine = ready(load())
    program = spawn_cli("persist")
    with Load(settings, rate=2000) as sending:
        until(lambda: "full" in program.log.read_text(), 30)
    subprocess.run(["mount", "-o", "remount,size=256m", str(tiny_disk)], check=True)
    prove(engine, sending)
    assert program.poll() is None
    engine.dispose()
    program.terminate()
    program.wait(6)


def test_a_cluster_loses_its_leaders(
    tmp_path: Path,
    kafka_jars: list[Path],
    spawn_cli: Spawn,
    monkeypatch: pytest.MonkeyPatch,
    strikes: Callable[[int], int],
):
    """No event is lost when the brokers of a cluster of three die in turn and come back."""
    with Cluster(tmp_path, kafka_jars) as cluster:
        monkeypatch.setenv("STEPSTREAM_BOOTSTRAP_SERVERS", cluster.bootstrap_servers)
        settings = replace(load(), replication_factor=3)
        engine = ready(settings)
        program = spawn_cli("persist")
        with Load(settings, rate=1500) as sending:
            for strike in range(strikes(2)):
                time.sleep(random.uniform(1, 3))
                cluster.kill(strike % 3)
                time.sleep(random.uniform(2, 4))
                cluster.start(strike % 3)
        prove(engine, sending, 120)
        assert program.poll() is None
