"""Reads with the databases' own drivers: for reads that must begin at once, and for millions of rows.

SQLAlchemy takes as long to import as a replay's first hundred lines take to print.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from schemas.errors import DatabaseError, UsageError

Rows = list[tuple[Any, ...]]
BUSY_S = 30


class NoTablesError(DatabaseError):
    """There is no database, or it has no such tables."""


class DirectReader:
    """One connection that only reads. Statements have `?` for their parameters, in both databases.

    Args:
        url: as `Settings.sql_url` has it.

    Raises:
        NoTablesError: there is no such SQLite file.
        DatabaseError: the database does not answer.
        UsageError: the URL is of another database.
    """

    def __init__(self, url: str) -> None:
        self.is_postgres = url.startswith("postgres")
        self._connection: Any = _postgres(url) if self.is_postgres else _sqlite(url)

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> Rows:
        """All rows of a statement.

        Raises:
            NoTablesError: a table is not there.
            DatabaseError: the database refuses, or is away.
        """
        try:
            if self.is_postgres:
                statement = statement.replace("?", "%s")
            cursor = self._connection.execute(statement, parameters)
            found: Rows = cursor.fetchall() if cursor.description else []
        except Exception as error:
            raise _translated(error) from error
        return found

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """In this block, all statements see the state of the database at the first statement."""
        self.rows("BEGIN ISOLATION LEVEL REPEATABLE READ" if self.is_postgres else "BEGIN")
        try:
            yield
        finally:
            self.rows("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _sqlite(url: str) -> sqlite3.Connection:
    scheme, colon, path = url.partition(":///")
    if not colon or scheme.partition("+")[0] != "sqlite":
        raise UsageError(f"{scheme!r} is not supported: use a postgresql:// or sqlite:/// URL.")
    path = unquote(path.partition("?")[0])
    if not Path(path).exists():
        raise NoTablesError(f"There is no database {path} yet.")
    try:
        connection = sqlite3.connect(
            f"file:{quote(path)}?mode=rw",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA query_only = 1")
    except sqlite3.Error as error:
        raise _translated(error) from error
    return connection


def _postgres(url: str) -> Any:
    import psycopg  # noqa: PLC0415 - half a second, which SQLite's users need not wait

    _, _, address = url.partition("://")
    try:
        connection = psycopg.connect(f"postgresql://{address}", autocommit=True)
        connection.read_only = True
    except psycopg.Error as error:
        raise _translated(error) from error
    return connection


def _translated(error: Exception) -> Exception:
    words = (str(error) or type(error).__name__).strip().splitlines()[0]
    if "no such table" in words or ("relation" in words and "does not exist" in words):
        return NoTablesError("The database has no tables of this version: run `stepstream db upgrade`.")
    if isinstance(error, sqlite3.Error) or type(error).__module__.startswith("psycopg"):
        return DatabaseError(
            f"The database does not answer ({words}): is it running, and is STEPSTREAM_DATABASE_URL right?"
        )
    return error
