"""`persist`, the real program, between a real Kafka and both databases."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from infra.kafka import topics
from infra.settings import Settings, load
from infra.sql import engine as sql
from infra.sql import migrations
from schemas.tables import EVENT_TABLES, Agent, DeadLetter, Run, Step
from schemas.topics import LINES, Kind
from tests.support.events import Stream, mixed, record, run_event, until

LAG = 300_000


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An upgraded database of each kind, which the programs of this test use, too; and topics."""
    if request.param == "postgresql":
        monkeypatch.setenv("STEPSTREAM_DATABASE_URL", request.getfixturevalue("postgres"))
    topics.ensure_topics(settings)
    engine = sql.engine(load())
    migrations.upgrade(engine)
    return engine


@pytest.fixture
def stream(settings: Settings) -> Stream:
    """A worker's stream."""
    return Stream(settings.bootstrap_servers, settings.topic_prefix)


def counts(engine: Engine) -> dict[str, int]:
    """The number of rows by table, for the tables that have any."""
    with engine.connect() as connection:
        found = {
            name: connection.scalar(select(func.count()).select_from(table))
            for name, table in EVENT_TABLES.items()
        }
    return {name: count for name, count in found.items() if count}


def rows(engine: Engine) -> int:
    """All rows of events."""
    return sum(counts(engine).values())


def run_row(engine: Engine, run_id: str = "run") -> dict[str, Any]:
    """The row of a run."""
    with engine.connect() as connection:
        found = connection.execute(select(Run.__table__).where(Run.run_id == run_id)).mappings().one_or_none()
    return dict(found) if found else {}


def test_every_line_becomes_one_row_and_is_counted(
    database: Engine, stream: Stream, spawn_cli: Callable[..., Any]
):
    """Each kind lands in its table; the run's and its agents' counts add up to the lines."""
    spawn_cli("persist")
    stream.send(Kind.RUNS, run_event(0, "run_started", stream_id="s", env_id="Taxi-v3", algorithm="q"))
    for kind, fields in mixed(2000):
        stream.send(kind, fields)
    stream.flush()
    until(lambda: rows(database) == 2001)
    assert counts(database) == {kind.table: stream.sent[kind] for kind in LINES}
    run = run_row(database)
    assert (
        sum(run[name] for name in ("steps", "episodes", "metrics", "run_events", "logs", "dead_letters"))
        == 2001
    )
    assert (run["status"], run["env_id"], run["algorithm"]) == ("running", "Taxi-v3", "q")
    with database.connect() as connection:
        agent = connection.execute(select(Agent.__table__)).mappings().one()
        places = connection.execute(select(Step.seq, Step.topic_offset).order_by(Step.seq)).all()
    assert (agent["steps"], agent["episodes"], agent["best_return"]) == (1600, 100, 2000.0)
    assert [offset for _, offset in places] == list(range(1600))


def test_sent_twice_is_stored_once(database: Engine, stream: Stream, spawn_cli: Callable[..., Any]):
    """A repeated window adds no row and counts nothing twice; what is new among it is stored."""
    spawn_cli("persist")
    for kind, fields in [*mixed(500), *mixed(700)]:
        stream.send(kind, fields)
    stream.flush()
    until(lambda: rows(database) == 700)
    stream.send(Kind.STEPS, record(Kind.STEPS, 9999))
    stream.flush()
    until(lambda: rows(database) == 701)
    assert run_row(database)["steps"] == 561


def test_a_bad_record_costs_only_itself(database: Engine, stream: Stream, spawn_cli: Callable[..., Any]):
    """A record that is unreadable or refused is one dead letter with its place; its neighbours are rows."""
    spawn_cli("persist")
    good = [fields for kind, fields in mixed(1000) if kind is Kind.STEPS]
    for fields in good[:400]:
        stream.send(Kind.STEPS, fields)
    stream.raw(Kind.STEPS, b"\0\0\0\0\1nonsense")
    stream.raw(Kind.STEPS, b"{}", b"\xff")
    stream.raw(Kind.STEPS, None)
    stream.raw(Kind.STEPS, b"\0\0\0\xff\xff...")
    stream.send(Kind.STEPS, record(Kind.STEPS, 5000, event_time=1 << 62))
    stream.send(Kind.STEPS, record(Kind.STEPS, 5001, stream_id="nul\0", observation="{"))
    for fields in good[400:]:
        stream.send(Kind.STEPS, fields)
    stream.flush()
    until(lambda: counts(database) == {"steps": len(good), "dead_letters": 6})
    with database.connect() as connection:
        letters = connection.execute(select(DeadLetter.__table__).order_by(DeadLetter.seq)).mappings().all()
    assert {letter["topic"] for letter in letters} == {Kind.STEPS.topic(stream.prefix)}
    unreadable = [letter for letter in letters if letter["reason"] == "unreadable"]
    assert [letter["seq"] for letter in unreadable] == [letter["topic_offset"] for letter in unreadable]
    assert {bytes(letter["raw"]) for letter in letters} >= {b"{}", b"", b"\0\0\0\0\1nonsense"}
    late = next(letter for letter in letters if letter["seq"] == 5000)
    assert (late["stream_id"], late["reason"]) == ("stream", "refused")
    assert run_row(database)["dead_letters"] == 5  # the sixth has another key


def test_it_goes_on_where_it_was(database: Engine, stream: Stream, spawn_cli: Callable[..., Any]):
    """After a restart persist repeats nothing and misses nothing, whatever Kafka's own offsets say."""
    for start in (1, 501, 1001):
        for kind, fields in mixed(500, start=start):
            stream.send(kind, fields)
        stream.flush()
        program = spawn_cli("persist")
        until(lambda start=start: rows(database) == start + 499)
        program.terminate()
        assert program.wait(6) == 0
    assert "repeated" not in program.log.read_text()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells no peak of memory here")
def test_memory_is_bounded_whatever_the_lag(
    database: Engine, stream: Stream, spawn_cli: Callable[..., Any], record_property: Callable[..., None]
):
    """A backlog of 300,000 records of a kilobyte is stored within the memory of a few batches."""
    stream.send(Kind.STEPS, record(Kind.STEPS, 0))
    stream.flush()
    program = spawn_cli("persist")
    until(lambda: rows(database) == 1)
    idle = peak_mb(program.pid)
    program.terminate()
    assert program.wait(6) == 0

    picture = json.dumps([round(random.random(), 4) for _ in range(128)])
    for seq in range(1, LAG + 1):
        stream.send(Kind.STEPS, record(Kind.STEPS, seq, observation=picture))
    stream.flush()
    program = spawn_cli("persist")
    until(lambda: newest(database) == LAG, 120, 0.5)
    grown = peak_mb(program.pid) - idle
    record_property("megabytes", grown)
    print(f"{database.dialect.name}: {idle:.0f} MB idle, {grown:.0f} MB more at its peak")
    assert grown < 200


def newest(engine: Engine) -> int | None:
    """The highest number stored."""
    with engine.connect() as connection:
        return connection.scalar(select(func.max(Step.topic_offset)))


def peak_mb(pid: int) -> float:
    """The most memory that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def test_it_refuses_to_start_without_tables(settings: Settings, run_cli: Callable[..., Any]):
    """persist does not start without tables, and one sentence says what to run."""
    done = run_cli("persist")
    assert done.returncode == 1
    assert "run `stepstream db upgrade`" in done.stderr
    assert "Traceback" not in done.stderr
    assert run_cli("db", "upgrade").returncode == 0
