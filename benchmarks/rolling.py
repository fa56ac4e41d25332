"""How long an open page stands still when the services of the compose cluster are restarted under load.

`python -m benchmarks.rolling [SERVICE ...]` needs Docker and Chromium. It starts three brokers and the rest,
streams 5,000 steps a second, restarts each service in turn (default: all), and prints the seconds, and how
many steps are lost or doubled.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.support.compose import TOKEN, Compose
from tests.support.needs import chromium_path
from tests.support.rolling import Training, restart, step_shown

RATE = 5_000
SERVICES = ("kafka-1", "kafka-2", "kafka-3", "registry", "postgres", "redis", "persist", "live", "dashboard")
ROWS = (
    "SELECT count(*) AS rows, count(DISTINCT (stream_id, seq)) AS steps FROM steps WHERE run_id = 'rolling'"
)


def measure(compose: Compose, folder: Path, services: list[str]) -> None:
    """Restart each service, print how long the page stood still, then what is lost or doubled in SQL."""
    training = Training(folder, compose, RATE, dict(os.environ))
    try:
        with sync_playwright() as playwright:
            page = playwright.chromium.launch(executable_path=chromium_path()).new_page()
            page.goto(f"{compose.url}/runs/rolling?agent=a0&token={TOKEN}")
            compose.wait_for(lambda: step_shown(page))
            begun = time.monotonic()
            for service in services:
                print(f"{service:10} {restart(compose, [service], page)[service]:6.2f} s", flush=True)
            seconds = time.monotonic() - begun
        sent = training.end()
    finally:
        training.kill()
    compose.wait_for(lambda: (found := compose.query(ROWS)) and found[0]["steps"] >= sent, 300)
    [found] = compose.rows(ROWS)
    lost, doubled = sent - found["steps"], found["rows"] - found["steps"]
    print(f"{sent} steps, restarts in {seconds:.0f} s: {lost} lost, {doubled} doubled")


if __name__ == "__main__":
    cluster = Compose()
    try:
        cluster.up()
        cluster.wait_for(lambda: cluster.page("/healthz") == 200)
        with tempfile.TemporaryDirectory() as work:
            measure(cluster, Path(work), sys.argv[1:] or list(SERVICES))
    finally:
        cluster("down", "--volumes", "--timeout", "5")
