"""What a cluster of a given size needs, computed from the measured costs of one record.

`python -m benchmarks.scale` prints the table of docs/scale.md from `COSTS`. `--measure` measures the costs
here, at three rates, and compares the model with each; `--factor` prints how much faster two persist
processes are.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

RATES = (500, 1000, 2000)
SECONDS = 15
SETTLE_S = 10
FULL, FULL_STEPS = 1_000_000, 120_000
"""A rate that is never reached: at full speed, fixed costs are a small part of the CPU time."""
DAY_S = 86_400
PARTS = ("forward", "kafka", "persist", "postgresql", "live", "redis")
NAMES = dict(zip(PARTS, PARTS, strict=True)) | {
    "forward": "forwarders, beside the workers",
    "kafka": "Kafka",
    "postgresql": "PostgreSQL",
    "redis": "Redis",
}
PROGRAM = Path(sys.executable).with_name("stepstream")


@dataclass(frozen=True)
class Costs:
    """Costs of a step at full speed (CPU µs, bytes at rest), and cores at a few hundred steps a second.

    `few` counts the cores at a low rate, where each batch holds few steps and a step costs most.
    """

    cpu_us: Mapping[str, float]
    few: Mapping[str, float]
    kafka_bytes: float
    sql_bytes: float


@dataclass(frozen=True)
class Assumptions:
    """Numbers that are not measured. Prices are rounded list prices of large clouds; use your own."""

    replicas: int = 3
    busy: float = 0.5
    """The share of a core or a process that the plan uses."""
    kafka_days: float = 7
    sql_days: float = 30
    consumers: int = 2
    """The groups that read each record: persist and live."""
    core_month: float = 30.0
    gb_month: float = 0.10
    zone_gb: float = 0.02
    """The price of a GB between two zones, for both directions; two thirds of the traffic crosses zones."""
    postgresql_cores: float = 32
    postgresql_tb: float = 16
    """The largest PostgreSQL that the plan uses; runs that need more are spread over cells."""
    broker_tb: float = 8
    broker_mb_s: float = 100


@dataclass(frozen=True)
class Plan:
    """What a number of steps a second needs."""

    rate: float
    cells: int
    partitions: int
    processes: Mapping[str, int]
    cores: Mapping[str, float]
    kafka_tb: float
    sql_tb: float
    network_mb_s: float
    month: float


COSTS = Costs(
    cpu_us={"forward": 17.1, "kafka": 3.4, "persist": 11.2, "postgresql": 6.0, "live": 10.7, "redis": 0.3},
    few={
        "forward": 0.086,
        "kafka": 0.12,
        "persist": 0.042,
        "postgresql": 0.014,
        "live": 0.031,
        "redis": 0.008,
    },
    kafka_bytes=65,
    sql_bytes=360,
)
"""Measured on two cores of a virtual machine that did nothing else, PostgreSQL without fsync."""


def plan(rate: float, costs: Costs = COSTS, told: Assumptions | None = None) -> Plan:
    """Return what a rate needs, as the sum over all cells."""
    told = told or Assumptions()
    busy = {part: rate * costs.cpu_us[part] / 1e6 for part in PARTS}
    busy["kafka"] *= told.replicas
    kafka_tb = rate * costs.kafka_bytes * DAY_S * told.kafka_days * told.replicas / 1e12
    sql_tb = rate * costs.sql_bytes * DAY_S * told.sql_days / 1e12
    network = rate * costs.kafka_bytes * (told.replicas + told.consumers) / 1e6
    cells = math.ceil(
        max(
            busy["postgresql"] / told.busy / told.postgresql_cores,
            sql_tb / told.postgresql_tb,
            busy["redis"] / told.busy,
        )
    )
    processes = {
        part: cells * max(2, math.ceil(busy[part] / cells / told.busy)) for part in ("persist", "live")
    }
    brokers = max(told.replicas, *map(math.ceil, (kafka_tb / told.broker_tb, network / told.broker_mb_s)))
    cores = {part: busy[part] / told.busy + cells * costs.few[part] for part in PARTS}
    across = network * 2 / 3 * DAY_S * 30 / 1e3 * told.zone_gb
    month = sum(cores.values()) * told.core_month + (kafka_tb + sql_tb) * 1000 * told.gb_month + across
    partitions = max(4, 2 * max(processes.values()) // cells)
    return Plan(
        rate, cells, partitions, processes | {"brokers": brokers}, cores, kafka_tb, sql_tb, network, month
    )


def table(costs: Costs = COSTS) -> str:
    """Return the table of the three sizes, as Markdown."""
    plans = [plan(rate, costs) for rate in (1_000, 50_000, 1_000_000)]
    rows = [
        ("cells", [f"{each.cells}" for each in plans]),
        ("partitions of a topic, in each cell", [f"{each.partitions}" for each in plans]),
        *(
            (f"{part} processes", [f"{each.processes[part]}" for each in plans])
            for part in ("persist", "live")
        ),
        ("brokers, which cells may share", [f"{each.processes['brokers']}" for each in plans]),
        *((f"cores of {NAMES[part]}", [f"{each.cores[part]:,.1f}" for each in plans]) for part in PARTS),
        ("Kafka's disks, 7 days × 3", [f"{each.kafka_tb:,.2f} TB" for each in plans]),
        ("SQL, 30 days", [f"{each.sql_tb:,.2f} TB" for each in plans]),
        ("network", [f"{each.network_mb_s:,.1f} MB/s" for each in plans]),
        ("money, a month", [f"{each.month:,.0f} $" for each in plans]),
    ]
    head = ["| steps a second | 1,000 | 50,000 | 1,000,000 |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)]) + "\n"


WORKER = """
import json, sys, time
rate, count = int(sys.argv[1]), int(sys.argv[2])
begun = time.perf_counter()
for i in range(count):
    if i % 20 == 0 and (left := begun + i / rate - time.perf_counter()) > 0:
        time.sleep(left)
    agent, own = "a%d" % (i % 8), i // 8
    line = {"type": "step", "agent_id": agent, "episode_index": own // 200, "step_index": own % 200,
            "global_step": i, "action": i % 4, "reward": i % 7 / 8, "loss": round(9 / (i + 1), 5),
            "observation": [round(i / n, 4) for n in (3, 7, 11, 13)]}
    print(json.dumps(line))
    if own % 200 == 199:
        line = {"type": "episode", "agent_id": agent, "episode_index": own // 200, "total_reward": i % 97}
        print(json.dumps(line))
"""


class Stack:
    """Servers and services, each as a process of its own whose CPU time is measured."""

    def __init__(self, folder: Path, started: ExitStack) -> None:
        from infra.embedded.jars import class_path
        from infra.embedded.kafka import KafkaServer
        from infra.embedded.valkey import ValkeyServer
        from tests.support.postgres import PostgresServer

        self._folder, self._started = folder, started
        kafka, redis = KafkaServer(folder / "kafka", class_path(Path())), ValkeyServer(folder / "valkey")
        self._postgres = PostgresServer()
        self.roots: dict[str, int] = {}
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        """The newest process of each name."""
        for name, server in (("kafka", kafka), ("redis", redis)):
            self.roots[name] = server.start().pid
            started.callback(server.stop)
        self._postgres.start()
        started.callback(self._postgres.stop)
        self._postgres.sql("CREATE DATABASE scale")
        self.database = self._postgres.url("scale")
        self.roots["postgresql"] = self._postgres._process.pid
        self.logs = folder / "kafka"
        self.env = os.environ | {
            "STEPSTREAM_HOME": str(folder / "home"),
            "STEPSTREAM_BOOTSTRAP_SERVERS": kafka.address,
            "STEPSTREAM_REDIS_URL": redis.address,
            "STEPSTREAM_DATABASE_URL": self.database,
        }

    def set_up(self) -> None:
        """Create the topics and tables."""
        for command in (("topics", "create"), ("db", "upgrade")):
            subprocess.run([PROGRAM, *command], env=self.env, check=True, capture_output=True)

    def serve(self, *services: str) -> None:
        """Start services; a second one of the same name runs beside the first."""
        for name in services:
            with (self._folder / f"{name}.log").open("ab") as log:
                child = subprocess.Popen([PROGRAM, name], env=self.env, stdout=log, stderr=log)
            self.services[name], self.roots[name] = child, child.pid
            self._started.callback(child.wait)
            self._started.callback(child.terminate)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds of each part so far, including children that have ended."""
        found = {}
        for name, pid in self.roots.items():
            root = psutil.Process(pid)
            times = [root.cpu_times()]
            for child in root.children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # it ended: the root counts it from now on
                    times.append(child.cpu_times())
            found[name] = sum(t.user + t.system for t in times)
            found[name] += times[0].children_user + times[0].children_system
        return found

    def train(self, rate: int, steps: int, run_id: str) -> subprocess.Popen[bytes]:
        """Start a worker of `rate` steps a second under `run`; it is terminated with the servers."""
        program = self._folder / "worker.py"
        program.write_text(WORKER)
        worker = [sys.executable, str(program), str(rate), str(steps)]
        command = [str(PROGRAM), "run", "--quiet", "--run-id", run_id, "--", *worker]
        child = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._started.callback(child.wait)
        self._started.callback(child.terminate)
        return child

    def send(self, rate: int, steps: int, run_id: str) -> float:
        """Run a worker to its end; return the CPU seconds of `run` without those of the worker."""
        child = self.train(rate, steps, run_id)
        own = 0.0
        while child.poll() is None:
            with suppress(psutil.NoSuchProcess):
                times = psutil.Process(child.pid).cpu_times()
                own = times.user + times.system
            time.sleep(0.1)
        assert child.returncode == 0
        return own

    def load(self, rate: int, steps: int = 0) -> dict[str, float]:
        """Return the cores of each part while steps are made and stored, and the reached rate."""
        steps = steps or rate * SECONDS
        wanted, begun, cpu = self.stored() + steps, time.perf_counter(), self.cpu()
        own = self.send(rate, steps, f"scale-{rate}")
        while self.stored() < wanted:
            time.sleep(0.2)
        seconds, after = time.perf_counter() - begun, self.cpu()
        cores = {part: (after[part] - cpu[part]) / seconds for part in cpu}
        return {"rate": steps / seconds, **cores, "forward": own / seconds}

    def idle(self) -> dict[str, float]:
        """Return the cores of each part without any record; no forwarder runs then."""
        before = self.cpu()
        time.sleep(SETTLE_S)
        after = self.cpu()
        return {part: (after[part] - before[part]) / SETTLE_S for part in before} | {"forward": 0.0}

    def stored(self) -> int:
        """Return the number of steps in SQL."""
        return int(self._ask("SELECT count(*) FROM steps"))

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of Kafka's segments and of the database."""
        segments = sum(file.stat().st_size for file in self.logs.rglob("telemetry.*/*.log"))
        return segments, int(self._ask("SELECT pg_database_size(current_database())"))

    def _ask(self, statement: str) -> Any:
        url = self.database.replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute(statement).fetchone()
        assert row is not None
        return row[0]


@contextmanager
def stack() -> Iterator[Stack]:
    """Yield a stack whose servers are up."""
    with tempfile.TemporaryDirectory(prefix="stepstream-scale-") as folder, ExitStack() as started:
        made = Stack(Path(folder), started)
        made.set_up()
        yield made


def measure() -> None:
    """Measure the costs of a step, and compare their prediction with two other rates."""
    with stack() as running:
        running.serve("persist", "live")
        time.sleep(SETTLE_S)
        before = running.sizes()
        few, *others = map(running.load, RATES)
        after, idle, full = running.sizes(), running.idle(), running.load(FULL, FULL_STEPS)
    steps = sum(RATES) * SECONDS
    at_rest = [round((late - early) / steps) for early, late in zip(before, after, strict=True)]
    costs = {part: (full[part] - idle[part]) / full["rate"] for part in PARTS}
    for part in PARTS:
        told = [few[part] + costs[part] * (each["rate"] - few["rate"]) for each in others]
        pairs = [f"{each[part]:.3f} ({core:.3f})" for each, core in zip(others, told, strict=True)]
        print(f"{part}: cores measured (and predicted): {', '.join(pairs)}")
    print("steps/s:", [round(each["rate"]) for each in (few, *others, full)])
    cpu_us = {part: round(cost * 1e6, 1) for part, cost in costs.items()}
    print(Costs(cpu_us, {part: round(few[part], 3) for part in PARTS}, *at_rest))


def factor(steps: int = 150_000) -> float:
    """Return how much faster two persist processes store a backlog than one, on this machine."""
    seconds = {}
    for count in (1, 2):
        with stack() as running:
            for number in range(8):  # enough runs, which are the keys, for every partition
                running.send(100_000, steps // 8, f"run-{number}")
            running.serve(*["persist"] * count)
            while not (before := running.stored()):  # time the storing, not the start
                time.sleep(0.02)
            begun = time.perf_counter()
            while running.stored() < steps // 8 * 8:
                time.sleep(0.05)
            seconds[count] = (time.perf_counter() - begun) / (steps - before)
            print(f"{count} persist: {1 / seconds[count]:,.0f} steps/s", flush=True)
    return seconds[1] / seconds[2]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--measure"]:
            measure()
        case ["--factor"]:
            print(f"two persist processes: {factor():.2f} times one")
        case _:
            print(table(), end="")
