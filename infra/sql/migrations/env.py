"""What Alembic runs: always on a connection that we hand it, in its transaction."""

from __future__ import annotations

from alembic import context

from schemas.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter much: Alembic makes a new table and copies.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
