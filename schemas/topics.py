"""Topics: what each holds, its schema, its table, and the settings it is created with."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

DAY_MS = 24 * 60 * 60 * 1000


class Kind(StrEnum):
    """The kind of a record. Its value names the topic (without prefix) and the `.avsc` file."""

    STEPS = "steps"
    EPISODES = "episodes"
    METRICS = "metrics"
    RUNS = "runs"
    LOGS = "logs"
    FRAMES = "frames"
    ROLLOUTS = "rollouts"
    TOKENS = "tokens"
    DLQ = "dlq"

    @property
    def table(self) -> str:
        """Name of the SQL table that keeps these records; of a picture, where it lies on Kafka."""
        return _TABLES[self]

    def topic(self, prefix: str) -> str:
        """Full topic name, such as `telemetry.steps`."""
        return prefix + self.value


_TABLES = {
    Kind.STEPS: "steps",
    Kind.EPISODES: "episodes",
    Kind.METRICS: "metrics",
    Kind.RUNS: "run_events",
    Kind.LOGS: "logs",
    Kind.FRAMES: "frames",
    Kind.ROLLOUTS: "rollouts",
    Kind.TOKENS: "tokens",
    Kind.DLQ: "dead_letters",
}

LINES = (Kind.STEPS, Kind.EPISODES, Kind.METRICS, Kind.RUNS, Kind.LOGS, Kind.DLQ)
"""Every line of a worker becomes exactly one record of one of these."""

BESIDE = (Kind.FRAMES, Kind.ROLLOUTS, Kind.TOKENS)
"""One more record of a line that is a record of one of those, under the same key."""
BESIDE_FIELD = "stepstream_beside"
"""Field of a replayed line in which rollout and tokens stand that stood beside it."""

META_SUFFIX = ".meta"
"""Ends the id of a stream that stepstream itself writes; its records count in no total."""


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


class Watermarks(NamedTuple):
    """The offsets that a partition holds: from `low` up to, but without, `high`."""

    low: int
    high: int


@dataclass(frozen=True)
class TopicSpec:
    """The settings of a topic at its creation, by Kafka's names."""

    kind: Kind
    config: dict[str, str] = field(default_factory=dict)

    def name(self, prefix: str) -> str:
        """Full topic name."""
        return self.kind.topic(prefix)


MAX_RECORD_BYTES = 72 * 1024 * 1024
"""The limit of a line is 64 MiB, and a record is little larger than its line; Kafka's default is 1 MiB."""

LARGE = {"max.message.bytes": str(MAX_RECORD_BYTES)}

SPECS: tuple[TopicSpec, ...] = (
    TopicSpec(Kind.STEPS, {"retention.ms": str(7 * DAY_MS)} | LARGE),
    TopicSpec(Kind.EPISODES, {"retention.ms": str(30 * DAY_MS)} | LARGE),
    TopicSpec(Kind.METRICS, {"retention.ms": str(30 * DAY_MS)} | LARGE),
    TopicSpec(Kind.RUNS, {"retention.ms": str(30 * DAY_MS)} | LARGE),
    TopicSpec(Kind.LOGS, {"retention.ms": str(7 * DAY_MS)} | LARGE),
    TopicSpec(Kind.FRAMES, {"retention.ms": str(DAY_MS), "retention.bytes": str(1024**3)} | LARGE),
    TopicSpec(Kind.ROLLOUTS, {"retention.ms": str(7 * DAY_MS)} | LARGE),
    TopicSpec(Kind.TOKENS, {"retention.ms": str(DAY_MS)} | LARGE),
    TopicSpec(Kind.DLQ, {"retention.ms": str(30 * DAY_MS)} | LARGE),
)
