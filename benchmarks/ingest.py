"""`ingest` from JSONL to acknowledged records, beside its parts and beside a hand-written producer."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import fastavro
import msgspec
import psutil
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from benchmarks.harness import Row, harmonic, interleaved
from infra.embedded.jars import class_path
from infra.embedded.kafka import KafkaServer
from infra.kafka.client import client_config
from infra.settings import Settings, load
from producers.forward.forwarder import Forwarder
from producers.forward.stream import Stream
from producers.spool.format import READ_BYTES, about_new, now_us
from producers.spool.writer import SpoolWriter
from schemas.codec import current_schema, schema_text
from schemas.topics import Kind

PROGRAM = Path(sys.executable).with_name("stepstream")
LINES = 40_000
FILE_LINES = 600_000
WINDOW = 5000
Raw = msgspec.Raw


class _Line(msgspec.Struct, gc=False):
    type: Literal["step"]
    ts: str
    run_id: str
    agent_id: str
    worker_id: str
    episode_index: int
    step_index: int
    observation: Raw
    action: Raw
    reward: float
    terminated: bool
    truncated: bool
    info: Raw
    epsilon: Raw
    q_before: Raw


def _line(number: int) -> bytes:
    second, fraction = divmod(number * 1000, 1_000_000)
    fields = {
        "type": "step",
        "ts": f"2026-11-24T08:{second // 60 % 60:02d}:{second % 60:02d}.{fraction:06d}+00:00",
        "run_id": "01KAW0000000000000000BENCH",
        "agent_id": "agent_0",
        "worker_id": "w0",
        "episode_index": number // 200,
        "step_index": number % 200,
        "observation": [0.0273956, -0.0061123, 0.0358503, 0.0197478],
        "action": number % 2,
        "reward": 1.0,
        "terminated": False,
        "truncated": False,
        "info": {"lives": 3},
        "epsilon": round(1 / (1 + number), 6),
        "q_before": 0.125,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def _record(line: _Line, number: int) -> dict[str, Any]:
    return {
        "run_id": line.run_id,
        "stream_id": "01KAW000000000000000STREAM",
        "seq": number,
        "agent_id": line.agent_id,
        "worker_id": line.worker_id,
        "event_time": 1_795_507_200_123_456,
        "episode_index": line.episode_index,
        "step_index": line.step_index,
        "observation": str(line.observation, "utf-8"),
        "action": str(line.action, "utf-8"),
        "reward": line.reward,
        "terminated": line.terminated,
        "truncated": line.truncated,
        "info": str(line.info, "utf-8"),
        "metrics": f'{{"epsilon":{str(line.epsilon, "utf-8")},"q_before":{str(line.q_before, "utf-8")}}}',
        "extras": None,
    }


@contextmanager
def _kafka() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory() as folder:
        server = KafkaServer(Path(folder) / "kafka", class_path(Path()))
        server.start()
        try:
            yield replace(
                load({"STEPSTREAM_HOME": folder}),
                bootstrap_servers=server.address,
                topic_prefix=f"bench-{uuid.uuid4().hex[:6]}.",
                partitions=1,
            )
        finally:
            server.stop()


class _Parts:
    """The whole of `ingest` and each of its parts alone, on the same lines."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lines = [_line(number) for number in range(LINES)]
        self.file = b"\n".join(self.lines) + b"\n"
        decode = msgspec.json.Decoder(_Line).decode
        self.records = [_record(decode(line), number) for number, line in enumerate(self.lines, 1)]
        self.forwarder = Forwarder(lambda: settings)
        self.forwarder.pump()  # makes the topics
        schema = fastavro.parse_schema(current_schema(Kind.STEPS))
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, schema, self.records[0])
        self.value = b"\0\0\0\0\1" + buffer.getvalue()
        self.topic = Kind.STEPS.topic(settings.topic_prefix)
        self.producer = self._producer()

    def _producer(self) -> Producer:
        ours = {"enable.idempotence": True, "acks": "all", "compression.type": "lz4", "linger.ms": 5}
        return Producer(client_config(self.settings, **ours))

    def decode(self) -> int:
        """Decode each line into a Struct with msgspec, which leaves inner JSON as it is."""
        decode = msgspec.json.Decoder(_Line).decode
        for line in self.lines:
            decode(line)
        return LINES

    def encode(self) -> int:
        """Encode records with fastavro into one reused buffer."""
        schema = fastavro.parse_schema(current_schema(Kind.STEPS))
        buffer = io.BytesIO()
        write = fastavro.schemaless_writer
        for record in self.records:
            buffer.seek(0)
            write(buffer, schema, record)
            buffer.truncate()
            buffer.getvalue()
        return LINES

    def produce(self) -> int:
        """Produce acknowledged records with confluent-kafka, without a callback."""
        produce, value = self.producer.produce, self.value
        for start in range(0, LINES, WINDOW):
            for _ in range(start, start + WINDOW):
                produce(self.topic, value, b"01KAW0000000000000000BENCH")
            self.producer.flush()
        return LINES

    def whole(self) -> int:
        """Do what `ingest` does: spool, normalise, encode, send, and save the acknowledged checkpoint."""
        about = about_new("ingest", None, None)
        spool = SpoolWriter(self.settings, about)
        for start in range(0, len(self.file), READ_BYTES):
            spool.append(self.file[start : start + READ_BYTES], now_us())
        spool.finish()
        stream = Stream.claim(self.settings, spool.folder)
        assert stream is not None
        self.forwarder.streams = [stream]
        while self.forwarder.pump() or not stream.ended:
            pass
        stream.release()
        assert stream.checkpoint.counts == {"steps": LINES}
        return LINES

    def peer(self) -> int:
        """Send lines with json.loads, confluent's AvroSerializer and a delivery callback for each."""
        registry = SchemaRegistryClient.new_client({"url": "mock://bench"})
        strategy = {"subject.name.strategy": topic_subject_name_strategy}
        serialize = AvroSerializer(registry, schema_text("steps.v1"), conf=strategy)
        context = SerializationContext(self.topic, MessageField.VALUE)
        failed: list[object] = []

        def delivered(error: object, _message: object) -> None:
            if error is not None:
                failed.append(error)

        for number, line in enumerate(self.lines, 1):
            said = json.loads(line)
            record = {
                **{name: said[name] for name in _SAME},
                "stream_id": "01KAW000000000000000STREAM",
                "seq": number,
                "event_time": 1_795_507_200_123_456,
                "observation": json.dumps(said["observation"]),
                "action": json.dumps(said["action"]),
                "info": json.dumps(said["info"]),
                "metrics": json.dumps({"epsilon": said["epsilon"], "q_before": said["q_before"]}),
                "extras": None,
            }
            self.producer.produce(
                self.topic, serialize(record, context), said["run_id"], on_delivery=delivered
            )
            if number % 1000 == 0:
                self.producer.poll(0)
        self.producer.flush()
        assert not failed
        return LINES


