"""Training goes on while the broker is killed, the forwarder frozen and the disk full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.embedded.kafka import KafkaServer
from infra.kafka import topics
from infra.settings import load
from schemas.topics import Kind
from tests.support.events import until
from tests.support.topics import places, read_topics

Spawn = Callable[..., Any]

LOOP = """
import os, sys, time
import stepstream
from stepstream.rollouts import log_rollout

folder = sys.argv[1]
there = lambda name: os.path.exists(os.path.join(folder, name))
number = 0
with stepstream.init(run_id="r") as run:
    while not there("stop"):
        log_rollout("?" * 500, "!" * 500, rewards={"right": 1.0}, sample=number, step=0, run=run)
        number += 1
        with open(os.path.join(folder, "count"), "w") as file:
            file.write(str(number))
        time.sleep(0.005)
    while run._writer._pending or run._rows:
        time.sleep(0.05)
"""


def test_training_goes_on_when_every_server_is_dead(
    own_kafka: KafkaServer, tiny_disk: Path, tmp_path: Path, spawn_cli: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on through all outages, and afterwards each rollout is in Kafka once."""
    monkeypatch.setenv("STEPSTREAM_SPOOL_DIR", str(tiny_disk / "spool"))
    monkeypatch.setenv("STEPSTREAM_SPOOL_SEGMENT_BYTES", "65536")
    settings = load()
    topics.ensure_topics(settings)
    forward = spawn_cli("forward")
    count, said = tmp_path / "count", tmp_path / "said"
    with said.open("w") as file:
        training = subprocess.Popen([sys.executable, "-c", LOOP, str(tmp_path)], stderr=file)

    def logged() -> int:
        return int(count.read_text() or 0) if count.exists() else 0

    def goes_on(steps: int) -> None:
        before = logged()
        until(lambda: training.poll() is not None or logged() > before + steps)
        assert training.poll() is None

    def full() -> bool:  # not "no block is free": what does not fit as a whole is taken back
        return "the spool cannot be written" in said.read_text()

    goes_on(20)
    own_kafka.kill()
    goes_on(20)
    os.killpg(forward.pid, signal.SIGSTOP)
    until(lambda: training.poll() is not None or full())
    goes_on(100)
    subprocess.run(["mount", "-o", "remount,size=64m", str(tiny_disk)], check=True)
    own_kafka.start()
    os.killpg(forward.pid, signal.SIGCONT)
    goes_on(100)
    (tmp_path / "stop").touch()
    assert training.wait(timeout=60) == 0, said.read_text()
    assert "dropped:" not in said.read_text()
    until(lambda: len(read_topics(settings, [Kind.ROLLOUTS])) >= logged())
    found = read_topics(settings, [Kind.ROLLOUTS])
    assert {item.record["sample_id"] for item in found} == {str(number) for number in range(logged())}
    assert max(places(found).values()) == 1
