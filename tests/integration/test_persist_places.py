"""`persist` finds the offset to go on from when the log, the group or the database has changed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions
from sqlalchemy import Engine, func, select

from infra.kafka import client as kafka_clients
from infra.kafka import topics
from infra.settings import Settings
from infra.sql import engine as sql
from infra.sql import migrations
from schemas.tables import EVENT_TABLES, ConsumerOffset, Frame, Run, Step
from schemas.topics import Kind
from tests.support.events import Stream, mixed, record, run_event, until


@pytest.fixture
def database(settings: Settings) -> Engine:
    """An upgraded SQLite in the home, and topics."""
    topics.ensure_topics(settings)
    engine = sql.engine(settings)
    migrations.upgrade(engine)
    return engine


@pytest.fixture
def stream(settings: Settings) -> Stream:
    """A worker's stream."""
    return Stream(settings.bootstrap_servers, settings.topic_prefix)


def rows(engine: Engine) -> int:
    """All rows of events."""
    with engine.connect() as connection:
        return sum(connection.scalar(select(func.count()).select_from(t)) or 0 for t in EVENT_TABLES.values())


def value(engine: Engine, query: Any) -> Any:
    """The one value that a query gives."""
    with engine.connect() as connection:
        return connection.scalar(query)


def send(stream: Stream, count: int, start: int = 1, **own: Any) -> None:
    """Send a worker's lines, and wait until they are acknowledged."""
    for kind, fields in mixed(count, start=start, **own):
        stream.send(kind, fields)
    stream.flush()


def test_a_topic_made_anew_is_read_from_its_beginning(
    database: Engine, stream: Stream, settings: Settings, spawn_cli: Callable[..., Any]
):
    """Records of a topic made anew under its old name are stored, though their offsets were seen before."""
    send(stream, 1000)
    program = spawn_cli("persist")
    until(lambda: rows(database) == 1000)
    program.terminate()
    program.wait(6)
    admin = kafka_clients.admin(settings)
    names = [Kind.STEPS.topic(stream.prefix)]
    for future in admin.delete_topics(names).values():
        future.result(10)
    until(lambda: names[0] not in admin.list_topics(timeout=5).topics)
    topics.ensure_topics(settings)
    again = Stream(settings.bootstrap_servers, settings.topic_prefix)
    for seq in range(2001, 4001):  # more than before: the stored offset exists here, too
        again.send(Kind.STEPS, record(Kind.STEPS, seq))
    again.flush()
    spawn_cli("persist")
    until(lambda: rows(database) == 3000)


def test_a_topic_made_anew_while_it_is_read(
    database: Engine, stream: Stream, settings: Settings, spawn_cli: Callable[..., Any]
):
    """A running persist stores the records of a topic that is deleted and made anew."""
    send(stream, 1000)
    program = spawn_cli("persist")
    until(lambda: rows(database) == 1000)
    admin = kafka_clients.admin(settings)
    name = Kind.STEPS.topic(stream.prefix)
    admin.delete_topics([name])[name].result(10)
    until(lambda: name not in admin.list_topics(timeout=5).topics)
    topics.ensure_topics(settings)
    again = Stream(settings.bootstrap_servers, settings.topic_prefix)
    for seq in range(2001, 2101):
        again.send(Kind.STEPS, record(Kind.STEPS, seq))
    again.flush()
    until(lambda: rows(database) == 1100, 90)
    assert program.poll() is None