_SAME = (
    *("run_id", "agent_id", "worker_id", "episode_index", "step_index"),
    *("reward", "terminated", "truncated"),
)


def jsonl_to_kafka() -> Row:
    """Measure lines to acknowledged records, against the sum of the parts and the usual code."""
    with _kafka() as settings:
        parts = _Parts(settings)
        names = ("decode", "encode", "produce", "whole", "peer")
        seen = interleaved({name: getattr(parts, name) for name in names})
    alone = (seen["decode"].best, seen["encode"].best, seen["produce"].best)
    return Row(
        what="JSONL → acknowledged on Kafka, from the file to the place kept",
        rate=seen["whole"].best,
        unit="lines/s",
        limit=harmonic(*alone),
        limit_name="msgspec + fastavro + produce",
        peer=seen["peer"].best,
        peer_name="json.loads + AvroSerializer + callback",
        spread=seen["whole"].spread,
        goal="≥ 0.8 of the limit, ≥ 2 × the peer",
        note="alone: " + ", ".join(f"{name} {seen[name].best:,.0f}" for name in names[:3]),
    )


def memory() -> Row:
    """Measure the most memory that `ingest` has while it ships a file at full speed."""
    with _kafka() as settings:
        file = settings.home / "steps.jsonl"
        with file.open("wb") as out:
            out.writelines(_line(number) + b"\n" for number in range(FILE_LINES))
        environ = os.environ | {
            "STEPSTREAM_HOME": str(settings.home),
            "STEPSTREAM_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        }
        command = [PROGRAM, "ingest", str(file)]
        child = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process, seen = psutil.Process(child.pid), []
        while child.poll() is None:
            seen.append(process.memory_info().rss / 2**20)
            time.sleep(0.05)
        assert child.returncode == 0
    quarter = len(seen) // 4
    early, late = median(seen[quarter : 2 * quarter]), median(seen[-quarter:])
    return Row(
        what=f"memory of ingest at its largest, {FILE_LINES:,} lines at full speed",
        rate=max(seen),
        unit="MiB",
        goal="flat, ≤ 150",
        lower_is_better=True,
        note=f"{early:.0f} MiB in the second quarter, {late:.0f} in the last",
    )
