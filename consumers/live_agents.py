"""What the live path holds of an agent and of a run between two writes to Redis. Pure.

Packed entries are capped by steps and by bytes: a stream may hold as many entries as the wanted steps
fill, and no more than its share of the memory.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from schemas.live import (
    EPISODES as PACKED_EPISODES,
)
from schemas.live import (
    STEPS as PACKED_STEPS,
)
from schemas.live import (
    AgentReturns,
    AgentSteps,
    EpisodesEntry,
    LiveEpisode,
    LiveFrame,
    LiveStep,
    LogRow,
    MetricPoint,
    StepsEntry,
)

RETURNS = 100
"""Newest returns that are kept, of an agent and of a run."""
RATE_S = 2.0
"""Rates are means over about so long."""
LEAST_ENTRIES = 20


class Rate:
    """Events per second, smoothed."""

    __slots__ = ("_at", "_count", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._count = 0
        self._at: float | None = None

    def add(self, count: int = 1) -> None:
        """So many more."""
        self._count += count

    def take(self, now: float) -> float:
        """The rate now (seconds of any clock that only goes forward)."""
        if self._at is None:
            self._at, self._count = now, 0  # how long these took to come is not known
        elif now > self._at:
            passed = now - self._at
            share = 1 - math.exp(-passed / RATE_S)
            self.value += share * (self._count / passed - self.value)
            self._at, self._count = now, 0
        return self.value


class Cap:
    """How many entries a stream may hold, by what its entries are like."""

    __slots__ = ("_bytes", "_rows")

    def __init__(self) -> None:
        self._bytes = self._rows = 0.0

    def entries(self, rows: int, size: int, most_rows: int, most_bytes: int) -> int:
        """Entries to keep, now that one of so many rows and bytes is added."""
        grow = 1.0 if not self._rows else 0.05
        self._rows += grow * (rows - self._rows)
        self._bytes += grow * (size - self._bytes)
        by_rows, by_bytes = most_rows / max(self._rows, 1), most_bytes / max(self._bytes, 1)
        return max(LEAST_ENTRIES if by_bytes > LEAST_ENTRIES else 1, int(min(by_rows, by_bytes)))


@dataclass(slots=True)
class Agent:
    """An agent's pending records, and the sums that go into its rows."""

    run_id: str
    agent_id: str
    steps: list[LiveStep] = field(default_factory=list)
    episodes: list[LiveEpisode] = field(default_factory=list)
    frame: LiveFrame | None = None
    grid: tuple[LiveStep, str] | None = None
    """The newest step with a grid in its extras, and the extras: turned into a frame when written."""
    sums: AgentSteps = field(default_factory=AgentSteps)
    returns: AgentReturns = field(default_factory=AgentReturns)
    newest: deque[float] = field(default_factory=lambda: deque(maxlen=RETURNS))
    rate: Rate = field(default_factory=Rate)
    cap: Cap = field(default_factory=Cap)
    new: bool = True
    """Redis has no row of it yet."""
    expires_set: float = -math.inf

    def add_step(self, step: LiveStep, at_ms: int) -> None:
        """Take a step."""
        self.steps.append(step)
        self.rate.add()
        self.sums.first_seen = self.sums.first_seen or at_ms
        self.sums.last_seen = max(self.sums.last_seen, at_ms)

    def add_episode(self, episode: LiveEpisode, at_ms: int) -> None:
        """Take an episode."""
        self.episodes.append(episode)
        self.returns.last_seen = max(self.returns.last_seen, at_ms)
        value = episode.episode_return
        if value is not None and math.isfinite(value):
            self.newest.append(value)
            self.returns.best = value if self.returns.best is None else max(self.returns.best, value)

    def restore(self, sums: AgentSteps | None, returns: AgentReturns | None) -> None:
        """Put what Redis held below what came since."""
        if sums is not None:
            self.new = False
            self.sums.steps = sums.steps
            self.sums.first_seen = sums.first_seen or self.sums.first_seen
            self.rate.value = sums.rate
        if returns is not None:
            self.new = False
            since = list(self.newest)
            self.newest.clear()
            self.newest.extend([*returns.newest, *since])
            self.returns.episodes = returns.episodes
            known = [value for value in (returns.best, self.returns.best) if value is not None]
            self.returns.best = max(known, default=None)

    def take_steps(self) -> bytes:
        """The pending steps, packed; they count as written."""
        entry = PACKED_STEPS.pack(StepsEntry(self.sums.steps, self.steps))
        self.sums.steps += len(self.steps)
        self.steps = []
        return entry

    def take_episodes(self) -> bytes:
        """The pending episodes, packed; they count as written."""
        entry = PACKED_EPISODES.pack(EpisodesEntry(self.returns.episodes, self.episodes))
        self.returns.episodes += len(self.episodes)
        self.episodes = []
        return entry


@dataclass(slots=True)
class Run:
    """A run's pending records and counters."""

    run_id: str
    counts: dict[str, int] = field(default_factory=dict)
    """Counter → what was seen since the last row."""
    metrics: list[MetricPoint] = field(default_factory=list)
    logs: list[LogRow] = field(default_factory=list)
    metrics_before: int = 0
    logs_before: int = 0
    newest: deque[float] = field(default_factory=lambda: deque(maxlen=RETURNS))
    rate: Rate = field(default_factory=Rate)
    last_seen: int = 0
    latency_us: float | None = None
    heartbeat: str | None = None
    told: bool = False
    """A record of the runs topic came since the last row: name, status and the rest may be new."""
    new: bool = True
    partition: int = 0
    expires_set: float = -math.inf

    def count(self, name: str, number: int = 1) -> None:
        """So many more of a kind."""
        self.counts[name] = self.counts.get(name, 0) + number

    def seen(self, at_ms: int) -> None:
        """A record of this Kafka time came."""
        self.last_seen = max(self.last_seen, at_ms)

    def delayed(self, microseconds: float) -> None:
        """A step took so long from its worker to here."""
        known = self.latency_us
        self.latency_us = microseconds if known is None else known + 0.2 * (microseconds - known)
