"""The time until a logged step is on the screen, beside Trackio and TensorBoard with the same training.

Ours counts to the painted DOM. A peer's counts until the step's number is in its page, plus one frame, and
does not include its drawing. A step that a peer never shows is left out. Both choices favour the peer.
"""

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
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Row, Unmeasured, python_with
from benchmarks.page import FLAGS, PROGRAM, Bench
from tests.support import needs

RATE = 10
"""The steps a second, with one number each."""
LOOPBACK_ONLY = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
OFFLINE = {"HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}

TRAINING = """
import json, sys, time
logger, out, folder = sys.argv[1:4]
rate, seconds = map(int, sys.argv[4:])
if logger == "stepstream":
    import stepstream
    run = stepstream.init()
    log, end = lambda i: run.step(episode_index=0, step_index=i, reward=float(i)), run.finish
elif logger == "trackio":
    import trackio
    trackio.init(project="bench", name="bench")
    log, end = lambda i: trackio.log({"reward": float(i)}, step=i), trackio.finish
else:
    from tensorboardX import SummaryWriter
    writer = SummaryWriter(folder)
    log, end = lambda i: writer.add_scalar("reward", float(i), i), writer.close
wrote, begun = [], time.perf_counter()
for i in range(rate * seconds):
    if (left := begun + i / rate - time.perf_counter()) > 0:
        time.sleep(left)
    wrote.append(time.time_ns())
    log(i)
json.dump(wrote, open(out, "w"))
end()
"""
NOW = "performance.timeOrigin + performance.now()"
SEEN = """
window.painted = [];
const seen = (step) => requestAnimationFrame(() => setTimeout(
  () => window.painted.push([step, performance.timeOrigin + performance.now()]), 0));
"""
OURS = f"""() => {{ {SEEN}
  const now = document.getElementById("now-step");
  const look = () => seen(Number(now.textContent));
  new MutationObserver(look).observe(now, {{ childList: true, subtree: true, characterData: true }});
}}"""
# Both peers fetch JSON in which each number stands with its "step".
THEIRS = f"""{SEEN}
const look = (text) => {{
  let newest = -1;
  for (const [, step] of text.matchAll(/"step":\\s*(\\d+)/g)) newest = Math.max(newest, Number(step));
  if (newest >= 0) seen(newest);
}};
const get = window.fetch, send = XMLHttpRequest.prototype.send;
window.fetch = async (...asked) => {{
  const answer = await get(...asked);
  answer.clone().text().then(look, () => {{}});
  return answer;
}};
XMLHttpRequest.prototype.send = function (...sent) {{
  this.addEventListener("load", () => look(
    ["", "text"].includes(this.responseType) ? this.responseText : JSON.stringify(this.response) || ""));
  return send.apply(this, sent);
}};
localStorage.setItem("_tb_global_settings", JSON.stringify({{ autoReload: true }}));
"""


def beside_trackio() -> Row:
    """Measure beside Trackio, whose page asks its server once a second."""
    serve = ["trackio.cli", "show", "--project", "bench"]
    return _row("Trackio", 15, _peer("trackio", serve, _free_port(), 18))


def beside_tensorboard() -> Row:
    """Measure beside TensorBoard, for one of its reloads, which come every 30 s by default."""
    port = _free_port()
    serve = ["tensorboard.main", "--logdir", "logs", "--host", "127.0.0.1", "--port", str(port)]
    return _row("TensorBoard", 500, _peer("tensorboard", serve, port, 38))


def _row(name: str, goal: int, peer: list[float]) -> Row:
    ours = _ours()
    return Row(
        what=f"log call to screen at {RATE} steps/s beside {name}, p50",
        rate=float(np.median(ours)),
        unit="ms",
        peer=float(np.median(peer)),
        peer_name=name,
        goal=f"≥ {goal} × sooner",
        lower_is_better=True,
        note=f"{len(ours)} steps of ours, {len(peer)} of {name}'s",
    )


@functools.cache
def _ours() -> list[float]:
    """Return each step's ms under `stepstream run`, with a page open on its agent."""
    with _browser() as browser, tempfile.TemporaryDirectory(prefix="stepstream-trackers-") as name:
        bench = Bench(Path(name), browser)
        try:
            bench.start()
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.goto(f"http://127.0.0.1:{bench.port}/runs/bench")
            page.wait_for_selector("#now-step")
            page.evaluate(OURS)
            opened = page.evaluate(NOW)
            command = [PROGRAM, "run", "--quiet", "--run-id", "bench", "--", sys.executable]
            with _training(command, "stepstream", bench.folder, 10, bench.env) as wrote:
                page.wait_for_timeout(11_000)
            return _late(page.evaluate("window.painted"), wrote, opened)
        finally:
            bench.stop()


def _peer(name: str, serve: list[str], port: int, seconds: int) -> list[float]:
    """Return each step's ms in the peer's own page, which the peer serves."""
    python = python_with(name)
    python_with("tensorboardX" if name == "tensorboard" else name)
    with _browser() as browser, tempfile.TemporaryDirectory(prefix="stepstream-trackers-") as home:
        folder = Path(home)
        (folder / "logs").mkdir()
        env = os.environ | OFFLINE | {"TRACKIO_DIR": f"{home}/trackio", "HF_HOME": f"{home}/hf"}
        env["GRADIO_SERVER_PORT"] = str(port)
        with (
            _training([python], name, folder, seconds, env) as wrote,
            _running([python, "-m", *serve], folder, env),
        ):
            _until_it_answers(port)
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.add_init_script(THEIRS)
            page.goto(f"http://127.0.0.1:{port}/?project=bench")
            opened = page.evaluate(NOW)
            page.wait_for_timeout(1000 * seconds - 3000)
            painted = page.evaluate("window.painted")
    return _late(painted, wrote, opened)


@contextmanager
def _training(
    command: list[str], logger: str, folder: Path, seconds: int, env: dict[str, str]
) -> Iterator[list[int]]:
    """Run the training during the block; the times of its log calls are in the list afterwards."""
    program, out = folder / "training.py", folder / "wrote.json"
    program.write_text(TRAINING)
    arguments = [str(program), logger, str(out), str(folder / "logs" / "run"), str(RATE), str(seconds)]
    wrote: list[int] = []
    with _running([*command, *arguments], folder, env) as training:
        yield wrote
        training.wait(60)
        wrote += json.loads(out.read_text())


@contextmanager
def _running(command: list[str], folder: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _late(painted: list[list[float]], wrote: list[int], opened: float) -> list[float]:
    """Return ms from log call to screen of each step that was logged while the page was open."""
    steps = np.maximum.accumulate([step for step, _ in painted] or [-1])
    logged = np.array(wrote) / 1e6
    mine = np.flatnonzero((logged >= opened) & (np.arange(len(wrote)) <= steps[-1]))
    if not len(mine):
        raise Unmeasured("its page showed no step that was logged while it was open")
    times = np.array([at for _, at in painted])
    late: list[float] = (times[np.searchsorted(steps, mine)] - logged[mine]).tolist()
    return late


@contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    if missing := needs.chromium():
        raise Unmeasured(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=needs.chromium_path(), args=[*FLAGS, LOOPBACK_ONLY]
        )
        yield browser
        browser.close()


def _until_it_answers(port: int) -> None:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise Unmeasured("its server does not answer")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
