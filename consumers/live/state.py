"""Turns the records of a poll into Redis commands. Pure: no clock, no client.

state.add(kind, record, timestamp_ms, size)     for every record of a poll
state.unknown_runs, state.unknown_agents        Redis may hold their totals: restore them
commands = state.commands(now, now_us, lags)    everything to write now, in order
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from consumers.live import records
from consumers.live.agents import Agent, Rate, Run
from schemas import live
from schemas.fold import Fold, Record, RunState
from schemas.live import FIELD, HeldAgent, HeldRun, Keys
from schemas.topics import META_SUFFIX, Kind

Command = tuple[bytes | str | int | float, ...]
AgentKey = tuple[str, str]

ROWS_EVERY_S = 0.25
"""Seconds between writes of counters; steps, episodes and frames are written with every poll."""
KEEP_S = 6 * 60 * 60
"""Keys without a write for this long expire: SQL has the records."""
RENEW_S = 60.0
FORGET_S = 600.0
"""A run or agent without records for this long is dropped, and restored from Redis when one comes."""
MOST_RUNS = 500
MOST_METRICS, MOST_METRIC_BYTES = 5_000, 2 * 1024 * 1024
MOST_LINES, MOST_LINE_BYTES = 2_000, 1024 * 1024
MOST_EPISODES = 5_000
CELLS_A_SECOND = 400
"""Rows of many agents are written less often, at least once a second."""
CELLS_AT_ONCE = 500
"""Arguments of one command: Lua's stack holds a few thousand."""
LEAST_BYTES, MOST_BYTES = 32 * 1024, 4 * 1024 * 1024
"""Bytes for the steps of one agent, at least and at most."""

