"""A run is played into another topic, another database and the dashboard."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dashboard.live.buffer import LiveBuffer
from infra.kafka import client as kafka
from infra.kafka import topics
from infra.settings import Settings
from schemas.topics import Kind
from tests.support.records import Sender, record, step

Cli = Callable[..., subprocess.CompletedProcess[str]]
SECOND = 1_000_000
START = 1_790_000_000 * SECOND


@pytest.fixture
def run(settings: Settings) -> str:
    """A run on Kafka: started, 40 steps a second apart in 4 episodes, a picture, a log line, completed."""
    topics.ensure_topics(settings)
    sender = Sender(settings)
    steps, episodes = [], []
    for number in range(4):
        first = number * 11 + 1
        at = START + first * SECOND
        steps += [
            step(first + i, "walk", episode_index=number, step_index=i, event_time=at + i * SECOND)
            for i in range(10)
        ]
        ended = {"episode_index": number, "episode_return": 10.0, "episode_length": 10}
        episodes.append(record(Kind.EPISODES, "walk", seq=first + 10, event_time=at + 10 * SECOND, **ended))
    meta = {"run_id": "walk", "stream_id": "s-walk.meta"}
    sender.send(Kind.RUNS, [record(Kind.RUNS, seq=1, event_time=START, event="run_started", **meta)])
    sender.send(Kind.STEPS, steps)
    sender.send(Kind.STEPS, steps[-5:])
    sender.send(Kind.EPISODES, episodes)
    sender.send(Kind.LOGS, [record(Kind.LOGS, "walk", seq=45, event_time=START + 45 * SECOND, line="bye")])
    picture = {"media_type": "image/png", "data": b"png", "event_time": START + SECOND}
    sender.send(Kind.FRAMES, [record(Kind.FRAMES, "walk", seq=1, **picture)])
    end = record(Kind.RUNS, seq=2, event_time=START + 46 * SECOND, event="run_completed", **meta)
    sender.send(Kind.RUNS, [end])
    return "walk"


def test_another_database_holds_the_run_once(run: str, run_cli: Cli, home: Path) -> None:
    """Replay into a database makes its tables, rows and rollups; a second replay changes nothing."""
    url = f"sqlite:///{home / 'elsewhere' / 'copy.db'}"
    for _ in range(2):
        done = run_cli("replay", run, "--output", f"sql:{url}")
        assert done.returncode == 0, done.stderr
    shown = run_cli("runs", "show", run, "--json", env={"STEPSTREAM_DATABASE_URL": url})
    row = json.loads(shown.stdout)
    assert (row["status"], row["steps"], row["episodes"], row["logs"]) == ("completed", 40, 4, 1)
    with sqlite3.connect(home / "elsewhere" / "copy.db") as database:
        query = "SELECT count(*), count(DISTINCT seq), sum(reward) FROM steps WHERE run_id = 'walk'"
        assert database.execute(query).fetchone() == (40, 40, 40.0)


def test_a_part_of_a_run_goes_into_a_database(run: str, run_cli: Cli, home: Path) -> None:
    """`--from` and `--to` also select what goes into a database."""
    url = f"sqlite:///{home / 'part.db'}"
    done = run_cli("replay", run, "--from", "episode:2", "--to", "episode:2", "--output", f"sql:{url}")
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(home / "part.db") as database:
        assert database.execute("SELECT min(seq), max(seq) FROM steps").fetchone() == (23, 32)


def test_another_topic_holds_the_records_in_order(run: str, run_cli: Cli, settings: Settings) -> None:
    """Replay makes another topic, and writes each record to it once, under the run's key."""
    name = f"{settings.topic_prefix}copy"
    done = run_cli("replay", run, "--output", f"topic:{name}")
    assert done.returncode == 0, done.stderr
    consumer = kafka.consumer(settings, "test")
    consumer.subscribe([name])
    found: list[Any] = []
    until = time.monotonic() + 30
    while len(found) < 48 and time.monotonic() < until:
        found += consumer.consume(100, timeout=0.2)
    consumer.close()
    assert len(found) == 48
    assert {message.key() for message in found} == {b"walk"}
    assert len({message.value() for message in found}) == 48


def test_our_own_topics_are_no_place_to_play_to(run: str, run_cli: Cli, settings: Settings) -> None:
    """A topic that stepstream reads is refused as output, as the run would feed itself."""
    done = run_cli("replay", run, "--output", f"topic:{settings.topic_prefix}steps")
    assert done.returncode == 2
    assert "one of the topics that are read" in done.stderr


@pytest.fixture
def buffer(settings: Settings) -> LiveBuffer:
    """The reader of the live buffer that the dashboard uses."""
    return LiveBuffer(settings)


def test_the_dashboard_shows_a_run_of_its_own(run: str, run_cli: Cli, buffer: LiveBuffer) -> None:
    """The dashboard shows a replay as another run, with the counts of the run and the times of the replay."""
    done = run_cli("replay", run, "--output", "dashboard", "--speed", "max")
    assert done.returncode == 0, done.stderr
    assert "Plays as walk@replay-" in done.stderr
    [row] = asyncio.run(all_runs(buffer))
    assert row.run_id.startswith("walk@replay-")
    assert (row.status, row.steps, row.episodes) == ("completed", 40, 4)
    assert abs(row.last_seen_at / 1000 - time.time()) < 60


async def all_runs(buffer: LiveBuffer) -> list[Any]:
    """Rows of the list of runs."""
    try:
        return list(await buffer.runs())
    finally:
        await buffer.close()


def test_the_dashboard_sees_it_at_the_runs_own_pace(
    run: str, spawn_cli: Callable[..., Any], settings: Settings
) -> None:
    """With `--speed 30` the steps appear on the dashboard little by little."""
    child = spawn_cli("replay", run, "--output", "dashboard", "--speed", "30")
    seen: set[int] = set()
    until = time.monotonic() + 30
    while child.poll() is None and time.monotonic() < until:
        rows = asyncio.run(all_runs(LiveBuffer(settings)))
        seen |= {row.steps for row in rows}
        time.sleep(0.1)
    assert child.returncode == 0
    assert len(seen & set(range(1, 40))) >= 3
