"""The live path from Kafka to Redis to a page's delta. A latency begins at the worker's time of the step."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil
import redis as redis_client
from confluent_kafka import Consumer, TopicPartition

from benchmarks.harness import Row, Unmeasured, harmonic, interleaved
from consumers.live.state import LiveState
from dashboard.live.buffer import LiveBuffer, View
from infra import settings as settings_module
from infra.embedded.jars import class_path
from infra.embedded.kafka import KafkaServer
from infra.embedded.valkey import ValkeyServer
from infra.kafka import client as kafka
from infra.kafka import topics
from infra.redis.live_store import LiveStore
from infra.settings import Settings
from schemas.codec import Decoder, Encoder, current_schema
from schemas.errors import StepstreamError
from schemas.live import Keys
from schemas.topics import Kind

PROGRAM = Path(sys.executable).with_name("stepstream")
SECONDS = 9.0
MANY = 40_000
_VALUES: dict[str, Any] = {
    "observation": "[0.0123, -0.0456, 0.0789, -0.0321]",
    "action": "1",
    "reward": 1.0,
    "terminated": False,
    "truncated": False,
    "info": '{"TimeLimit": 500}',
    "metrics": '{"epsilon": 0.31, "q_before": 0.11, "q_after": 0.2, "loss": 0.05}',
}


def kafka_to_redis() -> Row:
    """Measure the records per second that one process packs from a backlog into Redis."""
    with _stack() as settings:
        parts = _Parts(settings)
        rates = interleaved({
            "whole": parts.whole, "consume": parts.consume, "decode": parts.decode, "pack": parts.pack,
            "write": parts.write, "peer": parts.peer,
        })  # fmt: skip
    limit = harmonic(*(rates[name].best for name in ("consume", "decode", "pack", "write")))
    return Row(
        "Kafka → Redis, steps of 10 agents in polls of 2,000",
        rates["whole"].best,
        "steps/s",
        limit,
        "consume + decode + pack + write",
        rates["peer"].best,
        "XADD one by one in a pipeline",
        rates["whole"].spread,
    )


def latency() -> Row:
    """Measure the p50 of a step to a page's delta at 1,000 steps/s, against a single message."""
    return _latency(0.5, 1_000, 1, "p50")


def latency_p99() -> Row:
    """Measure the p99 of a step to a page's delta at 1,000 steps/s."""
    return _latency(0.99, 1_000, 1, "p99")


def latency_of_one_in_a_thousand() -> Row:
    """Measure the p99 of one viewed agent, at 10,000 steps/s over 1,000 agents."""
    return _latency(0.99, 10_000, 1_000, "p99")


def half_a_core() -> Row:
    """Measure the CPU of the live process at 10,000 steps/s over 1,000 agents."""
    measured = _measured(10_000, 1_000)
    return Row(
        "CPU at 10,000 steps/s over 1,000 agents", measured.cores * 10_000 / measured.rate, "cores",
        goal="≤ 0.5", lower_is_better=True, note=f"{measured.rate:,.0f} steps/s were sent",
    )  # fmt: skip


def memory() -> Row:
    """Measure how much the live process grows between step 150,000 and step 600,000."""
    with _stack() as settings, _service(settings) as process:
        seen: list[float] = []
        for _ in range(20):
            _flood(settings, 30_000)
            seen.append(process.memory_info().rss / 2**20)
    first, last = median(seen[5:10]), median(seen[-5:])
    return Row(
        "memory after 600,000 steps, less that after 150,000", last - first, "MiB",
        goal="flat", lower_is_better=True, note=f"{first:.0f} → {last:.0f} MiB",
    )  # fmt: skip


