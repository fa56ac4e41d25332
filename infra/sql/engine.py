"""SQL engines for PostgreSQL and SQLite, with the same set-up everywhere."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, create_engine, delete, event, insert, make_url, text
from sqlalchemy import Engine as Engine  # noqa: PLC0414 - for modules that import no SQLAlchemy
from sqlalchemy.exc import ArgumentError, DBAPIError
from stepstream._masking import masked_url

from infra.settings import Settings
from schemas.errors import DatabaseError, UsageError
from schemas.rights import Rights
from schemas.tables import DeletedRun

SQLITE_BUSY_S = 30
"""How long a SQLite writer waits for another one."""


WRITES_AT_ONCE = "stepstream_writes_at_once"
"""Execution option: a SQLite transaction that takes the write lock when it begins, not at its first row."""


def url(settings: Settings) -> URL:
    """The database's URL, with psycopg as PostgreSQL's driver.

    Raises:
        UsageError: no URL, or one of a database that is neither PostgreSQL nor SQLite.
    """
    try:
        found = make_url(settings.sql_url)
    except ArgumentError as error:
        raise UsageError(
            f"STEPSTREAM_DATABASE_URL is no database URL ({error}): postgresql://user@host/db."
        ) from None
    if found.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return found.set(drivername="postgresql+psycopg")
    if found.get_backend_name() == "sqlite":
        return found.set(drivername="sqlite")
    raise UsageError(f"{found.get_backend_name()} is not supported: use a postgresql:// or sqlite:/// URL.")


def engine(settings: Settings, **options: Any) -> Engine:
    """An engine. SQLite writes ahead (WAL), so that readers never wait for the writer."""
    address = url(settings)
    if address.get_backend_name() == "sqlite":
        made = create_engine(address, connect_args={"timeout": SQLITE_BUSY_S}, **options)
        event.listen(made, "connect", _prepare_sqlite)
        event.listen(made, "begin", _begin_sqlite)
        return made
    return create_engine(address, pool_pre_ping=True, **options)


def make_folder(settings: Settings) -> None:
    """Make the folder that a SQLite file is to lie in.

    Raises:
        DatabaseError: it cannot be made.
    """
    address = url(settings)
    if address.get_backend_name() == "sqlite" and address.database and address.database != ":memory:":
        folder = Path(address.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(
                f"The database's folder {folder} cannot be made ({error.strerror}): "
                "set STEPSTREAM_HOME or STEPSTREAM_DATABASE_URL."
            ) from None


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # sqlite3 begins transactions late and by itself: then created tables are not rolled back, and a
    # savepoint can be outside of any transaction. _begin_sqlite begins them instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection to read with.

    Raises:
        DatabaseError: the database does not answer, or refuses; one sentence.
    """
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise translated(error, engine) from error


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction to write in: commits at the end.

    Raises:
        DatabaseError: the database does not answer, or refuses; one sentence.
    """
    try:
        with engine.execution_options(**{WRITES_AT_ONCE: True}).begin() as connection:
            yield connection
    except DBAPIError as error:
        raise translated(error, engine) from error


def fence_batches(connection: Connection) -> None:
    """Wait for open batches of persist, and block new ones until the commit. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        # Every batch holds row locks in this table from its first statement on.
        connection.exec_driver_sql("LOCK TABLE consumer_offsets IN EXCLUSIVE MODE")


def fence_deletion(connection: Connection, run_id: str, clock: Callable[[], datetime]) -> None:
    """Mark a run as deleted while no batch of persist is open; batches wait until this commits.

    The clock is read after the fence: records stored by then were sent before that time.
    """
    fence_batches(connection)
    connection.execute(delete(DeletedRun).where(DeletedRun.run_id == run_id))
    connection.execute(insert(DeletedRun).values(run_id=run_id, deleted_at=clock()))


def lacking(engine: Engine, privileges: Sequence[str], *, temporary: bool) -> str:
    """The first right that a PostgreSQL user lacks, such as `INSERT on table steps`; empty: none.

    Raises:
        DatabaseError: no answer.
    """
    if engine.dialect.name != "postgresql":
        return ""
    table = text(
        "SELECT p || ' on table ' || tablename FROM pg_tables, unnest(CAST(:wanted AS text[])) AS p "
        "WHERE schemaname = current_schema() AND NOT has_table_privilege(quote_ident(tablename), p) "
        "ORDER BY 1 LIMIT 1"
    )
    database = text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")
    with reading(engine) as connection:
        if temporary and not connection.scalar(database):
            return "TEMPORARY on the database"
        return connection.scalar(table, {"wanted": list(privileges)}) or ""


def named(error: Exception, engine: Engine, rights: Rights) -> str:
    """The error's sentence; where the user lacks a right, with the right and the user."""
    if not isinstance(error, RefusedError):
        return str(error)
    try:
        lacks = lacking(engine, rights.tables, temporary=rights.temporary)
    except DatabaseError:  # the login itself
        return str(error)
    words = f"{error}: grant user {engine.url.username} {lacks}" if lacks else str(error)
    return words if words.startswith("The database") else f"The database refused: {words}"


