"""From records to Redis' commands: what one poll brought, packed. Pure: no clock, no client.

state.add(kind, record, timestamp_ms, size)     for every record of a poll
state.unknown()                                 runs and agents whose sums Redis may hold: restore them
commands = state.commands(now, now_us)          everything to write now, in order
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from consumers import live_records as records
from consumers.fold import Fold, Record, RunState
from consumers.live_agents import Agent, Rate, Run
from schemas import live
from schemas.live import FIELD, Keys, LogsEntry, MetricsEntry
from schemas.topics import META_SUFFIX, Kind

Command = tuple[bytes | str | int | float, ...]

ROWS_EVERY_S = 0.25
"""Counters are written this often; steps, episodes and frames with every poll."""
KEEP_S = 6 * 60 * 60
"""What nobody has written to for so long expires: SQL has it."""
RENEW_S = 60.0
FORGET_S = 600.0
"""An agent silent for so long is restored from Redis when it is heard again."""
MOST_RUNS = 500
MOST_METRIC_ENTRIES = 2_000
MOST_LOG_ENTRIES = 1_000
CELLS_AT_ONCE = 500
"""Lua's stack takes some thousand arguments of one command."""
AGENT_BYTES = (32 * 1024, 4 * 1024 * 1024)
"""The least and the most of the memory that one agent's steps get."""

_TIMES = ("started_at", "ended_at")
_COUNTED = {
    Kind.STEPS: "steps",
    Kind.EPISODES: "episodes",
    Kind.METRICS: "metrics",
    Kind.RUNS: "run_events",
    Kind.LOGS: "logs",
    Kind.FRAMES: "frames",
    Kind.DLQ: "dead_letters",
}


class LiveState:
    """What came and is not written yet, and the sums of the runs and agents that are active.

    Args:
        keys: of Redis.
        buffer_steps: newest steps that are kept of an agent.
        buffer_bytes: memory for the steps of all agents together.
    """

    def __init__(self, keys: Keys, buffer_steps: int, buffer_bytes: int) -> None:
        self._keys = keys
        self._buffer_steps = buffer_steps
        self._buffer_bytes = buffer_bytes
        self._fold = Fold()
        self._runs: dict[str, Run] = {}
        self._agents: dict[tuple[str, str], Agent] = {}
        self._marks: dict[tuple[Kind, str], int] = {}
        self._unknown_runs: dict[str, Run] = {}
        self._unknown_agents: dict[tuple[str, str], Agent] = {}
        self._pending: dict[int, Agent] = {}
        self._dirty_runs: dict[str, Run] = {}
        self._dirty_agents: dict[tuple[str, str], Agent] = {}
        self._born = False
        self._rows_at = 0.0
        self.records = Rate()

    def add(self, kind: Kind, record: Record, timestamp_ms: int, size: int, partition: int = 0) -> None:
        """Take one record.

        Args:
            kind: what it is.
            record: its fields.
            timestamp_ms: Kafka's time of it.
            size: bytes of its value.
            partition: where it lies: a run's records wait there.
        """
        if self._again(kind, record):
            return
        self.records.add()
        run = self._run(record["run_id"])
        run.partition = partition
        run.seen(timestamp_ms)
        if kind is not Kind.FRAMES:
            self._fold.add(kind, record, timestamp_ms * 1000)
        if kind is Kind.STEPS:
            self._add_step(run, record, timestamp_ms, size)
        elif kind is Kind.EPISODES:
            self._add_episode(run, record, timestamp_ms, size)
        else:
            self._add_other(kind, run, record)
        if kind is Kind.FRAMES or not record["stream_id"].endswith(META_SUFFIX):
            run.count(_COUNTED[kind])
        self._dirty_runs[run.run_id] = run

    def _again(self, kind: Kind, record: Record) -> bool:
        """It was seen before: a forwarder that was killed repeats its last window."""
        stream, seq = (kind, record["stream_id"]), record["seq"]
        if seq <= self._marks.get(stream, -1):
            return True
        self._marks[stream] = seq
        return False

    def _run(self, run_id: str) -> Run:
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = self._unknown_runs[run_id] = Run(run_id)
        return run

    def _agent(self, record: Record) -> Agent:
        key = (record["run_id"], record["agent_id"])
        agent = self._agents.get(key)
        if agent is None:
            agent = self._agents[key] = self._unknown_agents[key] = Agent(*key)
        self._pending[id(agent)] = self._dirty_agents[key] = agent
        return agent

    def _add_step(self, run: Run, record: Record, at_ms: int, size: int) -> None:
        made, agent = records.step(record, size), self._agent(record)
        agent.add_step(made, at_ms)
        run.rate.add()
        if records.has_grid(made.extras):
            assert made.extras is not None
            agent.grid = (made, made.extras)

    def _add_episode(self, run: Run, record: Record, at_ms: int, size: int) -> None:
        agent = self._agent(record)
        made = records.episode(record, size)
        before = len(agent.newest), agent.newest[-1:] if False else None
        del before
        agent.add_episode(made, at_ms)
        value = made.episode_return
        if value is not None and value - value == 0:  # finite
            run.newest.append(value)

    def _add_other(self, kind: Kind, run: Run, record: Record) -> None:
        if kind is Kind.METRICS:
            point = records.metric_point(record)
            if point is not None:
                run.metrics.append(point)
        elif kind is Kind.LOGS:
            run.logs.append(records.log_row(record))
        elif kind is Kind.FRAMES:
            self._agent(record).frame = records.frame(record)
            run.count("thinned", record["thinned"])
        elif kind is Kind.RUNS:
            run.told = True
            if record["event"] == "heartbeat" and record["payload"]:
                run.heartbeat = record["payload"]
