"""Redis: the keys and entries that the live consumer writes and the dashboard reads.

Redis only buffers the newest records and can be emptied at any time: SQL and Kafka hold all of them.

    <prefix>buffer_id              string   names this content of Redis; missing or different: it was flushed
    <prefix>positions              hash     "<topic>:<partition>" → next offset, written with its entries
    <prefix>service                hash     `skipped`; "process:<id>" → LiveProcess, JSON
    <prefix>runs                   zset     run id → time of its newest record, ms
    <prefix>notifications          stream   field `r`: ids of runs that changed, JSON
    <prefix>deletions              stream   field `r`: id of a run that was deleted
    <prefix>run:<run>              hash     a run's columns and counters
    <prefix>run:<run>:notification stream   one entry: notifies the run's page
    <prefix>run:<run>:agents       hash     agent id → AgentSteps
    <prefix>run:<run>:returns      hash     agent id → AgentReturns
    <prefix>run:<run>:metrics      stream   field `b`: MetricsEntry
    <prefix>run:<run>:logs         stream   field `b`: LogsEntry
    <prefix>run:<run>:<agent>:steps     stream   field `b`: StepsEntry, the steps of one poll
    <prefix>run:<run>:<agent>:episodes  stream   field `b`: EpisodesEntry
    <prefix>run:<run>:<agent>:frame     stream   field `b`: LiveFrame; the newest only

Run and agent ids are percent-encoded in keys, so no id can name another key.
Entries are MessagePack arrays. Times are µs since 1970 (UTC) in entries, ms in scores and hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote

from msgspec import Struct, msgpack

FIELD = b"b"
"""The one field of a packed entry."""

LONGEST_ID = 200
"""Characters of an id in a key; a longer one is hashed."""

RUN_TEXTS = (
    "name",
    "project",
    "status",
    "reason",
    "env_id",
    "algorithm",
    "config",
    "host",
    "git_commit",
    "heartbeat",
)
"""Fields of a run's hash that hold text; `config` and `heartbeat` (its newest payload) are JSON."""

RUN_COUNTERS = ("steps", "episodes", "metrics", "run_events", "logs", "frames", "dead_letters", "thinned")
"""Counters in a run's hash: records that the live path has seen."""


@dataclass(frozen=True)
class Keys:
    """Every key, with the prefix of the settings."""

    prefix: str

    @property
    def buffer_id(self) -> str:
        """Names the content of this Redis."""
        return f"{self.prefix}buffer_id"

    @property
    def positions(self) -> str:
        """The next offset of each partition that the live consumer reads."""
        return f"{self.prefix}positions"

    @property
    def service(self) -> str:
        """The state of the live processes."""
        return f"{self.prefix}service"

    @property
    def runs(self) -> str:
        """All runs in the buffer, by the time of their newest record."""
        return f"{self.prefix}runs"

    @property
    def notifications(self) -> str:
        """Notifies the pages that show the list of runs."""
        return f"{self.prefix}notifications"

    @property
    def deletions(self) -> str:
        """Tells the live processes which runs were deleted."""
        return f"{self.prefix}deletions"

    def of_run(self, run_id: str, agent_ids: Iterable[str]) -> list[str]:
        """Every key of a run and of these agents."""
        parts = ("", "notification", "agents", "returns", "metrics", "logs")
        agents = [
            self.agent(run_id, agent_id, what)
            for agent_id in agent_ids
            for what in ("steps", "episodes", "frame")
        ]
        return [*(self.run(run_id, what) for what in parts), *agents]

    def run(self, run_id: str, what: str = "") -> str:
        """A run's hash, or one of its keys: notification, agents, returns, metrics, logs."""
        key = f"{self.prefix}run:{quoted(run_id)}"
        return f"{key}:{what}" if what else key

    def agent(self, run_id: str, agent_id: str, what: str) -> str:
        """One of an agent's keys: steps, episodes, frame."""
        return f"{self.prefix}run:{quoted(run_id)}:{quoted(agent_id)}:{what}"


