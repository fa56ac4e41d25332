"""How long SQL and the live page's buffer stand still when their process is killed and started again at once.

`python -m benchmarks.restart` kills persist and live in turn under a load of steps. A round prints seconds
from SIGKILL until the database, or Redis, has more than the killed process left there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import redis

from benchmarks.scale import Stack, stack
from schemas.live import Keys

RATE = 300
ROUNDS = 7
WARM_S = 5.0
LOOK_S = 0.02
STANDS_S = 90.0


def stall(running: Stack, service: str, position: Callable[[], Any]) -> float:
    """Kill a service, start it again, and return the seconds until its position moves."""
    child, begun = running.services[service], time.perf_counter()
    child.kill()
    child.wait()
    left = position()
    running.serve(service)
    while position() == left:
        if time.perf_counter() - begun > STANDS_S:
            raise TimeoutError(f"{service} stood still for {STANDS_S:.0f} s")
        time.sleep(LOOK_S)
    return time.perf_counter() - begun


def measure() -> None:
    """Kill each service in turn, `ROUNDS` times, and print how long each stood still."""
    with stack() as running:
        buffer = redis.Redis.from_url(running.env["STEPSTREAM_REDIS_URL"])
        positions = {"persist": running.stored, "live": lambda: buffer.hgetall(Keys("stepstream:").positions)}
        seconds: dict[str, list[float]] = {service: [] for service in positions}
        running.serve(*positions)
        running.train(RATE, 10**9, "restarts")
        for _ in range(ROUNDS):
            for service, position in positions.items():
                time.sleep(WARM_S)
                seconds[service].append(stall(running, service, position))
                print(f"{service}: {seconds[service][-1]:.2f} s", flush=True)
        for service, each in seconds.items():
            print(f"{service}: median {median(each):.2f} s, longest {max(each):.2f} s of {ROUNDS}")


if __name__ == "__main__":
    measure()