def test_a_gap_is_told_and_passed_only_when_told_to(
    database: Engine,
    stream: Stream,
    settings: Settings,
    spawn_cli: Callable[..., Any],
    run_cli: Callable[..., Any],
):
    """Where Kafka no longer holds the missing records, persist names the offsets and stops."""
    send(stream, 1000)
    program = spawn_cli("persist")
    until(lambda: rows(database) == 1000)
    program.terminate()
    program.wait(6)
    send(stream, 1000, 1001)
    topic = Kind.STEPS.topic(stream.prefix)
    number = value(database, select(Step.topic_partition).limit(1))
    cut = TopicPartition(topic, number, 1000)
    admin = kafka_clients.admin(settings)
    admin.delete_records([cut])[cut].result(10)
    done = run_cli("persist")
    assert done.returncode == 1
    assert f"{topic}-{number} offsets 800 to 999" in done.stderr
    assert "STEPSTREAM_ON_GAP=continue" in done.stderr
    assert rows(database) < 1801
    spawn_cli("persist", env={"STEPSTREAM_ON_GAP": "continue"})
    until(lambda: rows(database) == 1800)


def test_lost_pictures_are_no_gap(
    database: Engine, stream: Stream, settings: Settings, spawn_cli: Callable[..., Any]
):
    """Pictures that Kafka deleted before persist read them are skipped, as SQL stores only their places."""
    topic, admin = Kind.FRAMES.topic(stream.prefix), kafka_clients.admin(settings)
    stream.send(Kind.FRAMES, record(Kind.FRAMES, 1))
    stream.flush()
    program = spawn_cli("persist")
    until(lambda: rows(database) == 1)
    program.terminate()
    program.wait(6)
    stream.send(Kind.FRAMES, record(Kind.FRAMES, 2))
    stream.send(Kind.FRAMES, record(Kind.FRAMES, 3))
    stream.flush()
    cut = TopicPartition(topic, value(database, select(Frame.topic_partition)), 2)
    admin.delete_records([cut])[cut].result(10)
    spawn_cli("persist")
    until(lambda: rows(database) == 2)
    with database.connect() as connection:
        assert connection.execute(select(Frame.seq, Frame.topic_offset)).all() == [(1, 0), (3, 2)]


def test_restored_from_a_backup_it_catches_up(
    database: Engine, stream: Stream, settings: Settings, spawn_cli: Callable[..., Any]
):
    """A restored database catches up from the log: rows and counts are those of the current one."""
    send(stream, 1000)
    program = spawn_cli("persist")
    until(lambda: rows(database) == 1000)
    backup = settings.home / "backup.db"
    with contextlib.closing(sqlite3.connect(settings.home / "stepstream.db")) as running:
        running.backup(sqlite3.connect(backup))
    send(stream, 1000, 1001)
    until(lambda: rows(database) == 2000)
    program.terminate()
    program.wait(6)
    today = dump(database)
    database.dispose()
    for file in settings.home.glob("stepstream.db*"):
        file.unlink()
    shutil.copy(backup, settings.home / "stepstream.db")
    spawn_cli("persist")
    until(lambda: rows(database) == 2000)
    assert dump(database) == today


def dump(engine: Engine) -> dict[str, list[Any]]:
    """Every row of every table."""
    tables = [*EVENT_TABLES.values(), Run.__table__, ConsumerOffset.__table__]
    with engine.connect() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(select(table)).all()))  # type: ignore[union-attr]
            for table in tables
        }


def test_more_partitions_and_more_processes_during_load(
    database: Engine, stream: Stream, settings: Settings, spawn_cli: Callable[..., Any]
):
    """Partitions and processes join and leave while records come: none is lost, none is doubled."""
    programs = [spawn_cli("persist")]
    admin = kafka_clients.admin(settings)
    topic = Kind.STEPS.topic(stream.prefix)
    for turn in range(8):
        for run in range(6):
            for kind, fields in mixed(200, start=turn * 200 + 1, run_id=f"run-{run}", stream_id=f"s{run}"):
                stream.send(kind, fields)
        stream.flush()
        if turn == 2:
            admin.create_partitions([NewPartitions(topic, 9)])[topic].result(10)
        if turn in (1, 3):
            programs.append(spawn_cli("persist"))
        if turn in (4, 6):
            programs.pop(0).terminate()
    until(lambda: rows(database) == 8 * 200 * 6, 60)
    with database.connect() as connection:
        found = dict(connection.execute(select(Run.run_id, Run.steps)).all())  # type: ignore[arg-type]
    assert found == {f"run-{run}": 8 * 160 for run in range(6)}


