"""Seek points of replay, and which runs still lack them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT, INT = sa.Text(), sa.Integer()
BIG = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Create the tables; every run that is there waits to be indexed."""
    op.create_table(
        "seek_points",
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("stream_id", TEXT, nullable=False),
        sa.Column("block", BIG, nullable=False, autoincrement=False),
        sa.Column("topic", TEXT, nullable=False),
        sa.Column("topic_partition", INT, nullable=False, autoincrement=False),
        sa.Column("newest_event_time", TIME, nullable=False),
        sa.Column("first_offset", BIG, nullable=False),
        sa.Column("last_offset", BIG, nullable=False),
        sa.Column("records", BIG, nullable=False),
        sa.Column("newest_episode", BIG),
        sa.PrimaryKeyConstraint(
            "run_id", "stream_id", "block", "topic", "topic_partition", name="pk_seek_points"
        ),
    )
    op.create_table(
        "unindexed_runs",
        sa.Column("run_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_unindexed_runs"),
    )
    op.execute("INSERT INTO unindexed_runs (run_id) SELECT run_id FROM runs")


def downgrade() -> None:
    """Remove them."""
    op.drop_table("unindexed_runs")
    op.drop_table("seek_points")
