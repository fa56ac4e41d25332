"""SQL engines for PostgreSQL and SQLite, set up alike wherever one is made."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from infra.settings import Settings
from schemas.errors import UsageError

SQLITE_BUSY_S = 30
"""How long a SQLite writer waits for another one."""


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
        return made
    return create_engine(address, pool_pre_ping=True, **options)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
