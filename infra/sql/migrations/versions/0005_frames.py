"""Where pictures lie on Kafka. Persist fills it for old runs, too: it reads the topic from its beginning."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT, INT = sa.Text(), sa.Integer()
BIG = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "frames",
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("stream_id", TEXT, nullable=False),
        sa.Column("seq", BIG, nullable=False, autoincrement=False),
        sa.Column("agent_id", TEXT, nullable=False),
        sa.Column("worker_id", TEXT),
        sa.Column("event_time", TIME, nullable=False),
        sa.Column("episode_index", BIG),
        sa.Column("step_index", BIG),
        sa.Column("media_type", TEXT, nullable=False),
        sa.Column("topic_partition", INT, nullable=False, autoincrement=False),
        sa.Column("topic_offset", BIG, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "stream_id", "seq", name="pk_frames"),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("frames")
