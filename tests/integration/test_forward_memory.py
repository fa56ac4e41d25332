"""A forwarder's memory depends neither on the size of the spools nor on the length of an outage.

`--outage=600` keeps the broker away for ten minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.embedded.kafka import KafkaServer
from infra.settings import Settings, load
from producers.spool.format import Checkpoint, about_new, now_us
from producers.spool.writer import SpoolWriter
from schemas.topics import META_SUFFIX
from tests.support.topics import numbers_of_streams

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

MOST_BYTES = 150 * 2**20
MOST_LINES = 6_000_000
RATE = 100_000
"""Lines a second; fewer in a long outage, as the disk is limited."""

PRINTS = """
import os, sys, time
rate, stop = float(sys.argv[1]), sys.argv[2]
began, number = time.monotonic(), 0
while not os.path.exists(stop):
    for number in range(number + 1, number + 501):
        print('{"type":"step","episode":%d,"step":%d,"reward":1.5}' % divmod(number, 200), flush=True)
    time.sleep(max(0, number / rate - (time.monotonic() - began)))
"""
LOGS = """
import os, sys, time, stepstream
run = stepstream.init(run_id="sdk")
while not os.path.exists(sys.argv[1]):
    for _ in range(100): run.log({"loss": 0.5})
    time.sleep(0.05)
run.finish()
"""


@pytest.fixture
def broker(home: Path, kafka_jars: list[Path], tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker of this test's own, which comes back at the same address."""
    server = KafkaServer(tmp_path / "kafka", kafka_jars)
    server.start()
    yield server
    server.stop()


class Sizes:
    """Measures the memory of some programs from now on."""

    def __init__(self, **programs: Any) -> None:
        self._processes = {name: psutil.Process(child.pid) for name, child in programs.items()}
        self.seen: dict[str, list[int]] = {name: [] for name in programs}

    def until(self, holds: Callable[[], Any], seconds: float) -> None:
        """Measure until a condition holds."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end
            for name, process in self._processes.items():
                if size := process.memory_info().rss:
                    self.seen[name].append(size)
            time.sleep(0.1)

    def watch(self, seconds: float) -> None:
        """Measure for a number of seconds."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, seconds + 10)

    def check(self) -> None:
        """Assert that none exceeded its limit."""
        for name, sizes in self.seen.items():
            print(f"{name}: {min(sizes) / 2**20:.0f} to {max(sizes) / 2**20:.0f} MiB in {len(sizes)} looks")
            assert max(sizes) < MOST_BYTES


def until(holds: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def lines_of(settings: Settings) -> dict[str, int]:
    """Streams of workers in the spool, and how many lines each has."""
    folders = [path.parent for path in settings.spool_dir.glob("*/stream.json")]
    return {
        folder.name: sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))
        for folder in folders
        if not folder.name.endswith(META_SUFFIX)
    }


def are_placed(settings: Settings, streams: int) -> bool:
    """Whether that many streams have a checkpoint."""
    return len(list(settings.spool_dir.glob("*/place.json"))) >= streams


def are_shipped(settings: Settings, lines: dict[str, int]) -> bool:
    """Whether Kafka has acknowledged that many lines of each stream."""
    return all(Checkpoint.load(settings.spool_dir / name).line == count for name, count in lines.items())


@pytest.mark.faults
def test_a_broker_that_is_away_costs_disk_and_no_memory(
    broker: KafkaServer, spawn_cli: Callable[..., Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """`run` and `forward` stay small during an outage; afterwards every line is on Kafka exactly once."""
    outage = request.config.getoption("--outage")
    environment = {"STEPSTREAM_BOOTSTRAP_SERVERS": broker.address}
    settings = load(os.environ | environment)
    stop = tmp_path / "stop"
    worker = [sys.executable, "-c", PRINTS, str(min(RATE, MOST_LINES / outage)), str(stop)]
    forward = spawn_cli("forward", env=environment)
    sdk = subprocess.Popen([sys.executable, "-c", LOGS, str(stop)])
    run = spawn_cli("run", "--quiet", "--json", "--run-id", "printed", "--", *worker, env=environment)
    try:
        until(lambda: are_placed(settings, 3))
        sizes = Sizes(run=run, forward=forward)
        sizes.watch(3)
        broker.kill()
        sizes.watch(outage)
        broker.start()
        sizes.watch(3)
        stop.touch()
        sizes.until(lambda: run.poll() is not None and sdk.poll() is not None, 600)
        lines = lines_of(settings)
        sizes.until(lambda: are_shipped(settings, lines), 60)
    finally:
        stop.touch()
        sdk.wait(60)
    assert (run.returncode, sdk.returncode) == (0, 0)
    found = {name: found for name, found in numbers_of_streams(settings).items() if META_SUFFIX not in name}
    assert {name: len(numbers) for name, numbers in found.items()} == lines
    assert all(sorted(numbers) == list(range(1, len(numbers) + 1)) for numbers in found.values())
    sizes.check()


def test_many_streams_of_long_lines_are_not_held_at_once(
    broker: KafkaServer, home: Path, spawn_cli: Callable[..., Any]
) -> None:
    """`forward` stays small with 60 streams of long lines, as the bytes of a window are bounded."""
    environment = {"STEPSTREAM_BOOTSTRAP_SERVERS": broker.address}
    settings = load(os.environ | environment)
    line = json.dumps({"type": "step", "observation": [0.123456789 * i for i in range(500)]}).encode() + b"\n"
    for number in range(60):
        about = replace(about_new("sdk", f"r{number}", None), owner=False)
        spool = SpoolWriter(settings, about)
        spool.append(line * 500, now_us())
        spool.finish()
    lines = lines_of(settings)
    sizes = Sizes(forward=spawn_cli("forward", env=environment))
    sizes.until(lambda: are_placed(settings, 60) and are_shipped(settings, lines), 120)
    sizes.check()
