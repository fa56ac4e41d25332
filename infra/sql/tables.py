"""The tables and conditions of reading statements: rows of a run, JSON columns as text."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, String, Table, and_, cast

from schemas.tables import Base

STEPS: Table = Base.metadata.tables["steps"]
EPISODES: Table = Base.metadata.tables["episodes"]
METRICS: Table = Base.metadata.tables["metrics"]
LOGS: Table = Base.metadata.tables["logs"]
DEAD_LETTERS: Table = Base.metadata.tables["dead_letters"]
ROLLOUTS: Table = Base.metadata.tables["rollouts"]
TOKENS: Table = Base.metadata.tables["tokens"]
TRAINING_STEPS: Table = Base.metadata.tables["training_steps"]
RUN_EVENTS: Table = Base.metadata.tables["run_events"]
FRAMES: Table = Base.metadata.tables["frames"]
RUNS: Table = Base.metadata.tables["runs"]
AGENTS: Table = Base.metadata.tables["agents"]


def of(
    table: Table, run_id: str, agent_id: str | None = None, episode_index: int | None = None
) -> ColumnElement[bool]:
    """The rows of a run; of one of its agents, of one episode."""
    named = {"run_id": run_id, "agent_id": agent_id, "episode_index": episode_index}
    return and_(*(table.c[name] == value for name, value in named.items() if value is not None))


def text_of(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A JSON or text column's own text, in full."""
    return cast(column, String)