_TIMES = ("started_at", "ended_at")
_FACTS = ("name", "project", "env_id", "algorithm", "config", "host", "git_commit")
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
    """Pending records, and the totals of active runs and agents.

    Args:
        keys: the keys in Redis.
        buffer_steps: newest steps that are kept of an agent.
        buffer_bytes: memory for the steps of all agents together.
    """

    def __init__(self, keys: Keys, buffer_steps: int, buffer_bytes: int) -> None:
        self._keys = keys
        self._buffer_steps = buffer_steps
        self._buffer_bytes = buffer_bytes
        self._fold = Fold()
        self._runs: dict[str, Run] = {}
        self._agents: dict[AgentKey, Agent] = {}
        self._pending: dict[AgentKey, Agent] = {}
        self._dirty_runs: dict[str, Run] = {}
        self._dirty_agents: dict[AgentKey, Agent] = {}
        self._rows_at = self._agents_at = self._forgot_at = 0.0
        self.unknown_runs: dict[str, Run] = {}
        self.unknown_agents: dict[AgentKey, Agent] = {}
        self.rate = Rate()
        """The fold of all records."""

    @property
    def dirty(self) -> bool:
        """Whether something is to be written."""
        return bool(self._dirty_runs or self._dirty_agents)

    def add(self, kind: Kind, record: Record, timestamp_ms: int, size: int, partition: int = 0) -> None:
        """Take one record.

        Args:
            kind: what it is.
            record: its fields.
            timestamp_ms: Kafka's time of it.
            size: bytes of its value.
            partition: the record's partition, whose lag is shown for its run.
        """
        run = self._run(record["run_id"])
        if run.has_seen(kind, record["stream_id"], record["seq"]):
            return  # a forwarder repeats its last window after a kill
        run.partition, run.last_seen = partition, max(run.last_seen, timestamp_ms)
        self.rate.add()
        self._dirty_runs[run.run_id] = run
        if kind is Kind.FRAMES:
            fits = len(record["data"]) <= records.LONGEST_FRAME
            if fits:
                self._agent(record).frame = records.frame(record)
            run.count("thinned", record["thinned"] + (not fits))
        else:
            self._fold.add(kind, record, timestamp_ms * 1000)
        if kind is Kind.STEPS:
            self._add_step(run, record, timestamp_ms, size)
        elif kind is Kind.EPISODES:
            agent = self._agent(record)
            agent.add_episode(records.episode(record, size), timestamp_ms)
            run.add_return(record["episode_return"])
        elif kind is Kind.METRICS:
            run.add_metrics(records.metric_point(record))
        elif kind is Kind.LOGS:
            run.logs.append(records.log_row(record))
        elif kind is Kind.RUNS:
            run.tell(record["event"], record["payload"])
        if not record["stream_id"].endswith(META_SUFFIX):
            run.count(_COUNTED[kind])

    def _run(self, run_id: str) -> Run:
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = self.unknown_runs[run_id] = Run(run_id)
        return run

    def _agent(self, record: Record) -> Agent:
        key = (record["run_id"], record["agent_id"])
        agent = self._agents.get(key)
        if agent is None:
            agent = self._agents[key] = Agent(*key)
            if not self._runs[agent.run_id].born_here:
                self.unknown_agents[key] = agent
        self._pending[key] = self._dirty_agents[key] = agent
        return agent

    def _add_step(self, run: Run, record: Record, timestamp_ms: int, size: int) -> None:
        made, agent = records.step(record, size), self._agent(record)
        agent.add_step(made, timestamp_ms, min(size, records.LONGEST_STEP))
        run.rate.add()
        run.newest_step_at = made.event_time
        if records.has_grid(made.extras):
            agent.grid = made

    def restore_run(self, run_id: str, held: HeldRun) -> None:
        """Add what Redis holds of a run."""
        run, since = self.unknown_runs.pop(run_id), self._fold.runs.get(run_id)
        run.restore(held)
        if not held.fields:  # then Redis has none of its agents either
            run.born_here = True
            for key in [key for key in self.unknown_agents if key[0] == run_id]:
                del self.unknown_agents[key]
        else:
            state = _held_state(run_id, held.fields)
            run.status = state.status
            if since is not None:
                state.merge(since)
            self._fold.runs[run_id] = state

    def forget(self, run_id: str) -> None:
        """Forget a deleted run: later records are the run begun again."""
        for runs in (self._runs, self._dirty_runs, self.unknown_runs, self._fold.runs):
            runs.pop(run_id, None)
        for agents in (
            self._agents,
            self._pending,
            self._dirty_agents,
            self.unknown_agents,
            self._fold.agents,
        ):
            for key in [key for key in agents if key[0] == run_id]:
                del agents[key]

    def restore_agent(self, key: AgentKey, held: HeldAgent) -> None:
        """Add what Redis holds of an agent."""
        self.unknown_agents.pop(key).restore(held)

    def commands(self, now: float, now_us: int, lags: Mapping[int, int]) -> list[Command]:
        """Every command that is to be run now.

        Args:
            now: seconds of a monotonic clock.
            now_us: the time of day, µs since 1970.
            lags: partition → records that wait in it.
        """
        out: list[Command] = []
        for agent in self._pending.values():
            out += self._entries(agent, now)
        self._pending = {}
        for run in self._dirty_runs.values():
            out += self._run_entries(run, now_us)
        out += self._rows(*self._due(now), now, lags)
        if now - self._forgot_at > RENEW_S:
            self._forgot_at = now
            self._forget(now)
        return out

    def _due(self, now: float) -> tuple[dict[str, Run], dict[AgentKey, Agent]]:
        """The runs and agents whose rows are to be written now; new ones at once."""
        runs, agents = self._dirty_runs, self._dirty_agents
        if now - self._rows_at < ROWS_EVERY_S:
            agents = {key: agent for key, agent in agents.items() if agent.new}
            runs = {key: run for key, run in runs.items() if run.new or run.told}
            return runs | {run_id: self._runs[run_id] for run_id, _ in agents}, agents
        self._dirty_runs, self._rows_at = {}, now
        if now - self._agents_at >= min(1.0, len(agents) / CELLS_A_SECOND):
            self._dirty_agents, self._agents_at = {}, now
        else:
            agents = {key: agent for key, agent in agents.items() if agent.new}
        return runs | {run_id: self._runs[run_id] for run_id, _ in agents}, agents

    def _entries(self, agent: Agent, now: float) -> Iterator[Command]:
        added: list[tuple[str, int, bytes]] = []
        share = min(MOST_BYTES, max(LEAST_BYTES, self._buffer_bytes // len(self._agents)))
        for rows, entry in agent.take_steps():
            most = agent.steps_cap.entries(rows, len(entry), self._buffer_steps, share)
            added.append(("steps", most, entry))
        if agent.episodes:
            rows, entry = len(agent.episodes), agent.take_episodes()
            most = agent.episodes_cap.entries(rows, len(entry), MOST_EPISODES, share // 4)
            added.append(("episodes", most, entry))
        if (frame := agent.take_frame()) is not None:
            added.append(("frame", 1, live.FRAME.pack(frame)))
        for what, most, entry in added:
            key = agent.keys.get(what)
            if key is None:
                key = agent.keys[what] = self._keys.agent(agent.run_id, agent.agent_id, what)
            yield ("XADD", key, "MAXLEN", "=" if what == "frame" else "~", most, "*", FIELD, entry)
            if now - agent.expires_set.get(what, 0.0) > RENEW_S:
                agent.expires_set[what] = agent.renewed = now
                yield ("EXPIRE", key, KEEP_S)

    def _run_entries(self, run: Run, now_us: int) -> Iterator[Command]:
        if run.newest_step_at is not None:
            run.delayed(now_us - run.newest_step_at)
        for name, number in run.counts.items():
            yield ("HINCRBY", self._keys.run(run.run_id), name, number)
        run.counts = {}
        if run.metrics:
            rows, entry = len(run.metrics), run.take_metrics()
            most = run.metrics_cap.entries(rows, len(entry), MOST_METRICS, MOST_METRIC_BYTES)
            yield ("XADD", self._keys.run(run.run_id, "metrics"), "MAXLEN", "~", most, "*", FIELD, entry)
        if run.logs:
            rows, entry = len(run.logs), run.take_logs()
            most = run.logs_cap.entries(rows, len(entry), MOST_LINES, MOST_LINE_BYTES)
            yield ("XADD", self._keys.run(run.run_id, "logs"), "MAXLEN", "~", most, "*", FIELD, entry)

    def _rows(
        self,
        runs: Mapping[str, Run],
        agents: Mapping[AgentKey, Agent],
        now: float,
        lags: Mapping[int, int],
    ) -> Iterator[Command]:
        if not runs:
            return
        for run_id, cells in self._agent_cells(agents, now).items():
            for what, pairs in cells.items():
                key = self._keys.run(run_id, what)
                for begin in range(0, len(pairs), CELLS_AT_ONCE):
                    some = pairs[begin : begin + CELLS_AT_ONCE]
                    yield ("HSET", key, *(part for pair in some for part in pair))
        for run in runs.values():
            yield from self._run_row(run, now, lags.get(run.partition, 0))
        yield ("ZREMRANGEBYRANK", self._keys.runs, 0, -MOST_RUNS - 1)
        named = msgspec.json.encode(list(runs))
        yield ("XADD", self._keys.notifications, "MAXLEN", "~", 100, "*", "r", named)

    def _agent_cells(
        self, agents: Mapping[AgentKey, Agent], now: float
    ) -> dict[str, dict[str, list[tuple[str, bytes]]]]:
        """Run → hash → its changed cells."""
        out: dict[str, dict[str, list[tuple[str, bytes]]]] = {}
        for agent in agents.values():
            agent.new = False
            cells = out.setdefault(agent.run_id, {"agents": [], "returns": []})
            cells["agents"].append((agent.agent_id, live.AGENT_STEPS.pack(agent.row_of_steps(now))))
            if agent.returns.episodes:
                cells["returns"].append((agent.agent_id, live.AGENT_RETURNS.pack(agent.row_of_returns())))
        return out

    def _run_row(self, run: Run, now: float, lag: int) -> Iterator[Command]:
        key = self._keys.run(run.run_id)
        state = self._fold.runs.get(run.run_id)
        numbers: list[bytes | str | int | float] = ["last_seen_at", run.last_seen, "lag", lag]
        numbers += ["rate", f"{run.rate.take(now):.3f}", "returns", msgspec.msgpack.encode(list(run.newest))]
        if run.latency_us is not None:
            numbers += ["latency_ms", f"{max(0.0, run.latency_us) / 1000:.3f}"]
        if run.heartbeat is not None:
            numbers += ["heartbeat", run.heartbeat]
        yield ("HSET", key, *numbers)
        if state is not None:
            told = run.told or run.status not in (None, state.status)
            run.status = state.status
            yield from _state_row(key, state, told)
        yield ("ZADD", self._keys.runs, "GT", run.last_seen, run.run_id)
        yield ("XADD", self._keys.run(run.run_id, "notification"), "MAXLEN", "=", 1, "*", "n", "1")
        if now - run.expires_set > RENEW_S:
            run.expires_set = run.renewed = now
            for what in ("", "notification", "agents", "returns", "metrics", "logs"):
                yield ("EXPIRE", self._keys.run(run.run_id, what), KEEP_S)
        run.new, run.told, run.heartbeat = False, False, None

    def _forget(self, now: float) -> None:
        """Drop silent runs and agents: Redis holds their totals."""
        silent = [key for key, agent in self._agents.items() if now - agent.renewed > FORGET_S]
        for key in silent:
            del self._agents[key]
            self._runs[key[0]].born_here = False
            self._fold.agents.pop(key, None)
        named = {run_id for run_id, _ in self._agents}
        old = [
            key for key, run in self._runs.items() if now - run.expires_set > FORGET_S and key not in named
        ]
        for run_id in old:
            del self._runs[run_id]
            self._fold.runs.pop(run_id, None)


def _state_row(key: str, state: RunState, told: bool) -> Iterator[Command]:
    """Fields from the runs topic. A process that read only a run's steps must not overwrite them."""
    if not told:
        yield ("HSETNX", key, "status", state.status)
        yield ("HSETNX", key, "started_at", (state.started_at or 0) // 1000)
        if state.env_id:
            yield ("HSETNX", key, "env_id", state.env_id)
        return
    facts = [part for name in _FACTS if (value := getattr(state, name)) for part in (name, value)]
    times = [part for name in (*_TIMES, "status_at") for part in (name, (getattr(state, name) or 0) // 1000)]
    yield ("HSET", key, "status", state.status, "reason", state.reason or "", *times, *facts)


def _held_state(run_id: str, fields: Mapping[bytes, bytes]) -> RunState:
    """A run's hash from its fold."""
    state = RunState(run_id)
    for name in ("status", "reason", *_FACTS):
        if text := fields.get(name.encode()):
            setattr(state, name, text.decode())
    for name in (*_TIMES, "status_at"):
        if milliseconds := int(fields.get(name.encode(), 0)):
            setattr(state, name, milliseconds * 1000)
    return state