@contextmanager
def _stack() -> Iterator[Settings]:
    """Start an embedded Kafka and Valkey of our own."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            jars = class_path(Path(os.environ.get("STEPSTREAM_JARS_DIR", "")))
        except StepstreamError as error:
            raise Unmeasured(str(error)) from error
        broker, valkey = KafkaServer(Path(folder) / "kafka", jars), ValkeyServer(Path(folder) / "valkey")
        broker.start()
        valkey.start()
        try:
            found = settings_module.load({
                "STEPSTREAM_HOME": folder, "STEPSTREAM_BOOTSTRAP_SERVERS": broker.address,
                "STEPSTREAM_REDIS_URL": valkey.address,
            })  # fmt: skip
            topics.ensure_topics(found)
            yield found
        finally:
            valkey.stop()
            broker.stop()


@contextmanager
def _service(settings: Settings) -> Iterator[psutil.Process]:
    """Start `stepstream live` and wait until it reads."""
    environ = os.environ | {
        "STEPSTREAM_HOME": str(settings.home),
        "STEPSTREAM_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "STEPSTREAM_REDIS_URL": settings.redis_url,
    }
    child = subprocess.Popen([PROGRAM, "live"], env=environ, stderr=subprocess.DEVNULL)
    try:
        _flood(settings, 10)
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(10)


def _step(run_id: str, agent_id: str, seq: int) -> dict[str, Any]:
    blank = {field["name"]: None for field in current_schema(Kind.STEPS)["fields"]}
    who = {"run_id": run_id, "agent_id": agent_id, "stream_id": f"s-{run_id}", "seq": seq}
    place = {"episode_index": seq // 500, "step_index": seq % 500}
    return blank | who | place | _VALUES | {"event_time": time.time_ns() // 1000}


def _flood(settings: Settings, count: int) -> None:
    """Send steps of one run, and wait until Redis has them."""
    run_id = f"flood-{time.time_ns()}"
    _send(settings, (_step(run_id, f"a{seq % 50}", seq) for seq in range(count)))
    client, key = redis_client.Redis.from_url(settings.redis_url), Keys(settings.redis_prefix).run(run_id)
    deadline = time.monotonic() + 60
    while int(client.hget(key, "steps") or 0) < count:
        if time.monotonic() > deadline:
            raise Unmeasured("the live process did not keep up")
        time.sleep(0.05)


def _send(settings: Settings, records: Iterator[dict[str, Any]]) -> None:
    producer, encode = kafka.producer(settings), Encoder(Kind.STEPS)
    topic = Kind.STEPS.topic(settings.topic_prefix)
    for record in records:
        producer.produce(topic, encode(record), key=record["run_id"].encode())
        producer.poll(0)
    producer.flush()


class _Measured(NamedTuple):
    """Delays in ms of steps and of single messages, the cores that live used, and the rate sent."""

    seen: list[float]
    floor: list[float]
    cores: float
    rate: float


@functools.cache
def _measured(rate: int, agents: int) -> _Measured:
    with _stack() as settings:
        floor = _floor(settings)
        with _service(settings) as process:
            _played(settings, rate, agents, 2.0)
            before, begun = process.cpu_times(), time.perf_counter()
            seen, sent = _played(settings, rate, agents, SECONDS)
            after, seconds = process.cpu_times(), time.perf_counter() - begun
    used = after.user + after.system - before.user - before.system
    return _Measured(seen, floor, used / seconds, sent / seconds)


def _latency(share: float, rate: int, agents: int, name: str) -> Row:
    measured = _measured(rate, agents)
    return Row(
        f"worker → a page's delta at {rate:,} steps/s over {agents:,} agents, {name}",
        _quantile(measured.seen, share), "ms",
        _quantile(measured.floor, share), f"one message, nothing else, {name}",
        goal="≤ 2 × (p50), 4 × (p99)", lower_is_better=True,
    )  # fmt: skip


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _played(settings: Settings, rate: int, agents: int, seconds: float) -> tuple[list[float], int]:
    """Let another process send steps; return one agent's delays (ms) in deltas, and the number sent."""
    run_id = f"played-{time.time_ns()}"
    sender = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live", settings.bootstrap_servers, run_id,
         str(rate), str(agents), str(seconds)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    delays = asyncio.run(_looked_at(settings, View(run_id, "a0", agents=False), sender))
    sent, _ = sender.communicate(timeout=60)
    return delays, int(sent)


async def _looked_at(settings: Settings, view: View, sender: subprocess.Popen[str]) -> list[float]:
    buffer, cursor, delays = LiveBuffer(settings), None, list[float]()
    settled = None  # leave out the first second, in which the sender connects
    while sender.poll() is None:
        delta = await buffer.wait(view, cursor, 0.5)
        now, cursor = time.time_ns() // 1000, delta.cursor
        settled = settled or (time.monotonic() + 1.0 if delta.steps else None)
        if settled and time.monotonic() > settled and not delta.reset:
            delays += [(now - step.event_time) / 1000 for step in delta.steps]
    await buffer.close()
    if not delays:
        raise Unmeasured("no step came through: the machine is too busy")
    return delays


def _floor(settings: Settings, count: int = 200) -> list[float]:
    """Return delays (ms) of single messages, produced, consumed, XADDed and XREAD without other load."""
    topic = Kind.STEPS.topic(settings.topic_prefix)
    client, stop = redis_client.Redis.from_url(settings.redis_url), threading.Event()
    consumer = Consumer(kafka.client_config(settings, **{"group.id": "floor", "enable.auto.commit": False}))
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])  # the topic is still empty

    def forward() -> None:
        while not stop.is_set():
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                client.xadd("floor", {"b": message.value()}, maxlen=10)

    thread = threading.Thread(target=forward)
    thread.start()
    producer = kafka.producer(settings, **{"linger.ms": 1})
    delays, since = list[float](), "$"
    reader = redis_client.Redis.from_url(settings.redis_url, socket_timeout=60)
    for number in range(count + 20):
        begun = time.perf_counter()
        producer.produce(topic, b"%d" % number, key=b"floor")
        producer.poll(0)
        found = reader.xread({"floor": since if number else "0-0"}, block=30_000)
        for _, entries in found.items() if isinstance(found, dict) else found:
            rows = entries[0] if isinstance(found, dict) else entries
            since = rows[-1][0]
        delays.append((time.perf_counter() - begun) * 1000)
    stop.set()
    thread.join()
    consumer.close()
    return delays[20:]