def translated(error: DBAPIError, engine: Engine) -> DatabaseError:
    """A driver's error as a sentence for the user."""
    meaning = triaged(error)
    words = str(meaning) if meaning is not None else _words(error.orig or error)
    where = masked_url(str(engine.url))
    if isinstance(meaning, RefusedError):
        return RefusedError(f"The database at {where} refused: {words}")
    if isinstance(meaning, OutageError):
        return OutageError(
            f"The database at {where} does not answer ({words}): is it running, and is "
            "STEPSTREAM_DATABASE_URL right?"
        )
    return DatabaseError(f"The database at {where} refused: {words}")


def _begin_sqlite(connection: Connection) -> None:
    at_once = connection.get_execution_options().get(WRITES_AT_ONCE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if at_once else "BEGIN")


class OutageError(DatabaseError):
    """The database is away, or asks to retry the transaction: this costs time, never a record."""


class RefusedError(OutageError):
    """The database refuses the login, or its user lacks a right: that costs time, never a record."""


class ConflictError(DatabaseError):
    """A row with this key exists already."""


class BadDataError(DatabaseError):
    """A value that the database refuses on every try.

    Args:
        message: the database's message.
        row: index of the row among those that were written, from 0; None: unknown.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


_POSTGRES: dict[str, type[DatabaseError]] = {
    "23505": ConflictError,
    "22": BadDataError,  # data exception
    "23": BadDataError,  # another constraint
    "08": OutageError,  # connection
    "28": RefusedError,  # login
    "42501": RefusedError,  # a privilege
    "40": OutageError,  # serialisation failure, deadlock
    "53": OutageError,  # disk full, out of memory, too many connections
    "54": BadDataError,  # too long for an index, too deep for the parser
    "55": OutageError,  # lock not available
    "57": OutageError,  # shut down, cancelled, starting up
    "58": OutageError,  # I/O
}
"""SQLSTATE, or the class it begins with → what it means to a writer."""

_SQLITE: dict[int, type[DatabaseError]] = {
    sqlite3.SQLITE_CONSTRAINT: BadDataError,
    sqlite3.SQLITE_TOOBIG: BadDataError,
    sqlite3.SQLITE_MISMATCH: BadDataError,
    sqlite3.SQLITE_BUSY: OutageError,
    sqlite3.SQLITE_LOCKED: OutageError,
    sqlite3.SQLITE_FULL: OutageError,
    sqlite3.SQLITE_IOERR: OutageError,
    sqlite3.SQLITE_NOMEM: OutageError,
    sqlite3.SQLITE_CANTOPEN: OutageError,
    sqlite3.SQLITE_PROTOCOL: OutageError,
    sqlite3.SQLITE_SCHEMA: OutageError,
}
"""SQLite's primary result code → what it means to a writer."""

BAD_VALUES = (OverflowError, UnicodeError)
"""What drivers raise for a value that they do not send, besides their own errors."""

DRIVER_ERRORS = (DBAPIError, psycopg.Error, sqlite3.Error)
"""What SQLAlchemy and the drivers raise."""

_REFUSALS = {
    "password authentication failed": "check user and password in STEPSTREAM_DATABASE_URL",
    "no pg_hba.conf entry": "PostgreSQL's pg_hba.conf lets this user not in from here",
    "does not match host name": "its certificate is for another host name",
    "certificate verify failed": "sslrootcert in STEPSTREAM_DATABASE_URL does not know its authority, "
    "or its certificate has expired",
    "requires a valid client certificate": "it asks for a client certificate: set sslcert and sslkey",
    "certificate authentication failed": "its user and the name in our client certificate differ",
    "private key file": "only its owner may read the file of sslkey",
    "unknown ca": "our client certificate is of no authority that it knows",
    "certificate expired": "our client certificate has expired",
    "does not support SSL": "it speaks no TLS, and sslmode in STEPSTREAM_DATABASE_URL asks for it",
    "permission denied for database": "grant its user CONNECT",
    "does not exist": "create it, or correct STEPSTREAM_DATABASE_URL",
}
"""Part of what libpq says when a connection is refused → what to do; such an error has no SQLSTATE."""

_COPY_LINE = re.compile(r"COPY \w+, line (\d+)")


def triaged(error: BaseException) -> DatabaseError | None:
    """What a driver's error means to a writer; None: unknown, so stop."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return OutageError(_words(error.orig or error))
        return triaged(error.orig) if error.orig is not None else None
    if isinstance(error, psycopg.Error):
        return _triaged_postgres(error)
    if isinstance(error, sqlite3.Error):
        kind = _SQLITE.get((getattr(error, "sqlite_errorcode", None) or 0) & 0xFF)
        if kind is None:
            kind = BadDataError if isinstance(error, (sqlite3.DataError, sqlite3.InterfaceError)) else None
        return kind(_words(error)) if kind else None
    return BadDataError(_words(error)) if isinstance(error, BAD_VALUES) else None


def _triaged_postgres(error: psycopg.Error) -> DatabaseError | None:
    state = error.sqlstate
    if state is None:  # psycopg's own: a value it cannot send, or a connection that broke or was refused
        if hint := next((hint for words, hint in _REFUSALS.items() if words in str(error)), ""):
            return RefusedError(f"{_words(error)}: {hint}")
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            return OutageError(_words(error))
        return BadDataError(_words(error)) if isinstance(error, psycopg.DataError) else None
    kind = _POSTGRES.get(state) or _POSTGRES.get(state[:2])
    if kind is BadDataError:
        line = _COPY_LINE.search(error.diag.context or "")
        return BadDataError(_words(error), int(line[1]) - 1 if line else None)
    return kind(_words(error)) if kind else None


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
