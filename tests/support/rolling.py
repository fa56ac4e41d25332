"""Restart one service after the other under load; measure for how long an open page did not change."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.compose import Compose

AGENTS = 8
SETTLE_S = 3.0
STANDS_S = 60.0
LOOK_S = 0.05
PROGRAM = Path(sys.executable).with_name("stepstream")
WORKER = f"""
import signal, sys, time
rate, stop = int(sys.argv[1]), []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
begun, steps = time.perf_counter(), 0
while not stop:
    for _ in range(50):
        agent, own = steps % {AGENTS}, steps // {AGENTS}
        print('{{"type":"step","agent_id":"a%d","episode_index":%d,"step_index":%d,"action":1,"reward":0.5,'
              '"observation":[%d,2,3]}}' % (agent, own // 500, own % 500, own))
        steps += 1
    if (left := begun + steps / rate - time.perf_counter()) > 0:
        time.sleep(left)
print(steps, file=sys.stderr)
"""


class Training:
    """`stepstream run` on this machine, at a fixed number of steps a second, until it is stopped."""

    def __init__(self, folder: Path, compose: Compose, rate: int, env: dict[str, str]) -> None:
        program = folder / "train.py"
        program.write_text(WORKER)
        command = [str(PROGRAM), "run", "--quiet", "--run-id", "rolling", "--timeout", "120"]
        env = env | {
            "STEPSTREAM_BOOTSTRAP_SERVERS": compose.brokers,
            "STEPSTREAM_HOME": str(folder / "training"),
        }
        self._child = subprocess.Popen(
            [*command, "--", sys.executable, str(program), str(rate)],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> int:
        """Send SIGTERM and wait until Kafka has acknowledged everything; returns the number of steps."""
        self._child.terminate()
        _, said = self._child.communicate(timeout=180)
        assert self._child.returncode == 0, said
        return int(re.findall(r"^(\d+)$", said, re.M)[-1])

    def kill(self) -> None:
        """Kill it if it still runs."""
        self._child.kill()
        self._child.wait()


def restart(compose: Compose, services: Iterable[str], page: Any) -> dict[str, float]:
    """Restart the services, each when the one before is healthy again.

    Returns:
        Service → the longest time without a change of the page, in seconds.
    """
    stalls = {}
    for service in services:
        stalls[service] = _worst_stall(compose.begin("restart", service), page)
        healthy = compose("up", "--detach", "--wait", "--no-recreate", "--no-deps", service)
        assert healthy.returncode == 0, healthy.stderr
    return stalls


def _worst_stall(restarting: subprocess.Popen[bytes], page: Any) -> float:
    """Wait until the service is up and the page changes again, and a little longer."""
    seen, moved_at, worst, ends_at = step_shown(page), time.monotonic(), 0.0, None
    while ends_at is None or time.monotonic() < ends_at:
        time.sleep(LOOK_S)
        now, shown = time.monotonic(), step_shown(page)
        worst = max(worst, now - moved_at)
        moved = shown != seen
        if moved:
            seen, moved_at = shown, now
        if ends_at is None and moved and restarting.poll() is not None:
            assert restarting.returncode == 0
            ends_at = now + SETTLE_S
        assert now - moved_at < STANDS_S, f"the page shows {seen!r} for {STANDS_S} s"
    return round(worst, 2)


def step_shown(page: Any) -> str:
    """The number of the newest step on the page; empty where there is none."""
    text: str = page.evaluate("document.body.innerText")
    found = re.search(r"Step\s?([\d,]+)", text)
    return found[1] if found else ""
