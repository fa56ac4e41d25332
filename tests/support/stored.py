"""Rows in SQL as persist writes them, for tests of what reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, insert

from schemas.tables import Base

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def event(seq: int, run_id: str = "run", agent_id: str = "a", stream_id: str = "s", **fields: Any) -> Any:
    """A row of an event table."""
    who = {"run_id": run_id, "stream_id": stream_id, "seq": seq, "agent_id": agent_id, "worker_id": "w"}
    place = {"topic_partition": 0, "topic_offset": seq}
    return who | {"event_time": T0 + timedelta(seconds=seq)} | place | fields


def write(engine: Engine, table: Any, rows: list[Any]) -> None:
    """Put rows into a table; a column that a row lacks is null."""
    names = {name for row in rows for name in row}
    rows = [dict.fromkeys(names) | row for row in rows]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)


def steps(count: int, length: int = 7, **fields: Any) -> list[Any]:
    """Steps in episodes of one length; the reward is the step's number in its stream."""
    return [
        event(
            seq, episode_index=(seq - 1) // length, step_index=(seq - 1) % length, reward=float(seq), **fields
        )
        for seq in range(1, count + 1)
    ]


def run(run_id: str = "run", **fields: Any) -> Any:
    """A row of `runs`."""
    blank = {column.name: None for column in Base.metadata.tables["runs"].c}
    zero = dict.fromkeys(("steps", "episodes", "metrics", "run_events", "logs", "dead_letters"), 0)
    return blank | zero | {"run_id": run_id, "status": "running"} | fields


def agent(agent_id: str, run_id: str = "run", **fields: Any) -> Any:
    """A row of `agents`."""
    zero = {"steps": 0, "episodes": 0, "metrics": 0, "return_sum": 0.0, "returns": 0}
    return zero | {"run_id": run_id, "agent_id": agent_id} | fields
