"""Folding records into the state of runs and agents: pure, and written once for live, replay and SQL.

A fold holds either the whole state of a run or what one batch adds to it. `merge` adds the second to the
first; the upserts of `infra.sql.writers.rollups` do the same in SQL. Times are µs since 1970, UTC.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from typing import Any

from schemas.topics import BESIDE, LINES, META_SUFFIX, Kind
from schemas.values import clean

Record = dict[str, Any]

RUNNING, COMPLETED, FAILED, CANCELLED, LOST = "running", "completed", "failed", "cancelled", "lost"
STATUSES = (RUNNING, COMPLETED, FAILED, CANCELLED, LOST)

_BY_EVENT = {"run_started": RUNNING, "run_failed": FAILED, "run_cancelled": CANCELLED}
_BY_COMPLETION = {"failed": FAILED, "skipped": CANCELLED, "cancelled": CANCELLED}
_BY_STREAM_END = {"completed": COMPLETED, "lost": LOST}

_FACTS = {
    "name": ("name", "run_name"),
    "project": ("project",),
    "algorithm": ("algorithm", "algo"),
    "host": ("host", "hostname"),
    "git_commit": ("git_commit", "commit"),
}
"""Column of `runs` → its names in a payload; the first that is present wins."""

_ENV_NAMES = ("env_id", "env_name", "game_id")
_REASON_NAMES = ("reason", "error", "message")

_STEPS, _EPISODES, _METRICS = Kind.STEPS, Kind.EPISODES, Kind.METRICS  # a member is looked up slowly
_UNCOUNTED = BESIDE  # their line counts

COUNTED = {kind: kind.table for kind in LINES}
"""Kind → the counter that it adds to, in `runs` and, for the first three, in `agents`."""


@dataclass(slots=True)
class RunState:
    """A run, or what a batch adds to one. The names are the columns of `runs`."""

    run_id: str
    status: str = RUNNING
    status_at: int | None = None
    """Kafka's time of the record that decided the status; None: nothing has, it just runs."""
    reason: str | None = None
    ended_at: int | None = None
    name: str | None = None
    project: str | None = None
    env_id: str | None = None
    algorithm: str | None = None
    config: str | None = None
    """JSON text."""
    host: str | None = None
    git_commit: str | None = None
    started_at: int | None = None
    last_seen_at: int = 0
    steps: int = 0
    episodes: int = 0
    metrics: int = 0
    run_events: int = 0
    logs: int = 0
    dead_letters: int = 0

    def decide(self, status: str, status_at: int, reason: str | None, ended_at: int | None) -> None:
        """Set a status, unless a newer record has set one already. Times are in µs since 1970."""
        if self.status_at is None or status_at >= self.status_at:
            self.status, self.status_at, self.reason, self.ended_at = status, status_at, reason, ended_at

    def revive(self) -> None:
        """A lost run with newer records is running. `status_at` stays, so that any later end counts."""
        if self.status == LOST and self.status_at is not None and self.last_seen_at > self.status_at:
            self.status, self.reason = RUNNING, None

    def merge(self, newer: RunState) -> None:
        """Add what a later batch holds."""
        if newer.status_at is not None:
            self.decide(newer.status, newer.status_at, newer.reason, newer.ended_at)
        self.env_id = self.env_id or newer.env_id
        for name in ("name", "project", "algorithm", "config", "host", "git_commit"):
            setattr(self, name, getattr(newer, name) or getattr(self, name))
        self.started_at = _least(self.started_at, newer.started_at)
        self.last_seen_at = max(self.last_seen_at, newer.last_seen_at)
        for name in COUNTED.values():
            setattr(self, name, getattr(self, name) + getattr(newer, name))
        self.revive()


@dataclass(slots=True)
class AgentState:
    """An agent of a run, or what a batch adds to one. The names are the columns of `agents`."""

    run_id: str
    agent_id: str
    first_seen_at: int
    last_seen_at: int
    steps: int = 0
    episodes: int = 0
    metrics: int = 0
    newest_return: float | None = None
    newest_episode_index: int | None = None
    newest_episode_at: int | None = None
    """Event time of the newest episode: an older one that comes late does not replace it."""
    best_return: float | None = None
    return_sum: float = 0.0
    returns: int = 0
    """How many finite returns `return_sum` holds: the mean is their quotient."""

    def finish_episode(self, record: Record) -> None:
        """Take an episode's return."""
        self._newest(record["episode_return"], record["episode_index"], record["event_time"])
        value = record["episode_return"]
        if value is not None and math.isfinite(value):
            self.return_sum += value
            self.returns += 1
            self.best_return = value if self.best_return is None else max(self.best_return, value)

    def merge(self, newer: AgentState) -> None:
        """Add what a later batch holds."""
        if newer.newest_episode_at is not None:
            self._newest(newer.newest_return, newer.newest_episode_index, newer.newest_episode_at)
        if newer.best_return is not None:
            best = self.best_return
            self.best_return = newer.best_return if best is None else max(best, newer.best_return)
        self.first_seen_at = min(self.first_seen_at, newer.first_seen_at)
        self.last_seen_at = max(self.last_seen_at, newer.last_seen_at)
        for name in ("steps", "episodes", "metrics", "return_sum", "returns"):
            setattr(self, name, getattr(self, name) + getattr(newer, name))

    def _newest(self, value: float | None, index: int | None, at: int) -> None:
        if self.newest_episode_at is None or at >= self.newest_episode_at:
            self.newest_return, self.newest_episode_index, self.newest_episode_at = value, index, at


