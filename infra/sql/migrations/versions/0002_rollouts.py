"""Rollouts of language models, and what is known of each of their tokens."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT, INT, BOOL, BYTES = sa.Text(), sa.Integer(), sa.Boolean(), sa.LargeBinary()
DOUBLE: sa.types.TypeEngine[float] = sa.Double()
BIG = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text().with_variant(postgresql.JSON(), "postgresql")
KEY = ("run_id", "stream_id", "seq")


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "rollouts",
        *_event(),
        _column("episode_index", BIG),
        _column("split", TEXT),
        _column("training_step", BIG),
        _column("group_id", TEXT, null=False),
        _column("sample_id", TEXT, null=False),
        _column("attempt", BIG, null=False),
        _column("superseded", BOOL, null=False),
        _column("reward", DOUBLE),
        _column("advantage", DOUBLE),
        _column("derived_advantage", DOUBLE),
        _column("rewards", JSON),
        _column("turns", BIG, null=False),
        _column("input_tokens", BIG),
        _column("output_tokens", BIG),
        _column("policy_start", TEXT),
        _column("policy_end", TEXT),
        _column("status", TEXT, null=False),
        _column("stop_reason", TEXT),
        _column("format", TEXT, null=False),
        _column("source", TEXT),
        _column("sample_key", TEXT, null=False),
        _column("scope", TEXT, null=False),
        _column("generation", BIG, null=False),
        _column("precedence", BIG, null=False),
        _column("final_text", TEXT),
        _column("messages", JSON),
        *_place(),
        sa.PrimaryKeyConstraint(*KEY, name="pk_rollouts"),
    )
    for columns in (["training_step", "group_id"], ["sample_key"], ["scope", "generation"]):
        op.create_index("_".join(["ix_rollouts_run_id", *columns]), "rollouts", ["run_id", *columns])
    op.create_table(
        "tokens",
        *_event(),
        _column("split", TEXT),
        _column("training_step", BIG),
        _column("group_id", TEXT),
        _column("sample_id", TEXT),
        _column("length", BIG, null=False),
        _column("trained", BIG),
        _column("masked", BIG),
        _column("names", JSON, null=False),
        _column("arrays", BYTES, null=False),
        *_place(),
        sa.PrimaryKeyConstraint(*KEY, name="pk_tokens"),
    )
    op.create_index("ix_tokens_run_id_training_step", "tokens", ["run_id", "training_step"])


def downgrade() -> None:
    """Remove both."""
    op.drop_table("tokens")
    op.drop_table("rollouts")


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
