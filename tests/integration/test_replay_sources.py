"""Replay from SQL and Kafka together gives the same lines as Kafka alone, and refuses wrong use."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from sqlalchemy import Engine, delete

from cli import main
from infra.kafka import client as kafka
from infra.kafka import topics as topic_setup
from infra.settings import Settings, load
from infra.sql import engine as sql
from infra.sql import runs
from infra.sql.seek_points import index_runs
from schemas.tables import Base, SeekPointRow, UnindexedRun
from schemas.topics import Kind
from tests.support import events
from tests.support.records import record
from tests.support.replays import START, golden, lines_of, send, store

Here = Callable[..., subprocess.CompletedProcess[bytes]]
EPISODES = 500
"""Some thousand lines: more than one block."""


@pytest.fixture
def here(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Here:
    """Run `stepstream replay …` in this process, which starts no new one."""

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        monkeypatch.setattr("sys.argv", ["stepstream", "replay", *arguments])
        with pytest.raises(SystemExit) as end:
            main.main()
        said = capfdbinary.readouterr()
        code = end.value.code if isinstance(end.value.code, int) else 0
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return run


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of the whole stack with a database of each kind, and topics."""
    if request.param == "postgresql":
        monkeypatch.setenv("STEPSTREAM_DATABASE_URL", request.getfixturevalue("postgres"))
    topic_setup.ensure_topics(settings)
    return load()


@pytest.fixture
def topics(settings: Settings) -> Settings:
    """Settings with SQLite, and topics."""
    topic_setup.ensure_topics(settings)
    return settings


def forget(settings: Settings, kind: Kind) -> None:
    """Delete all records of a topic, as its retention would."""
    admin = kafka.admin(settings)
    topic = kind.topic(settings.topic_prefix)
    parts = admin.list_topics(topic, timeout=10).topics[topic].partitions
    for future in admin.delete_records([TopicPartition(topic, part, -1) for part in parts]).values():
        future.result(10)


WINDOWS = [
    "",
    "--from seq:500 --to seq:1700",
    "--from episode:77 --to episode:80",
    "--from step:900 --to step:1100",
    "--from time:2026-09-21T14:13:21.5Z",
    "--from end-100",
    "--from best --to best",
    "--from latest-7",
    "--from worst --to episode:3",
    "--from offset:episodes:PART:200 --to offset:episodes:PART:300",
]


def test_sql_gives_what_kafka_gave(database: Settings, here: Here, subtests: pytest.Subtests) -> None:
    """Replay from SQL prints the bytes that replay from Kafka prints, for the whole run and each window.

    The same holds once Kafka has deleted the records, before and after the rows have seek points.
    """
    mine = lines_of("r", "s1", EPISODES) + lines_of("r", "s2", EPISODES // 2, every=1_500)
    send(database, mine)
    whole = golden(database, "r")
    engine = store(database, len(mine))
    part = partition_of(engine)
    from_kafka = {}
    for words in WINDOWS:
        arguments = words.replace("PART", str(part)).split()
        with subtests.test(words):
            from_kafka[words] = here("r", "--source", "kafka", *arguments).stdout
            done = here("r", *arguments)
            assert done.returncode == 0, done.stderr
            assert b" from SQL" in done.stderr
            assert b" from Kafka" not in done.stderr
            assert done.stdout == from_kafka[words] != b""
    assert from_kafka[""] == whole
    points = stored_points(engine)
    with engine.begin() as connection:
        connection.execute(delete(SeekPointRow))
        connection.execute(UnindexedRun.__table__.insert(), [{"run_id": "r"}])
    for kind in (Kind.STEPS, Kind.EPISODES):
        forget(database, kind)
    assert here("r").stdout == whole
    assert index_runs(engine) == 1
    assert stored_points(engine) == points
    assert here("r", "--from", "end-100").stdout == from_kafka["--from end-100"]


def partition_of(engine: Engine) -> int:
    """The partition that holds the run's episodes."""
    with engine.connect() as connection:
        found: int = connection.exec_driver_sql("SELECT min(topic_partition) FROM episodes").scalar_one()
    return found


def stored_points(engine: Engine) -> list[Any]:
    """All seek points."""
    table = SeekPointRow.__table__
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(table.select().order_by(*table.primary_key.columns))]  # type: ignore[attr-defined]