class Fold:
    """The state of every run and agent that its records name."""

    def __init__(self) -> None:
        self.runs: dict[str, RunState] = {}
        self.agents: dict[tuple[str, str], AgentState] = {}

    def add(self, kind: Kind, record: Record, timestamp_us: int) -> None:
        """Take one record.

        Args:
            kind: what it is.
            record: its fields, as `schemas.codec.Decoder` gives them.
            timestamp_us: Kafka's time of the record, µs since 1970.
        """
        if kind in _UNCOUNTED:
            return
        run_id = record["run_id"]
        run = self.runs.get(run_id)
        if run is None:
            run = self.runs[run_id] = RunState(run_id)
            run.started_at = record["event_time"]
        if kind is _STEPS or kind is _EPISODES or kind is _METRICS:
            self._act(kind, run, record, timestamp_us)
        else:
            self._tell(kind, run, record, timestamp_us)

    def _act(self, kind: Kind, run: RunState, record: Record, timestamp_us: int) -> None:
        key = (run.run_id, record["agent_id"])
        agent = self.agents.get(key)
        if agent is None:
            agent = self.agents[key] = AgentState(*key, timestamp_us, timestamp_us)
            if run.env_id is None:
                run.env_id = _env_of_extras(record["extras"])
        elif timestamp_us > agent.last_seen_at:
            agent.last_seen_at = timestamp_us
        elif timestamp_us < agent.first_seen_at:
            agent.first_seen_at = timestamp_us
        if timestamp_us > run.last_seen_at:
            run.last_seen_at = timestamp_us
            if run.status == LOST:
                run.revive()
        if kind is _STEPS:
            agent.steps += 1
            run.steps += 1
        elif kind is _EPISODES:
            agent.episodes += 1
            run.episodes += 1
            agent.finish_episode(record)
        else:
            agent.metrics += 1
            run.metrics += 1

    def _tell(self, kind: Kind, run: RunState, record: Record, timestamp_us: int) -> None:
        meta = record["stream_id"].endswith(META_SUFFIX)
        if not meta:
            setattr(run, COUNTED[kind], getattr(run, COUNTED[kind]) + 1)
        if kind is Kind.DLQ and record["topic"] is not None:
            return  # written by a consumer: the run itself sent nothing
        run.last_seen_at = max(run.last_seen_at, timestamp_us)
        if kind is Kind.RUNS:
            _live(run, record, timestamp_us, meta)
        run.revive()

    def merge(self, newer: Fold) -> None:
        """Add what a later fold holds. Do not use that fold afterwards."""
        for run_id, run in newer.runs.items():
            if (known := self.runs.setdefault(run_id, run)) is not run:
                known.merge(run)
        for key, agent in newer.agents.items():
            if (there := self.agents.setdefault(key, agent)) is not agent:
                there.merge(agent)


def _live(run: RunState, record: Record, timestamp_us: int, meta: bool) -> None:
    """Apply a record of the runs topic to its run."""
    event, payload = record["event"], record["payload"]
    if event == "heartbeat" or event not in _TELLING:
        return
    said = _object(payload)
    if event in ("run_started", "other"):
        if event == "run_started":
            run.started_at = _least(run.started_at, record["event_time"])
            _take_facts(run, said, meta)
        run.env_id = run.env_id or _env_of(said)
    status = _status(event, said, meta)
    if status is not None:
        ended_at = None if status in (RUNNING, LOST) else record["event_time"]
        reason = None if status in (RUNNING, COMPLETED) else _first(said, _REASON_NAMES)
        run.decide(status, timestamp_us, reason, ended_at)


_TELLING = {"run_started", "run_completed", "run_failed", "run_cancelled", "other"}


def _status(event: str, said: Record, meta: bool) -> str | None:
    if event == "run_completed":
        return _BY_COMPLETION.get(str(said.get("status")), COMPLETED)
    if event == "other":
        return _BY_STREAM_END.get(str(said.get("status"))) if meta and _ends_stream(said) else None
    return _BY_EVENT[event]


def _ends_stream(said: Record) -> bool:
    return said.get("event") == "stream_ended"


def _take_facts(run: RunState, said: Record, meta: bool) -> None:
    config = said.get("config")
    known = said | config if isinstance(config, dict) else said
    for column, names in _FACTS.items():
        value = _first(known, names)
        if value is not None:
            setattr(run, column, value)
    if not isinstance(config, dict) and not meta:
        # A worker that prints its settings beside run_started's own fields.
        named = {name for names in _FACTS.values() for name in names} | {*_ENV_NAMES, "config", "payload"}
        config = {key: value for key, value in said.items() if key not in named}
    if config:
        run.config = json.dumps(config)


def _env_of_extras(extras: str | None) -> str | None:
    # Few steps name an environment in their extras: search the text before parsing it.
    if extras is None or not any(name in extras for name in _ENV_NAMES):
        return None
    return _env_of(_object(extras))


def _env_of(said: Record) -> str | None:
    config = said.get("config")
    return _first(said, _ENV_NAMES) or (_first(config, _ENV_NAMES) if isinstance(config, dict) else None)


def _first(said: Record, names: tuple[str, ...]) -> str | None:
    """The first of these that is not empty, fit for a text column."""
    for name in names:
        value = said.get(name)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
            return clean(str(value))
    return None


def _object(text: str | None) -> Record:
    """The JSON object in a text; empty where there is none. NaN and the infinities become their names."""
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=str) if text else None
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _least(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


def columns(state: RunState | AgentState) -> Record:
    """A state as a row: column → value, times still in µs."""
    return {field.name: getattr(state, field.name) for field in fields(state)}