def quoted(name: str) -> str:
    """An id as a part of a key: without colon, blank or line end, at most 200 characters."""
    text = quote(name, safe="", errors="replace")
    if len(text) <= LONGEST_ID:
        return text
    return "~" + hashlib.sha256(name.encode(errors="replace")).hexdigest()


class LiveStep(Struct, array_like=True, dict=True):
    """A step as the page shows it. `action`, `observation`, `info`, `metrics`, `extras` are JSON texts.

    `__dict__` keeps what readers have made of it.
    """

    stream_id: str
    seq: int
    event_time: int
    episode_index: int | None
    step_index: int | None
    action: str | None
    reward: float | None
    terminated: bool | None
    truncated: bool | None
    observation: str | None
    info: str | None
    metrics: str | None
    extras: str | None


class LiveEpisode(Struct, array_like=True, dict=True):
    """A finished episode as the page shows it. `metrics` and `extras` are JSON texts.

    `__dict__` keeps what readers have made of it.
    """

    stream_id: str
    seq: int
    event_time: int
    worker_id: str | None
    episode_index: int | None
    episode_return: float | None
    episode_length: int | None
    terminated: bool | None
    truncated: bool | None
    seed: int | None
    duration: float | None
    metrics: str | None
    extras: str | None


class LiveFrame(Struct, array_like=True):
    """A picture. A grid is one of media type `application/json`: its data is the worker's render payload."""

    event_time: int
    episode_index: int | None
    step_index: int | None
    media_type: str
    width: int | None
    height: int | None
    thinned: int
    data: bytes


class MetricPoint(Struct, array_like=True):
    """Numbers by name at a global step."""

    event_time: int
    agent_id: str
    global_step: int | None
    metrics: dict[str, float | None]


class LogRow(Struct, array_like=True):
    """A line of a worker's other output."""

    event_time: int
    agent_id: str
    worker_id: str | None
    source: str
    line: str


class StepsEntry(Struct, array_like=True):
    """The steps of one poll. `first`: the number of the first among all steps seen, from 0."""

    first: int
    steps: list[LiveStep]


class EpisodesEntry(Struct, array_like=True):
    """The episodes of one poll. `first` as in StepsEntry."""

    first: int
    episodes: list[LiveEpisode]


class MetricsEntry(Struct, array_like=True):
    """The metric points of one poll."""

    first: int
    points: list[MetricPoint]


class LogsEntry(Struct, array_like=True):
    """The log lines of one poll."""

    first: int
    lines: list[LogRow]


class AgentSteps(Struct, array_like=True):
    """Totals over an agent's steps. Times in ms; `rate` in steps per second."""

    steps: int = 0
    rate: float = 0.0
    first_seen: int = 0
    last_seen: int = 0


class AgentReturns(Struct, array_like=True):
    """Totals over an agent's episodes. `newest`: the last returns, oldest first, at most a hundred."""

    episodes: int = 0
    best: float | None = None
    last_seen: int = 0
    newest: list[float] = []


class LiveProcess(Struct, array_like=True):
    """State of a live process: its time (`at`, ms), records that wait on Kafka, records per second."""

    at: int
    lag: int
    rate: float


class HeldRun(NamedTuple):
    """What Redis holds of a run: its hash, the newest entry of its metrics and of its logs."""

    fields: Mapping[bytes, bytes]
    metrics: bytes | None
    logs: bytes | None


class HeldAgent(NamedTuple):
    """What Redis holds of an agent: its totals, the newest entry of its steps and of its episodes."""

    sums: bytes | None
    returns: bytes | None
    steps: bytes | None
    episodes: bytes | None


T = TypeVar("T")


class Packed(Generic[T]):
    """Writes and reads one kind of entry."""

    def __init__(self, kind: type[T]) -> None:
        self.pack = msgpack.Encoder().encode
        self.unpack = msgpack.Decoder(kind).decode


STEPS = Packed(StepsEntry)
EPISODES = Packed(EpisodesEntry)
METRICS = Packed(MetricsEntry)
LOGS = Packed(LogsEntry)
FRAME = Packed(LiveFrame)
AGENT_STEPS = Packed(AgentSteps)
AGENT_RETURNS = Packed(AgentReturns)
