"""Reads from SQL for users who wait: without a writer's lock, within a time limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from schemas.errors import DatabaseError

LONGEST_S = 10.0
_STEPS_BETWEEN_LOOKS = 20_000
"""SQLite checks the time after so many steps of its virtual machine (about every millisecond)."""


@contextmanager
def reading(engine: Engine, seconds: float = LONGEST_S) -> Iterator[Connection]:
    """A connection to read from; a statement that takes longer than `seconds` is given up.

    Raises:
        DatabaseError: there are no tables, the time is up, or the database does not answer.
    """
    try:
        with engine.connect() as connection, _limited(connection, seconds):
            yield connection
    except (OperationalError, ProgrammingError) as error:
        raise DatabaseError(_sentence(error, seconds)) from error
    except DBAPIError as error:
        raise DatabaseError(f"The database refused: {error.orig}") from error


@contextmanager
def _limited(connection: Connection, seconds: float) -> Iterator[None]:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(text("SELECT set_config('statement_timeout', :ms, true)"), {"ms": f"{seconds}s"})
        yield
        return
    driver = connection.connection.driver_connection
    assert driver is not None
    deadline = time.monotonic() + seconds
    driver.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)


def _sentence(error: DBAPIError, seconds: float) -> str:
    words = str(error.orig).strip().splitlines()[0]
    if "no such table" in words or "does not exist" in words:
        return "The database has no tables yet: start `stepstream persist`, or run `stepstream db upgrade`."
    if "interrupted" in words or "statement timeout" in words:
        return f"The database took longer than {seconds:g} s for this: narrow the filter, or sort by time."
    return f"The database does not answer ({words}): is it running, and is STEPSTREAM_DATABASE_URL right?"
