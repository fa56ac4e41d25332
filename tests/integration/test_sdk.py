"""A worker with the SDK, on a real Kafka: alone and below `stepstream run`, every event once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings
from producers.spool.format import About
from schemas.topics import META_SUFFIX, Kind
from tests.support.processes import wait_for
from tests.support.topics import of_stepstream, of_workers, places, read_topics

RunCli = Callable[..., subprocess.CompletedProcess[str]]

WORKER = """
import multiprocessing, os, sys
import stepstream

def sample(run, number):
    for _ in range(100):
        run.step(reward=1.0, agent_id=f"w{number}", loss=0.5, t=7)

if __name__ == "__main__":
    print("hello from the worker")
    run = stepstream.init(config={"lr": 0.1})
    for number in range(300):
        run.step(reward=1.0, terminated=number % 100 == 99, frame=lambda: [[[1, 2, 3]] * 8] * 8)
    workers = [multiprocessing.get_context("fork").Process(target=sample, args=(run, n)) for n in range(2)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    run.log({"loss": float("nan"), "return": 3.0}, step=300)
    sys.exit(3) if "fail" in sys.argv else run.finish()
"""

ENDLESS = """
import time, stepstream
run = stepstream.init()
while True:
    run.step(reward=1.0)
    time.sleep(0.01)
"""


def _check(settings: Settings) -> dict[Kind, list[dict[str, Any]]]:
    """Every event once: 500 steps, 3 episodes, one of metrics; returns the records by topic."""
    found = of_workers(read_topics(settings))
    assert len(set(places(found))) == len(found)
    by_kind: dict[Kind, list[dict[str, Any]]] = {}
    for item in found:
        by_kind.setdefault(item.kind, []).append(item.record)
    assert len(by_kind[Kind.STEPS]) == 500
    assert [record["episode_return"] for record in by_kind[Kind.EPISODES]] == [100.0] * 3
    (metrics,) = by_kind[Kind.METRICS]
    assert metrics["global_step"] == 300
    assert json.loads(metrics["metrics"])["return"] == 3.0
    sampled = [record for record in by_kind[Kind.STEPS] if record["agent_id"] == "w0"]
    assert [record["step_index"] for record in sampled] == list(range(100))
    assert json.loads(sampled[0]["metrics"]) == {"loss": 0.5, "t": 7}
    assert read_topics(settings, [Kind.FRAMES])
    assert Kind.DLQ not in by_kind
    assert len({record["run_id"] for records in by_kind.values() for record in records}) == 1
    return by_kind


def test_below_run(settings: Settings, run_cli: RunCli) -> None:
    """`run` ships the streams of its worker and of the worker's workers, and counts them."""
    command = ["run", "--run-id", "given", "--json", "--", sys.executable, "-c", WORKER]
    done = run_cli(*command)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stderr.splitlines()[-1])
    assert (said["steps"], said["episodes"], said["metrics"], said["logs"]) == (500, 3, 1, 1)
    assert said["run_ids"] == ["given"]
    records = _check(settings)
    assert {record["run_id"] for record in records[Kind.RUNS]} == {"given"}


def test_alone(settings: Settings, spawn_cli: Callable[..., Any], run_cli: RunCli) -> None:
    """Without any service the lines wait in the spool, and `forward` ships them once it is started."""
    done = subprocess.run([sys.executable, "-c", WORKER], env=os.environ, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    spawn_cli("forward")
    wait_for(lambda: len(of_workers(read_topics(settings, [Kind.STEPS]))) >= 500, 60)
    _check(settings)


def test_a_worker_that_fails_is_a_failed_run(settings: Settings, run_cli: RunCli) -> None:
    """The exit code is the worker's, and both the SDK and `run` say that it failed."""
    done = run_cli("run", "--", sys.executable, "-c", WORKER, "fail")
    assert done.returncode == 3
    _check(settings)
    ends = [
        json.loads(item.record["payload"])["status"]
        for item in [*of_workers(read_topics(settings)), *of_stepstream(read_topics(settings))]
        if item.kind is Kind.RUNS and "status" in (item.record["payload"] or "")
    ]
    assert set(ends) == {"failed"}


@pytest.mark.parametrize("killed", ["worker", "run"])
@pytest.mark.parametrize("forward", ["beside", "later"])
def test_run_alone_says_how_a_killed_worker_ended(
    forward: str, killed: str, settings: Settings, spawn_cli: Callable[..., Any]
) -> None:
    """`forward` does not call the run lost whose end `run` has written, however long ago."""
    if forward == "beside":
        spawn_cli("forward")
    run = spawn_cli("run", "--run-id", "given", "--", sys.executable, "-c", ENDLESS)
    wait_for(lambda: of_workers(read_topics(settings, [Kind.STEPS])), 60)
    (pid,) = {About.read(folder).pid for folder in settings.spool_dir.glob("*.*") if _is_workers(folder)}
    os.kill(pid, signal.SIGKILL) if killed == "worker" else run.terminate()
    run.wait(30)
    if forward == "later":
        spawn_cli("forward", env={"STEPSTREAM_SPOOL_RETENTION_HOURS": "0"})
    wait_for(lambda: all((folder / "done").exists() for folder in settings.spool_dir.iterdir()), 60)
    written = [file.read_text().splitlines() for file in settings.spool_dir.glob("*.meta/*.jsonl")]
    events = [json.loads(line)["event"] for lines in written for line in lines]
    ends = [event for event in events if event not in ("run_started", "heartbeat")]
    assert ends == ["run_failed" if killed == "worker" else "run_cancelled"]


def _is_workers(folder: Path) -> bool:
    return not folder.name.endswith(META_SUFFIX)
