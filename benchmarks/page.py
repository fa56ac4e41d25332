"""The time from a worker's write of a step to the painted DOM, in a real Chromium."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.harness import Row, Unmeasured
from tests.support import needs

PROGRAM = str(Path(sys.executable).with_name("stepstream"))
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SECONDS = 9
WARM_S = 3
FLOOR_MESSAGES, FLOOR_RATE = 120, 20
OTHERS = 19

# A step counts as painted one frame and one task after the page has taken it.
OBSERVE = """() => {
  window.painted = [];
  const agent = document.getElementById("agent");
  new MutationObserver(() => {
    const seq = Number(agent.dataset.seq);
    requestAnimationFrame(() => setTimeout(() => window.painted.push([seq, performance.timeOrigin + performance.now()]), 0));
  }).observe(agent, { attributes: true, attributeFilter: ["data-seq"] });
}"""  # noqa: E501
PAINTED = "(seq) => window.painted.length && window.painted[window.painted.length - 1][0] >= seq"
WORKER = """
import json, sys, time
rate, agents, seconds, out = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
numbers = ", ".join(f'"m{i}": {i}.5' for i in range(4))
line = '{"type": "step", "agent_id": "agent_%d", "episode_index": %d, "step_index": %d, "action": 2, ' \
       '"reward": 0.5, "terminated": false, "truncated": false, "observation": {"row": 3, "col": 1}, '