class _Parts:
    """The whole path and each of its parts alone, over the same records."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = Kind.STEPS.topic(settings.topic_prefix)
        _send(settings, (_step("run", f"a{seq % 10}", seq) for seq in range(MANY)))
        consumer = Consumer(kafka.client_config(settings, **{"group.id": "parts"}))
        partitions = consumer.list_topics(self._topic, timeout=10).topics[self._topic].partitions
        watermarks = {p: consumer.get_watermark_offsets(TopicPartition(self._topic, p)) for p in partitions}
        (self._partition,) = [p for p, (low, high) in watermarks.items() if high > low]
        consumer.close()
        self._store = LiveStore(settings)
        self._store.begin()
        self._decode = Decoder(Kind.STEPS)
        self._values = list(self._consumed())
        self._records = [self._decode(value) for value in self._values]
        self._commands = list(self._packed(self._records))
        self._numbers = itertools.count(1)

    def _consumed(self) -> Iterator[bytes]:
        consumer = Consumer(kafka.client_config(self._settings, **{"group.id": "parts"}))
        consumer.assign([TopicPartition(self._topic, self._partition, 0)])
        left = MANY
        while left:
            for message in consumer.consume(min(2_000, left), 5.0):
                left -= 1
                yield message.value() or b""
        consumer.close()

    def _packed(self, records: list[dict[str, Any]]) -> Iterator[list[Any]]:
        state = LiveState(Keys("bench:"), 5_000, 128 * 2**20)
        for begin in range(0, len(records), 2_000):
            for record in records[begin : begin + 2_000]:
                state.add(Kind.STEPS, record, 1, 300)
            state.unknown_runs.clear()
            state.unknown_agents.clear()
            yield state.commands(begin, 0, {})

    def whole(self) -> int:
        """Consume, decode, pack and write the records."""
        state = LiveState(Keys("bench:"), 5_000, 128 * 2**20)
        for number, value in enumerate(self._consumed(), 1):
            state.add(Kind.STEPS, self._decode(value), 1, len(value))
            if number % 2_000 == 0:
                state.unknown_runs.clear()
                state.unknown_agents.clear()
                self._store.write({}, {}, state.commands(number, 0, {}))
        return MANY

    def consume(self) -> int:
        """Consume the records from Kafka."""
        return sum(1 for _ in self._consumed())

    def decode(self) -> int:
        """Decode wire bytes to records."""
        for value in self._values:
            self._decode(value)
        return MANY

    def pack(self) -> int:
        """Pack records into commands."""
        for _ in self._packed(self._records):
            pass
        return MANY

    def write(self) -> int:
        """Write the commands to Redis."""
        for commands in self._commands:
            self._store.write({}, {}, commands)
        return MANY

    def peer(self) -> int:
        """Add each record with an XADD of its own, in pipelines of a thousand."""
        client = redis_client.Redis.from_url(self._settings.redis_url)
        pipe, number = client.pipeline(transaction=False), 0
        for number, value in enumerate(self._consumed(), 1):
            record = self._decode(value)
            fields = {name: str(field) for name, field in record.items() if field is not None}
            pipe.xadd(f"peer:{record['agent_id']}", fields, maxlen=5_000)  # type: ignore[arg-type]
            if number % 1_000 == 0:
                pipe.execute()
        pipe.execute()
        return number


def _play(servers: str, run_id: str, rate: str, agents: str, seconds: str) -> None:
    """Send steps at a rate and print their number."""
    settings = settings_module.load(os.environ | {"STEPSTREAM_BOOTSTRAP_SERVERS": servers})
    producer, encode = kafka.producer(settings, **{"linger.ms": 1}), Encoder(Kind.STEPS)
    topic, sent, begun = Kind.STEPS.topic(settings.topic_prefix), 0, time.perf_counter()
    record = _step(run_id, "a0", 0)
    while (passed := time.perf_counter() - begun) < float(seconds):
        for _ in range(int(passed * int(rate)) - sent):
            record |= {"seq": sent, "step_index": sent, "agent_id": f"a{sent % int(agents)}"}
            record["event_time"] = time.time_ns() // 1000
            producer.produce(topic, encode(record), key=run_id.encode())
            sent += 1
        producer.poll(0)
        time.sleep(0.001)
    producer.flush()
    sys.stdout.write(str(sent))


if __name__ == "__main__":
    _play(*sys.argv[1:])