def test_a_zombie_writes_nothing(
    database: Engine, stream: Stream, settings: Settings, spawn_cli: Callable[..., Any]
):
    """A process that was stopped while another took its partitions notices it, and joins the group again."""
    first = spawn_cli("persist")
    send(stream, 1000)
    until(lambda: rows(database) == 1000)
    os.killpg(first.pid, signal.SIGSTOP)
    try:
        second = spawn_cli("persist")
        send(stream, 1000, 1001)
        until(lambda: rows(database) == 2000, 60)
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    send(stream, 1000, 2001)
    until(lambda: rows(database) == 3000, 60)
    second.terminate()
    second.wait(6)
    send(stream, 1000, 3001)
    until(lambda: rows(database) == 4000, 60)
    assert first.poll() is None
    assert value(database, select(Run.steps)) == 3200


def test_sigterm_ends_it_within_five_seconds(database: Engine, stream: Stream, spawn_cli: Callable[..., Any]):
    """Everything that was read is committed or dropped whole, and the exit code is 0."""
    program = spawn_cli("persist")
    send(stream, 5000)
    until(lambda: rows(database) > 0)
    program.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert program.wait(10) == 0
    assert time.monotonic() - began < 5.5
    at = rows(database)
    places = value(database, select(func.sum(ConsumerOffset.next_offset)))
    assert at == places


def test_a_deleted_run_stays_deleted(
    database: Engine, stream: Stream, spawn_cli: Callable[..., Any], run_cli: Callable[..., Any]
):
    """A late consumer does not bring back a deleted run; its name used again is a new run."""
    send(stream, 600)
    send(stream, 100, run_id="other")
    program = spawn_cli("persist")
    until(lambda: rows(database) == 700)
    program.terminate()
    program.wait(6)
    send(stream, 400, 601)
    done = run_cli("runs", "delete", "run", "--yes", "--json")
    assert (done.returncode, done.stdout.strip()) == (0, '{"run_id": "run", "deleted": 600}')
    spawn_cli("persist")
    send(stream, 50, 1, run_id="other", stream_id="later")
    until(lambda: rows(database) == 150)
    assert value(database, select(func.count()).where(Run.run_id == "run")) == 0
    send(stream, 30, 2001)
    until(lambda: rows(database) == 180)
    assert run_cli("runs", "delete", "nobody", "--yes").returncode == 2


def test_a_silent_run_is_lost_until_it_is_heard(
    database: Engine, stream: Stream, spawn_cli: Callable[..., Any]
):
    """A run that is silent for too long is lost, until a newer record comes; an ended run stays ended."""
    stream.send(Kind.RUNS, run_event(1, "run_completed", run_id="done"))
    stream.send(Kind.STEPS, record(Kind.STEPS, 1))
    stream.flush()
    spawn_cli("persist", env={"STEPSTREAM_LOST_SECONDS": "1"})
    status = select(Run.status).where(Run.run_id == "run")
    until(lambda: value(database, status) == "lost", 40)
    stream.send(Kind.STEPS, record(Kind.STEPS, 2))
    stream.flush()
    until(lambda: value(database, status) == "running", 10)
    assert value(database, select(Run.status).where(Run.run_id == "done")) == "completed"


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_both_group_protocols(database: Engine, stream: Stream, spawn_cli: Callable[..., Any], protocol: str):
    """Cooperative and KIP-848 groups hand partitions over alike."""
    environment = {"STEPSTREAM_GROUP_PROTOCOL": protocol}
    first = spawn_cli("persist", env=environment)
    send(stream, 500)
    until(lambda: rows(database) == 500)
    spawn_cli("persist", env=environment)
    send(stream, 500, 501)
    until(lambda: rows(database) == 1000)
    first.terminate()
    first.wait(6)
    send(stream, 500, 1001)
    until(lambda: rows(database) == 1500, 60)
