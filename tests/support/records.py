"""Records made by hand, and a way to put them on Kafka: for tests of what reads Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from infra.kafka import client as kafka
from infra.settings import Settings
from schemas.codec import Encoder, current_schema
from schemas.topics import Kind

Record = dict[str, Any]


def record(kind: Kind, run_id: str = "run", agent_id: str = "a", seq: int = 1, **fields: Any) -> Record:
    """A record of a kind; fields that are not named are null, 0 or empty."""
    blank: dict[str, Any] = {"string": "", "long": 0, "bytes": b"", "int": 0}
    made = {}
    for field in current_schema(kind)["fields"]:
        type_ = field["type"]
        made[field["name"]] = None if isinstance(type_, list) else blank.get(str(type_), 0)
    return made | {
        "run_id": run_id,
        "agent_id": agent_id,
        "stream_id": fields.pop("stream_id", f"s-{run_id}"),
        "seq": seq,
        "event_time": fields.pop("event_time", time.time_ns() // 1000),
        **fields,
    }


def step(seq: int, run_id: str = "run", agent_id: str = "a", **fields: Any) -> Record:
    """A step: number `seq` of its stream."""
    given = {"episode_index": 0, "step_index": seq - 1, "reward": 1.0, "action": "2"} | fields
    return record(Kind.STEPS, run_id, agent_id, seq, **given)


class Sender:
    """Puts records on Kafka, as the forwarder does."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._producer = kafka.producer(settings, **{"linger.ms": 1})
        self._encoders = {kind: Encoder(kind) for kind in Kind}

    def send(self, kind: Kind, records: Iterable[Record], timestamp: int = 0) -> None:
        """Send records and wait until Kafka has them; `timestamp` is Kafka's in ms, where 0 is now."""
        for item in records:
            self._producer.produce(
                kind.topic(self._prefix),
                self._encoders[kind](item),
                key=item["run_id"].encode(),
                timestamp=timestamp,
            )
            self._producer.poll(0)
        assert self._producer.flush(30) == 0
