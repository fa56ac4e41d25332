"""Memory during hours of training: all its steps are played fast, with a live tab open in a Chromium.

The default is one hour of training; `STEPSTREAM_BENCH_HOURS=8` plays a working day and takes longer. And what
pages leave behind that are opened and closed.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import redis as redis_client

from benchmarks.harness import Row, Unmeasured
from benchmarks.page import FLAGS, PROGRAM, Bench
from tests.support import needs

STEPS_PER_HOUR = 360_000
"""The steps of a training that makes a hundred a second."""
HOURS = float(os.environ.get("STEPSTREAM_BENCH_HOURS", "1"))
RATE = 15_000
SAMPLE_MS = 1000
MIB = 2**20
SILENT: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
RENDERER = "--type=renderer"
PAGES, TIMES = 20, 100
STEPPED = "() => document.getElementById('agent')?.dataset.seq > 0"
CLOSED_S = 2.0
"""The time within which the server knows that pages are gone."""

WORKER = """
import json, sys, time
rate, count = int(sys.argv[1]), int(sys.argv[2])
picture = json.dumps({"mode": "rgb", "rgb": [[[x * 30, y * 30, 90] for x in range(8)] for y in range(8)]})
begun = time.perf_counter()
for i in range(count):
    if i % 100 == 0 and (left := begun + i / rate - time.perf_counter()) > 0:
        time.sleep(left)
    who = '"agent_id": "agent_%d", "episode_index": %d' % (i % 4, i // 800)
    shown = ', "render_payload": ' + picture if i % 1500 == 0 else ""
    print('{"type": "step", %s, "step_index": %d, "action": 2, "reward": %.3f, "loss": %.4f, '
          '"observation": {"row": 3, "col": 1}%s}' % (who, i // 4 % 200, i % 7, 9 / (i + 1), shown))
    if i // 4 % 200 == 199:
        print('{"type": "episode", %s, "total_reward": %d, "steps": 200}' % (who, i % 97))
"""


@dataclass
class Curve:
    """Memory in MiB, from the first second of the run to the last."""

    seen: list[float] = field(default_factory=list)

    def third(self, number: int) -> float:
        """Return the median of the third with that number: 0, 1 or 2."""
        size = len(self.seen) // 3
        return median(self.seen[size * number : size * number + size])

    def __str__(self) -> str:
        every = max(1, len(self.seen) // 9)
        return " ".join(f"{value:.1f}" for value in self.seen[::every])


def browser_heap() -> Row:
    """Measure the page's JavaScript heap after a forced collection."""
    return _row("the page's heap", "heap")


def browser_process() -> Row:
    """Measure the memory of the browser's renderer processes."""
    return _row("the browser's renderers, resident", RENDERER)


def dashboard() -> Row:
    """Measure the memory of the process that serves the page."""
    return _row("the dashboard, resident", "dashboard")


def live() -> Row:
    """Measure the memory of the process that fills Redis."""
    return _row("live, resident", "live")


def persist() -> Row:
    """Measure the memory of the process that fills SQL."""
    return _row("persist, resident", "persist")


def redis() -> Row:
    """Measure the memory that Redis uses."""
    return _row("Redis, used", "redis")


def opened_and_closed() -> Row:
    """Measure the dashboard's memory while 20 pages of a live run are opened and closed 100 times."""
    with _bench() as bench:
        curve, left = _churned(bench)
    what = f"the dashboard, resident, last third of {TIMES} times that {PAGES} pages open and close"
    return _flat(what, curve, left)


def _row(what: str, name: str) -> Row:
    of = f"{HOURS:g} h of training ({HOURS * STEPS_PER_HOUR:,.0f} steps)"
    return _flat(f"{what}, last third of {of}", _measured()[name])


def _flat(what: str, curve: Curve, more: str = "") -> Row:
    return Row(
        what=what,
        rate=curve.third(2),
        unit="MiB",
        limit=curve.third(1),
        limit_name="middle third",
        goal="flat: ≤ 1.1",
        lower_is_better=True,
        note="; ".join(filter(None, (f"from beginning to end {curve}", more))),
    )


@contextmanager
def _bench() -> Iterator[Bench]:
    from playwright.sync_api import sync_playwright

    if missing := needs.chromium():
        raise Unmeasured(missing)
    with (
        tempfile.TemporaryDirectory(prefix="stepstream-endurance-") as folder,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=needs.chromium_path(), args=FLAGS)
        bench = Bench(Path(folder), browser)
        try:
            bench.start()
            yield bench
        finally:
            browser.close()
            bench.stop()


@functools.cache
def _measured() -> dict[str, Curve]:
    with _bench() as bench:
        return _played(bench)


def _played(bench: Bench) -> dict[str, Curve]:
    """Run a training and return the memory of every part over its time."""
    page = bench.browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(f"http://127.0.0.1:{bench.port}/runs/endurance?agent=agent_0&rows=newest")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")
    store = redis_client.Redis.from_url(bench.redis)
    processes = _children("dashboard", "live", "persist", RENDERER)
    training = _training(bench, "endurance", RATE, round(HOURS * STEPS_PER_HOUR))
    curves = {name: Curve() for name in ("heap", "redis", *processes)}
    while training.poll() is None:
        page.wait_for_timeout(SAMPLE_MS)
        curves["heap"].seen.append(_heap(devtools))
        curves["redis"].seen.append(store.info("memory")["used_memory"] / MIB)
        for name, found in processes.items():
            curves[name].seen.append(_resident(found))
    if int(page.get_attribute("#agent", "data-seq") or 0) == 0:
        raise Unmeasured("the page showed no step")
    return curves


def _churned(bench: Bench) -> tuple[Curve, str]:
    """Open and close pages; return the dashboard's memory, and what is there of them before and after."""
    training = _training(bench, "churn", 100, 100 * 3600)
    context, curve, left = bench.browser.new_context(), Curve(), list[str]()
    try:
        for _ in range(TIMES):
            pages = [context.new_page() for _ in range(PAGES)]
            for page in pages:
                page.goto(f"http://127.0.0.1:{bench.port}/runs/churn?agent=agent_0", wait_until="commit")
            for page in pages:
                page.wait_for_function(STEPPED, timeout=120_000)
            for page in pages:
                page.close()
            time.sleep(CLOSED_S)
            found = _children("dashboard", RENDERER)
            curve.seen.append(_resident(found["dashboard"]))
            left.append(_left(bench, found))
    finally:
        training.terminate()
        training.wait(30)
    return curve, f"after the first time {left[0]}; after the last {left[-1]}"


def _left(bench: Bench, found: dict[str, list[psutil.Process]]) -> str:
    """Say what there is of pages that are closed."""
    with urllib.request.urlopen(f"http://127.0.0.1:{bench.port}/metrics") as answer:
        viewers = re.search(r"^stepstream_viewers (\S+)", answer.read().decode(), re.MULTILINE)
    sockets = sum(len(process.net_connections()) for process in found["dashboard"])
    threads = sum(process.num_threads() for process in found["dashboard"])
    said = viewers[1] if viewers else "?"
    return f"{said} viewers, {sockets} sockets, {threads} threads, {len(found[RENDERER])} renderers"


def _training(bench: Bench, run_id: str, rate: int, count: int) -> subprocess.Popen[bytes]:
    program = bench.folder / "worker.py"
    program.write_text(WORKER)
    command = [PROGRAM, "run", "--quiet", "--run-id", run_id, "--", sys.executable, str(program)]
    return subprocess.Popen([*command, str(rate), str(count)], env=bench.env, **SILENT)


def _heap(devtools: Any) -> float:
    devtools.send("HeapProfiler.collectGarbage")
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize") / MIB)


def _children(*words: str) -> dict[str, list[psutil.Process]]:
    """Return our own processes, by a word of the command that each runs."""
    found: dict[str, list[psutil.Process]] = {word: [] for word in words}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # the process has ended meanwhile
            command = process.cmdline()
            for word in words:
                found[word] += [process] if word in command else []
    return found


def _resident(processes: list[psutil.Process]) -> float:
    return float(sum(process.memory_info().rss for process in processes) / MIB)
