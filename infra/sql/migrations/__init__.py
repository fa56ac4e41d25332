"""The database's tables by version: made and upgraded by Alembic, checked by whoever uses them.

A service refuses to start on tables that are not its own version's, with the command that mends it. It
reads the version without Alembic, which is a sixth of what it would load: a killed service must be back soon.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from infra.settings import Settings
from infra.sql import engine as sql
from infra.sql.engine import reading, translated
from schemas.errors import RevisionError

LOCATION = "infra.sql:migrations"
TABLE = "alembic_version"
LOCK = 0x57E95712EA
"""PostgreSQL's advisory lock that lets one process migrate at a time."""


def revisions() -> list[str]:
    """Every revision that this program knows, in order; a file's name begins with its revision."""
    return sorted(file.name.partition("_")[0] for file in Path(__file__).parent.glob("versions/[0-9]*.py"))


def head() -> str:
    """The revision of this program's tables."""
    return revisions()[-1]


def current(engine: Engine) -> str | None:
    """The revision of the database's tables; None where there are none.

    Raises:
        DatabaseError: the database does not answer.
    """
    with reading(engine) as connection:
        return _current(connection)


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Bring the tables to this program's version; harmless where they are. Returns before and after.

    Raises:
        RevisionError: they are of a version that this program does not know.
        DatabaseError: the database does not answer, or refuses.
    """
    from alembic import command  # noqa: PLC0415 - only whoever changes tables loads it
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", LOCATION)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            before = _current(connection)
            _refuse_unknown(before)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise translated(error, engine) from error
    return before, head()


def check(engine: Engine) -> None:
    """Refuse to work on tables of another version.

    Raises:
        RevisionError: the tables are missing, older or newer; the sentence says what to run.
        DatabaseError: the database does not answer.
    """
    found = current(engine)
    _refuse_unknown(found)
    if found != head():
        state = "has no tables yet" if found is None else f"has tables of revision {found}, not {head()}"
        raise RevisionError(f"The database {state}: run `stepstream db upgrade`.")


def checked_engine(settings: Settings) -> Engine:
    """An engine of a database whose tables are of this version.

    Raises:
        RevisionError, DatabaseError: as `check`.
    """
    engine = sql.engine(settings)
    check(engine)
    return engine


def _refuse_unknown(found: str | None) -> None:
    if found is not None and found not in revisions():
        raise RevisionError(
            f"The database has tables of revision {found}, which this version of stepstream does not know: "
            "install the newer stepstream that made them, or name another STEPSTREAM_DATABASE_URL."
        )


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table(TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {TABLE}"))
    return revision