line += numbers + '}\\n'
wrote, begun = [], time.perf_counter()
for i in range(int(rate * seconds)):
    due = begun + i / rate
    while (left := due - time.perf_counter()) > 0:
        time.sleep(min(left, 0.001))
    text = line % (i % agents, i // agents // 200, i // agents % 200)
    wrote.append(time.time_ns())
    sys.stdout.write(text)
    sys.stdout.flush()
json.dump(wrote, open(out, "w"))
"""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the write of a step to its paint."""

    p50: float
    p99: float
    shown: int
    """Deltas that were painted."""


class Bench:
    """A browser, and `stepstream up` with a home of its own."""

    def __init__(self, folder: Path, browser: Any) -> None:
        self.folder, self.browser = folder, browser
        self.env = os.environ | {"STEPSTREAM_HOME": str(folder)}
        self.port, self.floor_port = _free_port(), _free_port()
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the whole stack, and the floor's server on the same Kafka and Redis."""
        self._spawn([PROGRAM, "up", "--port", str(self.port)], "up")
        _until(lambda: _answers(f"http://127.0.0.1:{self.port}/healthz"), 180)
        stack = json.loads((self.folder / "stack.json").read_text())
        self.kafka, self.redis = stack["bootstrap_servers"], stack["redis_url"]
        admin = AdminClient({"bootstrap.servers": self.kafka})
        admin.create_topics([NewTopic("floor", 1, 1)])["floor"].result(20)
        arguments = [self.kafka, self.redis, "floor", str(self.floor_port)]
        self._spawn([sys.executable, "-m", "benchmarks.floor", *arguments], "floor")
        _until(lambda: _answers(f"http://127.0.0.1:{self.floor_port}/"), 60)

    def stop(self) -> None:
        """End every process that was started."""
        for process in reversed(self._started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()

    def _spawn(self, command: list[str], name: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self._started.append(subprocess.Popen(command, env=self.env, stdout=log, stderr=log))

    def floor(self, rate: int = FLOOR_RATE, count: int = FLOOR_MESSAGES) -> Latency:
        """Measure `count` messages, `rate` a second, while nothing else runs."""
        page = self.browser.new_page()
        page.goto(f"http://127.0.0.1:{self.floor_port}/")
        page.wait_for_timeout(3000)  # until the consumer has its partition
        producer = Producer({"bootstrap.servers": self.kafka, "linger.ms": 0, "log_level": 0})
        wrote, begun = [], time.perf_counter()
        for number in range(count):
            if (left := begun + number / rate - time.perf_counter()) > 0:
                time.sleep(left)
            wrote.append(time.time_ns())
            producer.produce("floor", str(number).encode())
            producer.poll(0)
        producer.flush(5)
        page.wait_for_timeout(500)
        found = _latency(page.evaluate("window.painted"), wrote, range(count // 4, count))
        page.close()
        return found

    def streaming(self, rate: int, agents: int = 1, viewers: int = 1, others: int = 0) -> Latency:
        """Measure a worker of `rate` steps a second, with one agent's tab open in `viewers` pages.

        Args:
            others: further viewers without a browser, which cost the server as much as a page.
        """
        run_id, out = f"bench-{rate}-{agents}-{viewers}-{time.time_ns()}", self.folder / "wrote.json"
        worker = self.folder / "worker.py"
        worker.write_text(WORKER)
        contexts = [self.browser.new_context(viewport={"width": 1280, "height": 720}) for _ in range(viewers)]
        pages = [context.new_page() for context in contexts]
        for page in pages:
            page.goto(f"http://127.0.0.1:{self.port}/runs/{run_id}?agent=agent_0")
            page.wait_for_selector("#agent", state="attached")  # nothing is shown before the first event
            page.evaluate(OBSERVE)
        elsewhere = self._elsewhere(run_id, others) if others else None
        arguments = [str(rate), str(agents), str(SECONDS + WARM_S), str(out)]
        command = [
            PROGRAM,
            "run",
            "--quiet",
            "--run-id",
            run_id,
            "--",
            sys.executable,
            str(worker),
            *arguments,
        ]
        running = subprocess.Popen(
            command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        running.wait(SECONDS * 4 + 60)
        wrote = json.loads(out.read_text())
        mine = range(WARM_S * rate // agents * agents, len(wrote), agents)
        for page in pages:
            page.wait_for_function(PAINTED, arg=mine[-1] + 1, timeout=60_000)
        painted = [page.evaluate("window.painted") for page in pages]
        for context in contexts:
            context.close()
        if elsewhere is not None and int(elsewhere.communicate()[0]) < others * SECONDS:
            raise Unmeasured("the viewers elsewhere got less than a delta a second")
        each = [_latency([[seq - 1, at] for seq, at in one], wrote, mine) for one in painted]
        return Latency(max(e.p50 for e in each), max(e.p99 for e in each), sum(e.shown for e in each))

    def _elsewhere(self, run_id: str, count: int) -> subprocess.Popen[str]:
        url = f"ws://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "benchmarks.viewers", url, run_id, "agent_0", str(count)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _latency(painted: list[list[float]], wrote: list[int], mine: range) -> Latency:
    """Compute the latency of each line, which is painted with the first delta that reaches it."""
    lines = np.array([line for line, _ in painted])
    times = np.maximum.accumulate(np.array([at for _, at in painted]))
    found = np.searchsorted(np.maximum.accumulate(lines), np.array(mine))
    known = found < len(times)
    late = times[found[known]] - np.array(wrote)[np.array(mine)][known] / 1e6
    return Latency(float(np.percentile(late, 50)), float(np.percentile(late, 99)), len(painted))


@contextmanager
def _bench() -> Iterator[Bench]:
    from playwright.sync_api import sync_playwright

    if missing := needs.chromium():
        raise Unmeasured(missing)
    with tempfile.TemporaryDirectory(prefix="stepstream-page-") as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=needs.chromium_path(), args=FLAGS)
        bench = Bench(Path(folder), browser)
        try:
            bench.start()
            yield bench
        finally:
            browser.close()
            bench.stop()


@functools.cache
def _measured() -> dict[str, Latency]:
    """Measure everything in one run, with the floor at its beginning and at its end."""
    with _bench() as bench:
        first = bench.floor()
        found = {
            "1,000": bench.streaming(1000),
            "rate": bench.floor(1000, 6000),
            "10,000": bench.streaming(10_000, agents=1000),
            "viewers": bench.streaming(1000, others=OTHERS),
            "crowd": bench.streaming(1000, viewers=OTHERS + 1),
        }
        last = bench.floor()
    floor = Latency((first.p50 + last.p50) / 2, (first.p99 + last.p99) / 2, first.shown + last.shown)
    return {"floor": floor, "first": first, "last": last} | found


def _row(what: str, key: str, percentile: str, goal: str) -> Row:
    found = _measured()
    floors = [getattr(found[name], percentile) for name in ("first", "last")]
    value, busy = getattr(found[key], percentile), getattr(found["rate"], percentile)
    return Row(
        what=f"worker's write to painted DOM, {what}, {percentile}",
        rate=value,
        unit="ms",
        limit=getattr(found["floor"], percentile),
        limit_name="floor",
        spread=(max(floors) - min(floors)) / (sum(floors) / 2),
        goal=goal,
        lower_is_better=True,
        note=f"{value / busy:.1f} × the same floor at 1,000 messages/s ({busy:.3g}); "
        f"{found[key].shown} deltas painted; spread is the floor's, before and after",
    )


def p50_at_1000() -> Row:
    """Measure the p50 at 1,000 steps/s."""
    return _row("1,000 steps/s", "1,000", "p50", "≤ 2 × floor, ≤ 50 ms")


def p99_at_1000() -> Row:
    """Measure the p99 at 1,000 steps/s."""
    return _row("1,000 steps/s", "1,000", "p99", "≤ 4 × floor, ≤ 250 ms")


def p99_at_10000() -> Row:
    """Measure the p99 at 10,000 steps/s over 1,000 agents, with one tab open."""
    return _row("10,000 steps/s of 1,000 agents", "10,000", "p99", "≤ 8 × floor")


def p99_of_20_viewers() -> Row:
    """Measure the p99 of this page at 1,000 steps/s, beside 19 viewers that take a delta a frame."""
    return _row("1,000 steps/s, 20 viewers", "viewers", "p99", "≤ 8 × floor")


def p99_of_20_pages() -> Row:
    """Measure the p99 of the slowest of 20 pages in one browser beside the server."""
    return _row("1,000 steps/s, 20 pages on this machine", "crowd", "p99", "≤ 8 × floor, where cores suffice")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Unmeasured("the stack did not come up in time")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
