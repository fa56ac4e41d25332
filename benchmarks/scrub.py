"""The time from the slider's event to the painted moment, in a real Chromium, while the run trains."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from websockets.asyncio.client import connect

from benchmarks.harness import Row, Unmeasured
from benchmarks.page import FLAGS, PROGRAM, Bench
from benchmarks.replay import LARGE, RUN, _fill_large
from tests.support import needs

PLACES = 200
VIEWERS = 20
RATE = 1000
ROUNDS = 5
OPENED_S = 5
"""After so long twenty viewers have opened their pages, and scrub."""
DREW_MS = 10
"""What a browser takes for a chart."""
WORKER = """
import sys, time
line = '{"type": "step", "agent_id": "agent", "episode_index": %d, "step_index": %d, "reward": 0.5}\\n'
begun = time.perf_counter()
for i in range(10**9):
    while begun + i / RATE > time.perf_counter():
        time.sleep(0.001)
    sys.stdout.write(line % (100_000 + i // 200, i % 200))
    sys.stdout.flush()
""".replace("RATE", str(RATE))
SCRUB = """(share) => new Promise((done) => {
  const slider = document.querySelector(".time-slide input"), agent = document.getElementById("agent");
  const value = Number(slider.min) + share * (Number(slider.max) - Number(slider.min));
  const begun = performance.now();
  const observer = new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => {
    observer.disconnect();
    done(performance.now() - begun);
  })));
  observer.observe(agent, { attributes: true, attributeFilter: ["data-seq"] });
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(slider, value);
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  setTimeout(() => { observer.disconnect(); done(null); }, 5000);
})"""


def one_viewer() -> Row:
    """Measure 200 random positions in a run of a million steps that trains at 1,000 steps/s."""
    return _row("One viewer", others=0)


def twenty_viewers() -> Row:
    """Measure the same positions beside 19 viewers, each of which scrubs ten times a second."""
    return _row("Twenty viewers", others=VIEWERS - 1)


def live_beside_twenty() -> Row:
    """Measure the live path at 1,000 steps/s while 20 viewers scrub another run, and while nobody does."""
    seen: dict[int, list[float]] = {0: [], VIEWERS: []}
    with _bench() as bench:
        for _ in range(ROUNDS):
            for others, found in seen.items():
                scrubbers = _others(bench, others) if others else None
                if scrubbers is not None:
                    time.sleep(OPENED_S)
                found.append(bench.streaming(RATE).p99)
                if scrubbers is not None:
                    scrubbers.kill()
    return Row(
        f"worker's write to painted DOM beside {VIEWERS} viewers who scrub, p99",
        median(seen[VIEWERS]),
        "ms",
        limit=median(seen[0]),
        limit_name="while nobody scrubs",
        spread=(max(seen[0]) - min(seen[0])) / median(seen[0]),
        goal="≤ 1.33 ×",
        lower_is_better=True,
    )


def _row(what: str, others: int) -> Row:
    with _bench() as bench:
        seen = _scrubbed(bench, others)
    missed = PLACES - len(seen)
    p50, p95 = np.percentile(seen, [50, 95])
    note = f"p50 {p50:.0f} ms; {missed} of {PLACES} not painted within 5 s; no pictures in this run"
    return Row(
        f"{what}: from the slider to the painted numbers of a moment, {LARGE:,} steps, p95",
        float(p95),
        "ms",
        goal="p50 ≤ 50 ms, p95 ≤ 150 ms",
        lower_is_better=True,
        note=note,
    )


@contextlib.contextmanager
def _bench() -> Iterator[Bench]:
    """Start the stack, with the run of a million steps in SQL, and a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise Unmeasured("Playwright is not installed") from error
    with (
        tempfile.TemporaryDirectory(prefix="stepstream-bench-") as folder,
        sync_playwright() as playwright,
    ):
        home = Path(folder)
        _fill_large(home).home.joinpath("large.db").rename(home / "stepstream.db")
        browser = playwright.chromium.launch(executable_path=needs.chromium_path(), args=FLAGS)
        bench = Bench(home, browser)
        try:
            bench.start()
            yield bench
        finally:
            bench.stop()
            browser.close()


def _scrubbed(bench: Bench, others: int) -> list[float]:
    """Return the milliseconds to each position that was painted."""
    worker = bench.folder / "worker.py"
    worker.write_text(WORKER)
    command = [PROGRAM, "run", "--quiet", "--run-id", RUN, "--", sys.executable, str(worker)]
    training = subprocess.Popen(command, env=bench.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    scrubbers = _others(bench, others) if others else None
    page = bench.browser.new_page(viewport={"width": 1280, "height": 720})
    try:
        page.goto(f"http://127.0.0.1:{bench.port}/runs/{RUN}?agent=agent&at=step:1000")
        page.wait_for_selector('[data-time-state="paused"]')
        page.wait_for_timeout(3000)
        found = []
        for _ in range(PLACES):
            found.append(page.evaluate(SCRUB, random.uniform(0.01, 0.99)))
            page.wait_for_timeout(50)
    finally:
        training.terminate()
        if scrubbers is not None:
            scrubbers.kill()
    return [each for each in found if each is not None]


def _others(bench: Bench, count: int) -> subprocess.Popen[Any]:
    url = f"ws://127.0.0.1:{bench.port}"
    return subprocess.Popen([sys.executable, "-m", "benchmarks.scrub", url, str(count)], env=bench.env)


async def _view(url: str) -> None:
    origin = url.replace("ws", "http", 1)
    async with connect(f"{url}/live", origin=origin, max_size=None, compression=None) as socket:  # type: ignore[arg-type]
        await socket.send(json.dumps({"url": f"/runs/{RUN}?agent=agent&at=step:1000"}))
        while True:
            message = json.loads(await socket.recv())
            await asyncio.sleep(0.1)
            await socket.send(json.dumps({"act": "scrub", "value": str(random.randrange(LARGE * 9 // 10))}))
            drew = DREW_MS if any(part["draw"] for part in message["parts"]) else 0
            await socket.send(json.dumps({"ack": message["n"], "paint": 10, "drew": drew}))


async def _all(url: str, count: str) -> None:
    await asyncio.gather(*(_view(url) for _ in range(int(count))))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_all(*sys.argv[1:]))
