"""A SQLite file that another program wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, create_engine, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from schemas.errors import StepstreamError


class UnreadableDatabaseError(StepstreamError):
    """SQLite cannot read a file."""


class SqliteFile:
    """A SQLite file of another program, opened for reading.

    Raises:
        UnreadableDatabaseError: SQLite cannot read it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        address = URL.create(
            "sqlite", database=f"file:{quote(str(file))}", query={"mode": "ro", "uri": "true"}
        )
        self._engine = create_engine(address, poolclass=NullPool)
        self.columns: dict[str, set[str]] = {}
        """Table → its columns, which differ between versions."""
        try:
            found = inspect(self._engine)
            for name in found.get_table_names():
                self.columns[name] = {column["name"] for column in found.get_columns(name)}
        except DatabaseError as error:
            raise self._unreadable(error) from None

    def rows(self, table: str, *order: str, **equal: Any) -> Iterator[dict[str, Any]]:
        """Rows of a table, as they are stored; unknown columns in `order` and `equal` are ignored.

        Raises:
            UnreadableDatabaseError: SQLite cannot read them.
        """
        there = self.columns[table]
        chosen = " AND ".join(f'"{name}" IS :{name}' for name in equal if name in there) or "1"
        ordered = ", ".join([f'"{name}"' for name in order if name in there] + ["rowid"])
        query = text(f'SELECT * FROM "{table}" WHERE {chosen} ORDER BY {ordered}')  # noqa: S608 - our words
        values = {name: value for name, value in equal.items() if name in there}
        try:
            with self._engine.connect() as connection:
                streamed = connection.execution_options(yield_per=1000)
                for row in streamed.execute(query, values).mappings():
                    yield dict(row)
        except DatabaseError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: DatabaseError) -> UnreadableDatabaseError:
        return UnreadableDatabaseError(f"{self.file} cannot be imported: {error.orig or error}.")
