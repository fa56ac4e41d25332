"""Writes events into SQL: one interface, with the fastest method of each database."""

from __future__ import annotations

from infra.settings import Settings
from infra.sql import engine as sql
from infra.sql.writers.base import Key, Position, Row, Transaction, Writer

__all__ = ["Key", "Position", "Row", "Transaction", "Writer", "open_writer"]


def open_writer(settings: Settings) -> Writer:
    """The writer for the database that the settings name."""
    engine = sql.engine(settings)
    if engine.dialect.name == "postgresql":
        from infra.sql.writers.postgres import PostgresWriter  # noqa: PLC0415 - either driver is loaded alone

        return PostgresWriter(engine)
    from infra.sql.writers.sqlite import SqliteWriter  # noqa: PLC0415

    return SqliteWriter(engine)