def test_what_sql_lacks_comes_from_kafka(topics: Settings, here: Here) -> None:
    """Lines that SQL lacks come from Kafka, each once and in order, also those of a new stream."""
    mine = lines_of("r", "s1", 300)
    send(topics, mine[:1000])
    store(topics, 1000)
    send(topics, mine[900:] + lines_of("r", "s2", 3))
    done = here("r")
    assert (done.returncode, done.stdout.count(b"\n")) == (0, len(mine) + 18)
    assert b"1,000 from SQL, 521 from Kafka" in done.stderr
    only = here("r", "--stream", "s1")
    assert only.stdout == golden(topics, "r", "s1")
    late = here("r", "--stream", "s1", "--from", "seq:1400", "--to", "step:1150")
    assert late.returncode == 0, late.stderr
    assert late.stdout in only.stdout


def test_lines_that_retention_took_are_said(topics: Settings, here: Here, home: Path) -> None:
    """Replay says how many lines retention deleted, and refuses to begin a copy that would lack them."""
    mine = lines_of("r", "s1", 20)
    send(topics, mine)
    forget(topics, Kind.EPISODES)
    done = here("r")
    assert (done.returncode, done.stdout.count(b"\n")) == (0, len(mine) - 20)
    assert b"20 lines are in neither source" in done.stderr
    copy = home / "copy.db"
    refused = here("r", "--output", f"sql:sqlite:///{copy}")
    assert (refused.returncode, copy.exists()) == (1, False)
    assert b"20 lines of that part are in neither SQL nor Kafka" in refused.stderr
    allowed = here("r", "--output", f"sql:sqlite:///{copy}", "--allow-missing")
    assert (allowed.returncode, copy.exists()) == (0, True)
    assert b"83 rows are new" in allowed.stderr


def test_a_run_that_trains_ends_at_its_first_missing_line(topics: Settings, here: Here) -> None:
    """Replay of a running run ends before the first missing line, whether it reads SQL or Kafka."""
    mine = lines_of("r", "s1", 4)
    hole = mine.pop(10)
    assert hole[1]["seq"] == 11
    send(topics, mine)
    for source in ("kafka", "sql"):
        done = here("r", "--source", "kafka" if source == "kafka" else "auto")
        assert (done.returncode, done.stdout.count(b"\n")) == (0, 10)
        assert b"ends before line 11 of stream s1" in done.stderr
        store(topics, len(mine) if source == "kafka" else 0)
    send(topics, [hole])
    assert here("r").stdout == golden(topics, "r")


def test_nothing_is_touched_before_all_is_checked(topics: Settings, here: Here, home: Path) -> None:
    """For an unknown run, or a part that does not exist, no topic and no database is made."""
    send(topics, lines_of("r", "s1", 2))
    copy, topic = home / "deep" / "copy.db", f"{topics.topic_prefix}copy"
    for run, part in (
        ("nosuch", []),
        ("r", ["--from", "episode:9"]),
        ("r", ["--from", "seq:5", "--to", "seq:4"]),
        ("r", ["--from", "end", "--to", "beginning"]),
    ):
        for output in (f"topic:{topic}", f"sql:sqlite:///{copy}", "dashboard"):
            done = here(run, *part, "--output", output)
            assert done.returncode in (1, 2), output
            assert len(done.stderr.splitlines()) == 1
    assert not copy.parent.exists()
    assert topic not in kafka.admin(topics).list_topics(timeout=10).topics


