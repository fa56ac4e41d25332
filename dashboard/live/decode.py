"""Redis' answers as rows and deltas. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from dashboard.live.cursor import Cursor
from dashboard.live.types import AgentRow, Delta, RunRow, ServiceRow, View
from schemas import live
from schemas.live import FIELD, LiveFrame, LiveStep

Entries = Sequence[tuple[bytes, Mapping[bytes, bytes]]]

MAX_ROWS = {"episodes": 1000, "metrics": 1000, "logs": 500}
"""What a delta holds at most; the newest stay."""
PROCESS_SILENT_MS = 10_000
AGENT_SILENT_MS = 5_000
"""The rate of a silent agent is stale after this time: it is shown as 0."""
SHARED = 512
"""Entries of a kind that stay read: all viewers of an agent read the same ones."""
_LISTS: dict[str, tuple[Any, str]] = {
    "steps": (lru_cache(SHARED)(live.STEPS.unpack), "steps"),
    "episodes": (lru_cache(SHARED)(live.EPISODES.unpack), "episodes"),
    "metrics": (live.METRICS.unpack, "points"),
    "logs": (live.LOGS.unpack, "lines"),
}
"""Stream → how its entries are read, and the field with their rows."""
NEWEST_STEPS = 50
"""This many of the newest steps are never left out: tables show them."""
FIRST_STEPS = 500
"""Steps of a first delta, which fills the charts."""


def first_entries(name: str, view: View) -> int:
    """How many entries of a stream a first delta reads."""
    if name == "steps":
        return _most_steps(view, first=True)
    return {"episodes": 1000, "metrics": 500, "logs": 200}.get(name, 1)


def _most_steps(view: View, first: bool) -> int:
    return max(view.max_steps, FIRST_STEPS) if first else view.max_steps


def add(delta: Delta, cursor: Cursor, name: str, entries: Entries, view: View) -> None:
    """Take one stream's entries, oldest first, into a delta, and move its cursor behind them."""
    if not entries:
        return
    cursor.ids[name] = entries[-1][0].decode()
    packed = [fields[FIELD] for _, fields in entries if FIELD in fields]
    if name in _LISTS:
        unpack, what = _LISTS[name]
        rows = _joined(delta, cursor, name, map(unpack, packed), what)
        if name == "steps":
            delta.steps = thin(rows, _most_steps(view, first=delta.reset))
            delta.thinned = len(rows) - len(delta.steps)
        else:
            setattr(delta, name, rows[-MAX_ROWS[name] :])
    elif name == "frame":
        delta.frame = live.FRAME.unpack(packed[-1])


def _joined(delta: Delta, cursor: Cursor, name: str, entries: Iterable[Any], what: str) -> list[Any]:
    """All rows of some entries. Where an entry does not begin where the last one ended, that is a gap."""
    out: list[Any] = []
    expected = cursor.counts.get(name)
    for entry in entries:
        rows = getattr(entry, what)
        if expected is not None and entry.first < expected:
            delta.reset = True  # counted anew: Redis was flushed
        elif expected is not None and entry.first > expected:
            delta.gap = True
            delta.missed += entry.first - expected if name == "steps" else 0
        out += rows
        expected = entry.first + len(rows)
    if expected is not None:
        cursor.counts[name] = expected
    return out


def thin(steps: list[LiveStep], limit: int) -> list[LiveStep]:
    """At most `limit` steps: the newest, and of each stretch before them the least and most reward."""
    if len(steps) <= limit:
        return steps
    newest = min(NEWEST_STEPS, limit)
    older, kept = steps[:-newest], steps[-newest:]
    buckets = (limit - newest) // 2
    if not buckets:
        return kept
    chosen: set[int] = set()
    for number in range(buckets):
        stretch = range(number * len(older) // buckets, (number + 1) * len(older) // buckets)
        if stretch:
            chosen.add(min(stretch, key=lambda at: _reward(older[at])))
            chosen.add(max(stretch, key=lambda at: _reward(older[at])))
    return [older[at] for at in sorted(chosen)] + kept


def _reward(step: LiveStep) -> float:
    return step.reward if step.reward is not None else 0.0


def changed_runs(entries: Entries) -> set[str]:
    """Ids of the runs that a list's notification names."""
    return {
        run_id
        for _, fields in entries
        if b"r" in fields
        for run_id in msgspec.json.decode(fields[b"r"], type=list[str])
    }


def frame(entries: Entries) -> LiveFrame | None:
    """The newest frame of its stream."""
    return live.FRAME.unpack(entries[0][1][FIELD]) if entries else None


def run_row(
    run_id: str, fields: Mapping[bytes, bytes], agents: int, now_ms: int, lost_seconds: float
) -> RunRow:
    """A run's hash as a row."""
    row = RunRow(run_id, agents=agents)
    for name in live.RUN_TEXTS:
        if value := fields.get(name.encode()):
            setattr(row, name, value.decode(errors="replace"))
    for name in (*live.RUN_COUNTERS, "started_at", "ended_at", "last_seen_at", "lag"):
        setattr(row, name, int(fields.get(name.encode(), 0)))
    row.latency_ms = float(fields.get(b"latency_ms", 0))
    if returns := fields.get(b"returns"):
        newest = msgspec.msgpack.decode(returns, type=list[float])
        row.mean_return, row.returns = _mean(newest), newest[-60:]
    row.silent_seconds = max(0.0, (now_ms - row.last_seen_at) / 1000)
    alive = row.status == "running" and row.silent_seconds <= lost_seconds
    if row.status == "running" and not alive:
        row.status = "lost"
    row.steps_per_second = float(fields.get(b"rate", 0)) if alive else 0.0
    return row


def agent_row(agent_id: str, steps: bytes | None, returns: bytes | None, now_ms: int) -> AgentRow:
    """An agent's two cells as a row."""
    row = AgentRow(agent_id)
    if steps:
        cell = live.AGENT_STEPS.unpack(steps)
        row.steps = cell.steps
        row.steps_per_second = cell.rate if now_ms - cell.last_seen < AGENT_SILENT_MS else 0.0
        row.first_seen_at, row.last_seen_at = cell.first_seen, cell.last_seen
    if returns:
        found = live.AGENT_RETURNS.unpack(returns)
        row.episodes, row.best_return = found.episodes, found.best
        row.mean_return, row.returns = _mean(found.newest), found.newest[-30:]
        row.newest_return = found.newest[-1] if found.newest else None
        row.last_seen_at = max(row.last_seen_at, found.last_seen)
        row.first_seen_at = row.first_seen_at or found.last_seen
    return row


def service_row(fields: Mapping[bytes, bytes], now_ms: int) -> ServiceRow:
    """The service's hash as a row: all processes together."""
    said = [
        msgspec.json.decode(value, type=live.LiveProcess)
        for name, value in fields.items()
        if name.startswith(b"process:")
    ]
    alive = [process for process in said if now_ms - process.at < PROCESS_SILENT_MS]
    at = max((process.at for process in said), default=0)
    return ServiceRow(
        at=at,
        silent_seconds=max(0.0, (now_ms - at) / 1000) if at else 0.0,
        skipped=int(fields.get(b"skipped", 0)),
        lag=sum(process.lag for process in alive),
        rate=sum(process.rate for process in alive),
    )


def _mean(values: list[float]) -> float | None:
    newest = values[-100:]
    return sum(newest) / len(newest) if newest else None
