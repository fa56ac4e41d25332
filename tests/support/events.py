"""Records of every kind, and a worker's stream of them put on Kafka without any producer of ours."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Producer

from schemas.codec import Encoder, current_schema
from schemas.topics import Kind

EVENT_TIME = 1_764_000_000_000_000


def record(
    kind: Kind, seq: int, *, run_id: str = "run", stream_id: str = "stream", **own: Any
) -> dict[str, Any]:
    """A record with every field of its schema, null where `own` says nothing."""
    common = {"run_id": run_id, "stream_id": stream_id, "seq": seq, "agent_id": "agent", "worker_id": None,
              "event_time": EVENT_TIME + seq * 1000}  # fmt: skip
    fields: dict[str, Any] = {
        Kind.STEPS: {"episode_index": seq // 20, "step_index": seq % 20, "observation": f'{{"row":{seq}}}',
                     "action": str(seq % 4), "reward": 0.5, "metrics": '{"epsilon": 0.1}'},
        Kind.EPISODES: {"episode_index": seq // 20, "episode_return": float(seq), "episode_length": 20},
        Kind.METRICS: {"global_step": seq, "metrics": '{"loss": 0.5}'},
        Kind.RUNS: {"event": "heartbeat", "payload": "{}"},
        Kind.LOGS: {"source": "stdout", "line": f"line {seq}"},
        Kind.FRAMES: {"media_type": "image/png", "data": b"png", "thinned": 0},
        Kind.ROLLOUTS: {"group_id": "0", "sample_id": str(seq), "attempt": 1, "superseded": False,
                        "reward": 0.5, "turns": 1, "status": "ok", "format": "sdk",
                        "sample_key": f"train/0/0/{seq}", "scope": "0", "generation": 1, "precedence": 0},
        Kind.TOKENS: {"length": 1, "names": '["token_ids"]', "arrays": b"x"},
        Kind.DLQ: {"reason": "broken_json", "message": "cut off", "raw": b"{", "producer_version": "0"},
    }[kind]  # fmt: skip
    absent = {field["name"]: None for field in current_schema(kind)["fields"]}
    return absent | common | fields | own


def run_event(
    seq: int, event: str, *, run_id: str = "run", stream_id: str = "stream", **payload: Any
) -> dict[str, Any]:
    """A record of the runs topic."""
    return record(
        Kind.RUNS, seq, run_id=run_id, stream_id=stream_id, event=event, payload=json.dumps(payload)
    )


def mixed(
    count: int, *, run_id: str = "run", stream_id: str = "stream", start: int = 1
) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """What a worker prints: mostly steps, an episode every 20 lines, a metric, a log line, a broken one."""
    others = {0: Kind.EPISODES, 7: Kind.METRICS, 11: Kind.LOGS, 13: Kind.DLQ}
    for seq in range(start, start + count):
        kind = others.get(seq % 20, Kind.STEPS)
        yield kind, record(kind, seq, run_id=run_id, stream_id=stream_id)


class Stream:
    """Sends records, keyed by their run; counts what it sent."""

    def __init__(self, bootstrap_servers: str, prefix: str, **properties: Any) -> None:
        self.prefix = prefix
        self.sent: Counter[Kind] = Counter()
        self._encoders = {kind: Encoder(kind) for kind in Kind}
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "enable.idempotence": True, "linger.ms": 5,
             "message.timeout.ms": 0, "partitioner": "murmur2_random", "log_level": 2, **properties}
        )  # fmt: skip

    def send(self, kind: Kind, fields: dict[str, Any], **options: Any) -> None:
        """Put one record on its topic."""
        self.raw(kind, self._encoders[kind](fields), fields["run_id"].encode(), **options)

    def raw(self, kind: Kind, value: bytes | None, key: bytes | None = b"run", **options: Any) -> None:
        """Put bytes on a kind's topic."""
        self.sent[kind] += 1
        while True:
            try:
                return self._producer.produce(kind.topic(self.prefix), value, key, **options)
            except BufferError:
                self._producer.poll(0.1)

    def flush(self) -> None:
        """Wait until Kafka has everything."""
        assert self._producer.flush(60) == 0


def until(condition: Any, seconds: float = 30, every: float = 0.05) -> Any:
    """Wait until a condition is true; returns its result."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(every)
    return found
