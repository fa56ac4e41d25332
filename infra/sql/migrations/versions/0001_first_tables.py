"""The first tables: what each record is, runs and agents folded from them, and persist's own places."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Spelled out, not taken from the models: a migration stays what it was when the models move on.
TEXT, INT, BOOL, BYTES = sa.Text(), sa.Integer(), sa.Boolean(), sa.LargeBinary()
DOUBLE: sa.types.TypeEngine[float] = sa.Double()
BIG = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text().with_variant(postgresql.JSON(), "postgresql")
KEY = ("run_id", "stream_id", "seq")


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "agents",
        _column("run_id", TEXT, null=False),
        _column("agent_id", TEXT, null=False),
        _column("first_seen_at", TIME),
        _column("last_seen_at", TIME),
        _column("steps", BIG, null=False),
        _column("episodes", BIG, null=False),
        _column("metrics", BIG, null=False),
        _column("newest_return", DOUBLE),
        _column("best_return", DOUBLE),
        _column("return_sum", DOUBLE, null=False),
        _column("returns", BIG, null=False),
        _column("newest_episode_index", BIG),
        _column("newest_episode_at", TIME),
        sa.PrimaryKeyConstraint("run_id", "agent_id", name="pk_agents"),
    )
    op.create_table(
        "consumer_offsets",
        _column("topic", TEXT, null=False),
        _column("topic_partition", INT, null=False),
        _column("topic_id", TEXT),
        _column("next_offset", BIG, null=False),
        sa.PrimaryKeyConstraint("topic", "topic_partition", name="pk_consumer_offsets"),
    )
    op.create_table(
        "dead_letters",
        *_event(),
        _column("reason", TEXT, null=False),
        _column("field", TEXT),
        _column("message", TEXT, null=False),
        _column("raw", BYTES, null=False),
        _column("producer_version", TEXT, null=False),
        _column("topic", TEXT),
        _column("topic_partition", INT),
        _column("topic_offset", BIG),
        _column("redriven_at", TIME),
        sa.PrimaryKeyConstraint(*KEY, name="pk_dead_letters"),
    )
    op.create_table(
        "deleted_runs",
        _column("run_id", TEXT, null=False),
        _column("deleted_at", TIME, null=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_deleted_runs"),
    )
    op.create_table(
        "episodes",
        *_event(),
        _column("episode_index", BIG),
        _column("episode_return", DOUBLE),
        _column("episode_length", BIG),
        _column("terminated", BOOL),
        _column("truncated", BOOL),
        _column("seed", BIG),
        _column("duration", DOUBLE),
        _column("elapsed", DOUBLE),
        _column("metrics", JSON),
        _column("extras", JSON),
        *_place(),
        sa.PrimaryKeyConstraint(*KEY, name="pk_episodes"),
    )
    op.create_index(
        "ix_episodes_run_id_agent_id_episode_index", "episodes", ["run_id", "agent_id", "episode_index"]
    )
    op.create_table(
        "logs",
        *_event(),
        _column("source", TEXT, null=False),
        _column("line", TEXT, null=False),
        *_place(),
        sa.PrimaryKeyConstraint(*KEY, name="pk_logs"),
    )
    op.create_table(
        "metrics",
        *_event(),
        _column("global_step", BIG),
        _column("metrics", JSON),
        _column("extras", JSON),
        *_place(),
        sa.PrimaryKeyConstraint(*KEY, name="pk_metrics"),
    )
    op.create_table(
        "run_events",
        *_event(),
        _column("event", TEXT, null=False),
        _column("payload", JSON),
        *_place(),
        sa.PrimaryKeyConstraint(*KEY, name="pk_run_events"),
    )
    op.create_table(
        "runs",
        _column("run_id", TEXT, null=False),
        _column("name", TEXT),
        _column("project", TEXT),
        _column("status", TEXT, null=False),
        _column("status_at", TIME),
        _column("reason", TEXT),
        _column("started_at", TIME),
        _column("ended_at", TIME),
        _column("last_seen_at", TIME),
        _column("env_id", TEXT),
        _column("algorithm", TEXT),
        _column("config", JSON),
        _column("host", TEXT),
        _column("git_commit", TEXT),
        _column("steps", BIG, null=False),
        _column("episodes", BIG, null=False),
        _column("metrics", BIG, null=False),
        _column("run_events", BIG, null=False),
        _column("logs", BIG, null=False),
        _column("dead_letters", BIG, null=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
    )
    op.create_index("ix_runs_started_at", "runs", ["started_at"])
    op.create_table(
        "steps",
        *_event(),
        _column("episode_index", BIG),
        _column("step_index", BIG),
        _column("observation", JSON),
        _column("action", JSON),
        _column("reward", DOUBLE),
        _column("terminated", BOOL),
        _column("truncated", BOOL),
        _column("info", JSON),
        _column("metrics", JSON),
        _column("extras", JSON),
        *_place(),
        sa.PrimaryKeyConstraint(*KEY, name="pk_steps"),
    )
    op.create_index(
        "ix_steps_run_id_agent_id_episode_index", "steps", ["run_id", "agent_id", "episode_index"]
    )


def downgrade() -> None:
    """Remove everything."""
    for table in (
        "agents",
        "consumer_offsets",
        "dead_letters",
        "deleted_runs",
        "episodes",
        "logs",
        "metrics",
        "run_events",
        "runs",
        "steps",
    ):
        op.drop_table(table)


def _column(name: str, kind: Any, *, null: bool = True) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, autoincrement=False)


def _event() -> list[sa.Column[Any]]:
    return [
        _column("run_id", TEXT, null=False),
        _column("stream_id", TEXT, null=False),
        _column("seq", BIG, null=False),
        _column("agent_id", TEXT, null=False),
        _column("worker_id", TEXT),
        _column("event_time", TIME, null=False),
    ]


def _place() -> list[sa.Column[Any]]:
    return [_column("topic_partition", INT, null=False), _column("topic_offset", BIG, null=False)]
