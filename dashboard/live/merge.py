"""What Redis and SQL know of one run or agent, as one row. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from dashboard.live.types import AgentRow, RunRow
from dashboard.sql.queries import RunHeader

_GROWS = {"steps", "episodes", "metrics", "logs", "dead_letters", "run_events", "agents", "last_seen_at"}


def run_row(
    live: RunRow | None, stored: dict[str, Any] | None, lost_seconds: float, now: float
) -> dict[str, Any]:
    """Merge both rows of a run: the latest status, the larger of two counters. `now`: seconds since 1970."""
    made: dict[str, Any] = msgspec.to_builtins(live) if live is not None else {}
    if stored is None:
        return made
    for name, value in stored.items():
        if name in _GROWS:
            made[name] = max(made.get(name) or 0, value or 0)
        elif not made.get(name):
            made[name] = value
    if not isinstance(made.get("config") or "", str):
        made["config"] = msgspec.json.encode(made["config"]).decode()
    fresher = (stored.get("last_seen_at") or 0) >= (live.last_seen_at if live is not None else 0)
    if live is None or (fresher and stored["status"] != "running"):
        made["status"], made["reason"] = stored["status"], stored["reason"]
    silent = now - (made.get("last_seen_at") or 0) / 1000
    if made["status"] == "running" and silent > lost_seconds:
        made["status"] = "lost"
    return made


def live_agent(row: AgentRow, stored: AgentRow | None) -> AgentRow:
    """An agent's row for the list: the larger of two counters."""
    if stored is not None:
        totals = {"steps": max(row.steps, stored.steps), "episodes": max(row.episodes, stored.episodes)}
        return msgspec.structs.replace(row, **totals)  # all viewers share it
    return row


def stored_agent(row: Mapping[str, Any]) -> AgentRow:
    """The same of an agent that only SQL knows: `row` has the columns of `agents`."""
    return AgentRow(
        row["agent_id"],
        steps=row["steps"],
        episodes=row["episodes"],
        newest_return=row["newest_return"],
        best_return=row["best_return"],
        first_seen_at=row["first_seen_at"] or 0,
        last_seen_at=row["last_seen_at"] or 0,
    )


_TOLD = ("lines_read", "lines_acked", "lines_dropped")
"""What a forwarder says in its heartbeats, a few seconds old."""


def counts(live: RunRow | None, header: RunHeader | None) -> dict[str, Any]:
    """Where the run's records are: printed, on Kafka, in SQL, dead-lettered."""
    names = ("steps", "episodes", "metrics", "run_events", "logs", "dead_letters")
    on_kafka = sum(getattr(live, name) for name in names) if live is not None else 0
    in_sql = header.in_sql if header is not None else 0
    beats = header.heartbeats if header is not None else []
    told = {name: sum(beat.get(name) or 0 for beat in beats) for name in _TOLD}
    dead = max(live.dead_letters if live else 0, header.run["dead_letters"] if header else 0)
    return {
        "emitted": max(told["lines_read"], on_kafka, in_sql),
        "on_kafka": max(told["lines_acked"], on_kafka, in_sql),
        "in_sql": in_sql,
        "dropped": told["lines_dropped"],
        "dead_letters": dead,
        "latency_ms": live.latency_ms if live is not None else 0,
        "lag": live.lag if live is not None else 0,
    }


def natural(text: str) -> list[str | int]:
    """A key that puts agent_2 before agent_10: words and numbers in turn."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", text.lower()))]


def natural_index(text: Any) -> int | None:
    """The index of an episode in an address; None if it is no index."""
    found = re.fullmatch(r"-?[0-9]{1,18}", "" if text is None else str(text))
    return int(found[0]) if found else None
