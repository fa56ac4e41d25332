"""What the live buffer answers: rows, views and deltas. All of it encodes with `msgspec.json` as it is.

Times are ms since 1970 (UTC) in rows; µs in steps, episodes, frames, metrics and logs, as in
`schemas.live`. Names in JSON texts are the worker's own: hostile input to whoever draws them.
"""

from __future__ import annotations

from msgspec import Struct, field

from schemas.live import LiveEpisode, LiveFrame, LiveStep, LogRow, MetricPoint


class ServiceRow(Struct):
    """The live path as a whole, over all its processes."""

    at: int = 0
    """When a live process last said so, ms; 0: none has since Redis is empty."""
    silent_seconds: float = 0.0
    skipped: int = 0
    """Records that were jumped over, so that the newest are shown."""
    lag: int = 0
    """Records that wait on Kafka."""
    rate: float = 0.0
    """Records per second."""


class RunRow(Struct):
    """A run as the live path knows it. What came before Redis was filled is only in SQL."""

    run_id: str
    name: str = ""
    project: str = ""
    status: str = "running"
    """running, completed, failed, cancelled, or lost: running, but silent for longer than the setting."""
    reason: str = ""
    env_id: str = ""
    algorithm: str = ""
    host: str = ""
    git_commit: str = ""
    config: str = ""
    """JSON text."""
    heartbeat: str = ""
    """JSON text: payload of the newest heartbeat (what the forwarder has emitted and sent)."""
    started_at: int = 0
    ended_at: int = 0
    last_seen_at: int = 0
    silent_seconds: float = 0.0
    agents: int = 0
    steps: int = 0
    episodes: int = 0
    metrics: int = 0
    run_events: int = 0
    logs: int = 0
    frames: int = 0
    dead_letters: int = 0
    thinned: int = 0
    """Pictures left out at the source."""
    steps_per_second: float = 0.0
    mean_return: float | None = None
    """Of the newest hundred episodes, all agents together."""
    returns: list[float] = field(default_factory=list)
    """Newest returns, oldest first, at most 60: a sparkline."""
    latency_ms: float = 0.0
    """Worker's time of event → written to Redis, of the newest steps."""
    lag: int = 0
    """Records of the run's partition that wait on Kafka."""


class AgentRow(Struct, omit_defaults=True):
    """An agent of a run, compact: there may be thousands, so what is 0 or not known is left out."""

    agent_id: str
    steps: int = 0
    episodes: int = 0
    steps_per_second: float = 0.0
    newest_return: float | None = None
    mean_return: float | None = None
    """Of its newest hundred episodes."""
    best_return: float | None = None
    returns: list[float] = field(default_factory=list)
    """Newest returns, oldest first, at most 30."""
    first_seen_at: int = 0
    last_seen_at: int = 0


class View(Struct, frozen=True):
    """What is on screen. Without `run_id`: the list of runs."""

    run_id: str | None = None
    agent_id: str | None = None
    """The agent whose tab is open: its steps, episodes and frame are wanted."""
    agents: bool = True
    """The run's list of agents is on screen (rows at most once a second)."""
    metrics: bool = False
    """The run's metric charts are on screen."""
    logs: bool = False
    """The run's log is on screen."""
    max_steps: int = 100
    """A delta holds at most this many steps: no eye follows more in a frame, and they make the next one late.
    The others are left out and counted."""


class Delta(Struct):
    """What came after the cursor, for what is on screen. Empty lists and None: nothing new of it."""

    cursor: str
    """Pass it to the next `wait` once this delta is painted."""
    reset: bool = False
    """The page must replace what it shows, not append: a first delta, or Redis was filled anew."""
    gap: bool = False
    """Something between the cursor and this delta is no longer in Redis (SQL has it)."""
    missed: int = 0
    """How many of the agent's steps lie in the gap."""
    thinned: int = 0
    """Steps left out of `steps`, as nobody can follow more. Those with the least and most reward stay."""
    steps: list[LiveStep] = field(default_factory=list)
    episodes: list[LiveEpisode] = field(default_factory=list)
    frame: LiveFrame | None = None
    run: RunRow | None = None
    agent: AgentRow | None = None
    """The open agent's row."""
    agents: list[AgentRow] = field(default_factory=list)
    """New and changed agents of the run."""
    runs: list[RunRow] = field(default_factory=list)
    """New and changed runs; only for the list of runs."""
    metrics: list[MetricPoint] = field(default_factory=list)
    logs: list[LogRow] = field(default_factory=list)
    service: ServiceRow | None = None

    @property
    def empty(self) -> bool:
        """Nothing to paint: the time-out came first."""
        return not (
            self.reset
            or self.gap
            or self.steps
            or self.episodes
            or self.frame
            or self.run
            or self.agents
            or self.runs
            or self.metrics
            or self.logs
        )
