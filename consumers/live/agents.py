"""The pending records and totals of agents and runs between two writes to Redis. Pure.

A Redis stream is capped by steps and by bytes: it holds as many entries as the wanted number of steps needs,
within its share of the memory.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from consumers.live import records
from schemas import live
from schemas.live import (
    AgentReturns,
    AgentSteps,
    HeldAgent,
    HeldRun,
    LiveEpisode,
    LiveFrame,
    LiveStep,
    LogRow,
    MetricPoint,
)
from schemas.topics import Kind

RETURNS = 100
"""Newest returns that are kept, of an agent and of a run."""
RATE_S = 2.0
"""Rates are means over about this many seconds."""
LEAST_ENTRIES = 20
NOT_LIVE_US = 3_600_000_000
"""A step that is older on arrival comes from an old file: its delay counts as 0."""
ENTRY_BYTES = 128 * 1024
"""Steps of one poll that are larger are split over several entries, as caps count entries."""


class Rate:
    """Events per second, smoothed."""

    __slots__ = ("_at", "_count", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._count = 0
        self._at: float | None = None

    def add(self, count: int = 1) -> None:
        """Count events."""
        self._count += count

    def take(self, now: float) -> float:
        """The rate now, in events per second; `now` in seconds of a monotonic clock."""
        if self._at is None:
            self._at, self._count = now, 0  # it is unknown how long these took
        elif now > self._at:
            passed = now - self._at
            share = 1 - math.exp(-passed / RATE_S)
            self.value += share * (self._count / passed - self.value)
            self._at, self._count = now, 0
        return self.value


class Cap:
    """How many entries a stream may hold, by the average size of its entries."""

    __slots__ = ("_bytes", "_rows")

    def __init__(self) -> None:
        self._bytes = self._rows = 0.0

    def entries(self, rows: int, size: int, most_rows: int, most_bytes: int) -> int:
        """Entries to keep, after one with so many rows and bytes was added."""
        grow = 1.0 if not self._rows else 0.05
        self._rows += grow * (rows - self._rows)
        self._bytes += grow * (size - self._bytes)
        by_rows, by_bytes = most_rows / max(self._rows, 1), most_bytes / max(self._bytes, 1)
        return max(LEAST_ENTRIES if by_bytes > LEAST_ENTRIES else 1, int(min(by_rows, by_bytes)))


@dataclass(slots=True)
class Agent:
    """An agent's pending records, and the totals that go into its rows."""

    run_id: str
    agent_id: str
    steps: list[LiveStep] = field(default_factory=list)
    steps_bytes: int = 0
    episodes: list[LiveEpisode] = field(default_factory=list)
    frame: LiveFrame | None = None
    grid: LiveStep | None = None
    """The newest step with a grid in its extras; when it is written, the grid becomes a picture."""
    sums: AgentSteps = field(default_factory=AgentSteps)
    returns: AgentReturns = field(default_factory=AgentReturns)
    newest: deque[float] = field(default_factory=lambda: deque(maxlen=RETURNS))
    rate: Rate = field(default_factory=Rate)
    steps_cap: Cap = field(default_factory=Cap)
    episodes_cap: Cap = field(default_factory=Cap)
    new: bool = True
    """Redis has no row of the agent yet."""
    keys: dict[str, str] = field(default_factory=dict)
    """Redis stream → its key, kept because quoting costs more than packing."""
    expires_set: dict[str, float] = field(default_factory=dict)
    """Redis stream → time of the last renewal of its expiry."""
    renewed: float = math.inf
    """The newest of these times; inf before the first."""

    def add_step(self, step: LiveStep, at_ms: int, size: int) -> None:
        """Add a step of so many bytes."""
        self.steps.append(step)
        self.steps_bytes += size
        self.rate.add()
        self.sums.first_seen = self.sums.first_seen or at_ms
        self.sums.last_seen = max(self.sums.last_seen, at_ms)

    def add_episode(self, episode: LiveEpisode, at_ms: int) -> None:
        """Add an episode."""
        self.episodes.append(episode)
        self.returns.last_seen = max(self.returns.last_seen, at_ms)
        value = episode.episode_return
        if value is not None and math.isfinite(value):
            self.newest.append(value)
            self.returns.best = value if self.returns.best is None else max(self.returns.best, value)

    def restore(self, held: HeldAgent) -> None:
        """Add what Redis held before. Its newest entries have the exact number of records before them."""
        self.new = held.sums is None and held.returns is None
        if held.sums is not None:
            sums = live.AGENT_STEPS.unpack(held.sums)
            self.sums.steps, self.rate.value = sums.steps, sums.rate
            self.sums.first_seen = sums.first_seen or self.sums.first_seen
        if held.returns is not None:
            returns = live.AGENT_RETURNS.unpack(held.returns)
            self.returns.episodes = returns.episodes
            self.newest = deque([*returns.newest, *self.newest], maxlen=RETURNS)
            known = [value for value in (returns.best, self.returns.best) if value is not None]
            self.returns.best = max(known, default=None)
        if held.steps is not None:
            last = live.STEPS.unpack(held.steps)
            self.sums.steps = last.first + len(last.steps)
        if held.episodes is not None:
            newest = live.EPISODES.unpack(held.episodes)
            self.returns.episodes = newest.first + len(newest.episodes)

    def take_steps(self) -> Iterator[tuple[int, bytes]]:
        """The pending steps, packed in entries of limited size; from then on they count as written."""
        steps, size = self.steps, self.steps_bytes
        self.steps, self.steps_bytes = [], 0
        rows = max(1, len(steps) * ENTRY_BYTES // size if size > ENTRY_BYTES else len(steps))
        for begin in range(0, len(steps), rows):
            some = steps[begin : begin + rows]
            entry = live.STEPS.pack(live.StepsEntry(self.sums.steps, some))
            self.sums.steps += len(some)
            yield len(some), entry

    def take_episodes(self) -> bytes:
        """The pending episodes, packed; from then on they count as written."""
        entry = live.EPISODES.pack(live.EpisodesEntry(self.returns.episodes, self.episodes))
        self.returns.episodes += len(self.episodes)
        self.episodes = []
        return entry

    def take_frame(self) -> LiveFrame | None:
        """The pending picture."""
        frame, grid, self.frame, self.grid = self.frame, self.grid, None, None
        if frame is None and grid is not None and grid.extras is not None:
            return records.grid_frame(grid, grid.extras)
        return frame

    def row_of_steps(self, now: float) -> AgentSteps:
        """The packed totals of its steps; `now` in seconds of the clock of its rate."""
        self.sums.rate = round(self.rate.take(now), 3)
        return self.sums

    def row_of_returns(self) -> AgentReturns:
        """The packed totals of its episodes."""
        self.returns.newest = list(self.newest)
        return self.returns


@dataclass(slots=True)
class Run:
    """A run's pending records and counters."""

    run_id: str
    counts: dict[str, int] = field(default_factory=dict)
    """Counter → what was seen since the last write."""
    metrics: list[MetricPoint] = field(default_factory=list)
    logs: list[LogRow] = field(default_factory=list)
    metrics_before: int = 0
    logs_before: int = 0
    metrics_cap: Cap = field(default_factory=Cap)
    logs_cap: Cap = field(default_factory=Cap)
    newest: deque[float] = field(default_factory=lambda: deque(maxlen=RETURNS))
    rate: Rate = field(default_factory=Rate)
    last_seen: int = 0
    """Kafka's time of its newest record, ms."""
    newest_step_at: int | None = None
    """The worker's time of its newest step, µs; None after its delay was computed."""
    latency_us: float | None = None
    heartbeat: str | None = None
    told: bool = False
    """A record of the runs topic came since the last write: name, status and others may have changed."""
    status: str | None = None
    """The row as it was written last."""
    new: bool = True
    born_here: bool = False
    """Redis had no row of the run: Redis holds nothing that is not held here."""
    partition: int = 0
    expires_set: float = -math.inf
    renewed: float = math.inf
    """Time of the last renewal of the expiry; inf before the first."""
    marks: dict[tuple[Kind, str], int] = field(default_factory=dict)
    """Kind and stream → the highest seq that was seen."""

    def has_seen(self, kind: Kind, stream_id: str, seq: int) -> bool:
        """Whether this record or a later one of its kind and stream was seen; else remembers it."""
        stream = (kind, stream_id)
        if seq <= self.marks.get(stream, -1):
            return True
        self.marks[stream] = seq
        return False

    def count(self, name: str, number: int = 1) -> None:
        """Count records of a kind."""
        self.counts[name] = self.counts.get(name, 0) + number

    def add_return(self, value: float | None) -> None:
        """Add an episode of any of its agents."""
        if value is not None and math.isfinite(value):
            self.newest.append(value)

    def add_metrics(self, point: MetricPoint | None) -> None:
        """Add numbers by name, if there are any."""
        if point is not None:
            self.metrics.append(point)

    def take_metrics(self) -> bytes:
        """The pending numbers, packed; from then on they count as written."""
        entry = live.METRICS.pack(live.MetricsEntry(self.metrics_before, self.metrics))
        self.metrics_before, self.metrics = self.metrics_before + len(self.metrics), []
        return entry

    def take_logs(self) -> bytes:
        """The pending lines, packed; from then on they count as written."""
        entry = live.LOGS.pack(live.LogsEntry(self.logs_before, self.logs))
        self.logs_before, self.logs = self.logs_before + len(self.logs), []
        return entry

    def tell(self, event: str, payload: str | None) -> None:
        """Add a record of the runs topic."""
        if event != "heartbeat":
            self.told = True
        elif payload:
            self.heartbeat = payload

    def delayed(self, microseconds: float) -> None:
        """Add the time that a step took from its worker to this process, in µs."""
        known, self.newest_step_at = self.latency_us, None
        if microseconds > NOT_LIVE_US:
            self.latency_us = 0.0
        else:
            self.latency_us = microseconds if not known else known + 0.2 * (microseconds - known)

    def restore(self, held: HeldRun) -> None:
        """Add what Redis held before."""
        self.new = not held.fields
        self.last_seen = max(self.last_seen, int(held.fields.get(b"last_seen_at", 0)))
        if returns := held.fields.get(b"returns"):
            before = msgspec.msgpack.decode(returns, type=list[float])
            self.newest = deque([*before, *self.newest], maxlen=RETURNS)
        if held.metrics is not None:
            points = live.METRICS.unpack(held.metrics)
            self.metrics_before = points.first + len(points.points)
        if held.logs is not None:
            lines = live.LOGS.unpack(held.logs)
            self.logs_before = lines.first + len(lines.lines)
