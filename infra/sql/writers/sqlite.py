"""SQLite: prepared executemany in an immediate transaction; SQLite allows one writer at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine

from infra.sql import engine as sql
from infra.sql.writers import rollups
from infra.sql.writers.base import (
    COLUMNS,
    EPOCH,
    TIME_COLUMN,
    Inserted,
    Key,
    Row,
    Transaction,
    Writer,
    moment,
)
from schemas.tables import Base, UtcTime, utc_text

# Not OR IGNORE, which would also ignore a missing value.
INSERTS = {
    table: f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
    "ON CONFLICT (run_id, stream_id, seq) DO NOTHING"
    for table, names in COLUMNS.items()
}
_STORED_TIMES = {
    table: f"SELECT event_time FROM {table} WHERE run_id = ? AND stream_id = ? AND seq = ?"
    for table in COLUMNS
}
_UPSERTS = {
    table: rollups.upsert(
        table, f"VALUES ({', '.join(f':{name}' for name in names)})", greatest="max", least="min"
    )
    for table, names in rollups.COLUMNS.items()
}
_TIMES = {
    table: [column.name for column in Base.metadata.tables[table].columns if isinstance(column.type, UtcTime)]
    for table in rollups.COLUMNS
}


class SqliteTransaction(Transaction):
    """Rows by executemany, each attempt in a savepoint."""

    @property
    def _cursor(self) -> sqlite3.Cursor:
        driver: Any = self.connection.connection.driver_connection
        cursor: sqlite3.Cursor = driver.cursor()
        return cursor

    def insert(self, table: str, rows: Iterable[Row]) -> int:
        """All rows, or ConflictError where one exists already."""
        texts = _Texts(rows)
        try:
            with self.connection.begin_nested():
                inserted = self._cursor.executemany(INSERTS[table], texts).rowcount
                if max(inserted, 0) != texts.given:
                    raise sql.ConflictError(f"{texts.given - inserted} rows are in {table} already")
        except (sqlite3.Error, *sql.BAD_VALUES) as error:
            raise (sql.triaged(error) or error) from error
        return texts.given

    def insert_new(self, table: str, rows: Sequence[Row]) -> Inserted:
        """Row by row: only so it is known which rows existed."""
        new: set[Key] = set()
        contradicted: set[Key] = set()
        cursor, statement, texts = self._cursor, INSERTS[table], _Texts([*row] for row in rows)
        try:
            with self.connection.begin_nested():
                for row in texts:
                    key = (row[0], row[1], row[2])
                    if cursor.execute(statement, row).rowcount:
                        new.add(key)
                    elif cursor.execute(_STORED_TIMES[table], key).fetchone()[0] != row[TIME_COLUMN]:
                        contradicted.add(key)
        except (sqlite3.Error, *sql.BAD_VALUES) as error:
            meaning = sql.triaged(error) or error
            if isinstance(meaning, sql.BadDataError):
                meaning.row = texts.given - 1
            raise meaning from error
        return Inserted(new, contradicted)

    def upsert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """One prepared statement, row by row."""
        times = _TIMES[table]
        self._cursor.executemany(
            _UPSERTS[table], [{**row, **{name: _text(row[name]) for name in times}} for row in rows]
        )


class SqliteWriter(Writer):
    """Writes into a SQLite file."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.execution_options(**{sql.WRITES_AT_ONCE: True}))

    def _begin(self, connection: Connection) -> Transaction:
        return SqliteTransaction(connection, self)


class _Texts:
    """Rows with their time as text, counted. Times come in order, so the text of a second is made once."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.given = 0

    def __iter__(self) -> Iterator[Row]:
        second, prefix = None, ""
        for row in self._rows:
            found, rest = divmod(row[TIME_COLUMN], 1_000_000)
            if found != second:
                second, prefix = found, _second(found)
            row[TIME_COLUMN] = f"{prefix}.{rest:06d}+00:00"
            self.given += 1
            yield row


def _second(seconds: int) -> str:
    made = moment(seconds * 1_000_000) or EPOCH
    return utc_text(made)[: len("2026-11-24 08:00:00")]


def _text(microseconds: int | None) -> str | None:
    made = moment(microseconds)
    return None if made is None else utc_text(made)