def test_targets_are_safe(topics: Settings, here: Here, home: Path) -> None:
    """Replay refuses topics and a database that are read, and existing topics without `--append`."""
    send(topics, lines_of("r", "s1", 2))
    copy = f"topic:{topics.topic_prefix}copy"
    first = here("r", "--output", copy)
    assert first.returncode == 0
    assert b"13 records played" in first.stderr
    wrong = {
        "topic:other.steps": b"one of the topics that are read",
        "topic:a/b": b"no name of a topic",
        copy: b"is there already",
        "sql:nope": b"--output sql:nope",
        f"sql:{topics.sql_url}": b"the database that is read",
    }
    for output, says in wrong.items():
        done = here("r", "--output", output)
        assert done.returncode == 2, output
        assert says in done.stderr
        assert b"STEPSTREAM_DATABASE_URL" not in done.stderr
    assert here("r", "--output", copy, "--append").returncode == 0
    with Path("/dev/full").open("wb") as full:
        program = Path(main.__file__).parents[1] / ".venv" / "bin" / "stepstream"
        done = subprocess.run([program, "replay", "r"], stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 1
    assert done.stderr == b"stepstream: The output cannot be written: No space left on device.\n"


def test_a_deleted_run_is_not_played_by_accident(topics: Settings, here: Here) -> None:
    """The records that Kafka still holds of a deleted run are played only with `--source kafka`."""
    send(topics, lines_of("r", "s1", 2))
    engine = store(topics, 13)
    runs.remove(engine, "r", lambda: datetime.now(UTC))
    assert stored_points(engine) == []
    done = here("r")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"was deleted" in done.stderr
    assert here("r", "--source", "kafka").stdout.count(b"\n") == 13


def test_the_pace_is_kept_over_the_seam(topics: Settings, spawn_cli: Callable[..., Any]) -> None:
    """A quarter of the pace is kept for lines that exist and for lines that are sent during the replay."""
    mine = lines_of("r", "s1", 7, every=50_000)[:35]
    send(topics, mine[:10])
    began = time.monotonic()
    child = spawn_cli("replay", "r", "--speed", "0.25", "--follow", "--to", "seq:30")
    send(topics, mine[10:])
    assert child.wait(60) == 0
    lines = [line for line in child.log.read_text().splitlines() if line.startswith("{")]
    assert len(lines) == 30
    assert time.monotonic() - began >= 5.0


def test_one_agent_is_played(topics: Settings, here: Here) -> None:
    """`--agent` plays the records of one agent, and positions count its steps alone."""
    mine = []
    for seq in range(1, 41):
        own = {"seq": seq, "stream_id": "s1", "agent_id": "xy"[seq % 2], "event_time": START + seq}
        mine.append((Kind.STEPS, record(Kind.STEPS, "r", episode_index=seq // 20, **own)))
    send(topics, mine)
    done = here("r", "--agent", "x", "--from", "episode:1+2", "--to", "end-1")
    assert done.returncode == 0, done.stderr
    agents = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["agent_id"] for event in agents} == {"x"}
    assert [event["ts"][-4:-1] for event in agents] == [f"{seq:03}" for seq in range(24, 41, 2)]


def test_null_only_counts(topics: Settings, here: Here) -> None:
    """`--output null` prints only how many records were played, and from which source."""
    send(topics, lines_of("r", "s1", 2))
    done = here("r", "--output", "null")
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"13 records played; 13 from Kafka" in done.stderr


def test_rollouts_and_tokens_come_from_sql(database: Settings, here: Here, home: Path) -> None:
    """A copy has the original's rollouts, tokens and training steps, also once Kafka has deleted them."""
    lines = lines_of("r", "s1", 8)
    for kind, fields in list(lines):
        if kind is Kind.EPISODES:
            seq, at = fields["seq"], fields["event_time"]
            own = {"stream_id": "s1", "event_time": at, "training_step": seq // 10, "group_id": "g"}
            told = own | {
                "reward": seq / 10,
                "rewards": '{"right": {"value": 1, "weight": 0.5}}',
                "split": "train",
            }
            lines.append((Kind.ROLLOUTS, events.record(Kind.ROLLOUTS, seq, run_id="r", **told)))
            lines.append((Kind.TOKENS, events.record(Kind.TOKENS, seq, run_id="r", **own, trained=1)))
    send(database, lines)
    engine = store(database, len(lines))
    copied = {}
    for kept in (True, False):
        if not kept:
            for kind in (Kind.ROLLOUTS, Kind.TOKENS, Kind.EPISODES):
                forget(database, kind)
        url = f"sqlite:///{home / f'copy-{kept}.db'}"
        done = here("r", "--output", f"sql:{url}")
        assert done.returncode == 0, done.stderr
        sources = b"59 from Kafka" if kept else b"24 from SQL, 35 from Kafka"
        assert b"59 records played; " + sources in done.stderr
        copied[kept] = _rollout_rows(sql.engine(replace(database, database_url=url)))
    original = _rollout_rows(engine)
    assert len(original) == 8 + 8 + 5
    assert copied[True] == copied[False] == original
    topic = f"{database.topic_prefix}copy"
    assert here("r", "--output", f"topic:{topic}").returncode == 0
    assert here("r", "--source", "sql", "--output", "null").returncode == 0


def _rollout_rows(engine: Engine) -> list[Any]:
    """Rollouts, tokens and training steps."""
    found: list[Any] = []
    with engine.connect() as connection:
        for name in ("rollouts", "tokens", "training_steps"):
            table = Base.metadata.tables[name]
            rows = connection.execute(table.select().order_by(*table.primary_key.columns))
            found += [tuple(row) for row in rows]
    return found
