"""The whole path of a step through a cluster's servers in containers: Apache Kafka, PostgreSQL, Redis."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import create_engine, text

from infra.embedded.ports import free_ports
from tests.support import containers

pytestmark = [pytest.mark.docker, pytest.mark.slow]

WORKER = """
import json, sys
print("warming up")
print(json.dumps({"type": "run_started", "env_id": "Corridor-v0", "algorithm": "walk"}))
for episode in range(40):
    for step in range(25):
        print(json.dumps({"type": "step", "episode_index": episode, "step_index": step, "action": step % 2,
                          "observation": [episode, step], "reward": step / 8, "epsilon": 0.5,
                          "agent_id": "even" if episode % 2 == 0 else "odd"}))
    print(json.dumps({"type": "episode", "episode_index": episode, "total_reward": 37.5, "num_steps": 25,
                      "agent_id": "even" if episode % 2 == 0 else "odd"}))
    print(json.dumps({"global_step": (episode + 1) * 25, "loss": 1 / (episode + 1), "agent_id": "even"}))
print('{"type": "step", "rew')
print("careful", file=sys.stderr)
print(json.dumps({"type": "run_completed"}))
"""
COUNTS = {"steps": 1000, "episodes": 40, "metrics": 40, "run_events": 2, "logs": 1, "dead_letters": 1}

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """Addresses of the servers, as settings."""
    with containers.cluster() as addresses:
        yield addresses


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    """The first answer that is true."""
    until = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < until, "no true answer in time"
        time.sleep(0.2)
    return answer


def test_every_line_of_a_worker_is_in_sql_in_redis_and_on_the_page(
    cluster: dict[str, str],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_cli: Cli,
    spawn_cli: Callable[..., Any],
) -> None:
    """After two commands of setup, PostgreSQL, Redis, the page and Kafka have the lines of `run`."""
    [port] = free_ports([None])
    for name, value in (cluster | {"STEPSTREAM_DASHBOARD_PORT": str(port)}).items():
        monkeypatch.setenv(name, value)
    assert run_cli("topics", "create").returncode == 0
    assert run_cli("db", "upgrade").returncode == 0
    doctor = run_cli("doctor")
    assert doctor.returncode == 0, doctor.stdout
    for service in ("persist", "live", "dashboard"):
        spawn_cli(service)

    done = run_cli("run", "--run-id", "walk-1", "--json", "--", sys.executable, "-c", WORKER)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stderr.splitlines()[-1])
    assert {name: summary[name] for name in COUNTS} == COUNTS
    assert summary["read"] == sum(COUNTS.values())

    shown = wait_for(lambda: completed(run_cli))
    assert {name: shown[name] for name in COUNTS} == COUNTS
    assert (shown["env_id"], shown["algorithm"], shown["agents"]) == ("Corridor-v0", "walk", 2)
    check_steps(cluster["STEPSTREAM_DATABASE_URL"])
    store = redis.Redis.from_url(cluster["STEPSTREAM_REDIS_URL"])  # `live` may join later than `persist`
    assert wait_for(lambda: store.keys("stepstream:*walk-1*"))
    assert wait_for(lambda: answered(f"http://127.0.0.1:{port}/")) == 200
    assert replayed(run_cli) == [line for line in emitted() if line.startswith('{"type": "step", "epi')]


def answered(url: str) -> int:
    """HTTP status; 0 while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return int(page.status)
    except OSError:
        return 0


def completed(run_cli: Cli) -> dict[str, Any] | None:
    """The run as SQL has it, once it is whole."""
    done = run_cli("runs", "show", "walk-1", "--json")
    shown: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    whole = shown.get("status") == "completed" and shown["steps"] == COUNTS["steps"]
    return shown if whole and shown["episodes"] == COUNTS["episodes"] else None


def emitted() -> list[str]:
    """What the worker prints."""
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def check_steps(database_url: str) -> None:
    """Each row of `steps` says what its line said; `seq` is the line's number."""
    lines = emitted()
    with create_engine(database_url).connect() as connection:
        query = text("SELECT * FROM steps WHERE run_id = 'walk-1' ORDER BY seq")
        rows = connection.execute(query).mappings().all()
    assert len(rows) == COUNTS["steps"]
    for row in rows:
        line = json.loads(lines[row["seq"] - 1])
        same = ("episode_index", "step_index", "action", "observation", "reward", "agent_id")
        assert {name: row[name] for name in same} == {name: line[name] for name in same}
        assert row["metrics"] == {"epsilon": 0.5}


def replayed(run_cli: Cli) -> list[str]:
    """The steps of the run as replay gives them, in the worker's own words."""
    done = run_cli("replay", "walk-1", "--from", "beginning", "--output", "jsonl")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == sum(COUNTS.values())
    assert lines[0] == "warming up"
    assert lines[-2] == '{"type": "step", "rew'
    events = [json.loads(line) for line in lines if line[-1] == "}"]
    names = ("type", "episode_index", "step_index", "action", "observation", "reward")
    steps = [event for event in events if event.get("type") == "step"]
    return [
        json.dumps({name: step[name] for name in names} | step["metrics"] | {"agent_id": step["agent_id"]})
        for step in steps
    ]
