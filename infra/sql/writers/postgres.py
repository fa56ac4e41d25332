"""PostgreSQL: COPY in binary on the transaction's own connection.

Measured: text COPY takes three times the client's CPU, mostly to print times and floats. A `timestamptz` is
sent in its binary form, µs since 2000, so no datetime is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy import BigInteger, Boolean, Connection, Dialect, Double, Integer, LargeBinary
from sqlalchemy.dialects import postgresql

from infra.sql import engine as sql
from infra.sql.writers import rollups
from infra.sql.writers.base import COLUMNS, TIME_COLUMN, Inserted, Row, Transaction, Writer, moment
from schemas.tables import EVENT_TABLES, Base, UtcTime

POSTGRES_EPOCH = 946_684_800_000_000
"""2000-01-01 in µs since 1970."""

_WIRE = {
    BigInteger: "int8",
    Integer: "int4",
    Double: "float8",
    Boolean: "bool",
    LargeBinary: "bytea",
    UtcTime: "int8",
}
"""Column type → its type in COPY; all others, JSON included, are text."""

TYPES = {
    table: [_WIRE.get(type(EVENT_TABLES[table].c[name].type), "text") for name in names]
    for table, names in COLUMNS.items()
}
_COPY = "COPY {} ({}) FROM STDIN (FORMAT BINARY)"
COPIES = {table: _COPY.format(table, ", ".join(names)) for table, names in COLUMNS.items()}


_DIALECT: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's has no types


def _array_of(table: str, column: str) -> str:
    kind = Base.metadata.tables[table].c[column].type.compile(dialect=_DIALECT)
    return f"%({column})s::{kind}[]"


_UPSERTS = {
    table: rollups.upsert(
        table,
        f"SELECT * FROM unnest({', '.join(_array_of(table, column) for column in columns)})",
        greatest="GREATEST",
        least="LEAST",
    )
    for table, columns in rollups.COLUMNS.items()
}


class PostgresTransaction(Transaction):
    """Rows by COPY, each attempt in a savepoint."""

    @property
    def _cursor(self) -> psycopg.Cursor[Any]:
        driver: Any = self.connection.connection.driver_connection
        cursor: psycopg.Cursor[Any] = driver.cursor()
        return cursor

    def insert(self, table: str, rows: Iterable[Row]) -> int:
        """COPY straight into the table, while the rows are being decoded."""
        try:
            with self.connection.begin_nested():
                return self._copy(table, COPIES[table], rows)
        except psycopg.Error as error:
            raise (sql.triaged(error) or error) from error

    def insert_new(self, table: str, rows: Sequence[Row]) -> Inserted:
        """COPY into a temporary table, and insert from there the rows that do not exist."""
        names, beside = ", ".join(COLUMNS[table]), f"new_{table}"
        try:
            # Created before the savepoint, so that a refused row does not roll it back.
            make = f"CREATE TEMP TABLE IF NOT EXISTS {beside} (LIKE {table}) ON COMMIT DELETE ROWS"
            self._cursor.execute(make.encode())
            with self.connection.begin_nested(), self._cursor as cursor:
                self._copy(table, _COPY.format(beside, names), ([*row] for row in rows))
                cursor.execute(
                    f"INSERT INTO {table} ({names}) SELECT {names} FROM {beside} "
                    "ON CONFLICT DO NOTHING RETURNING run_id, stream_id, seq"
                )
                new = set(cursor.fetchall())
                cursor.execute(
                    f"SELECT run_id, stream_id, seq FROM {beside} n JOIN {table} t "
                    "USING (run_id, stream_id, seq) WHERE n.event_time <> t.event_time"
                )
                contradicted = set(cursor.fetchall())
                cursor.execute(f"TRUNCATE {beside}")
        except psycopg.Error as error:
            raise (sql.triaged(error) or error) from error
        return Inserted(new, contradicted)

    def upsert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """One statement for all rows, as arrays."""
        if not rows:
            return
        types = Base.metadata.tables[table].c
        arrays = {
            name: [moment(row[name]) for row in rows]
            if isinstance(types[name].type, UtcTime)
            else [row[name] for row in rows]
            for name in rollups.COLUMNS[table]
        }
        self._cursor.execute(_UPSERTS[table], arrays)

    def _copy(self, table: str, statement: str, rows: Iterable[Row]) -> int:
        written = 0
        with self._cursor as cursor, cursor.copy(statement) as copy:
            copy.set_types(TYPES[table])
            write = copy.write_row
            for row in rows:
                row[TIME_COLUMN] -= POSTGRES_EPOCH
                try:
                    write(row)
                except (psycopg.DataError, *sql.BAD_VALUES) as error:
                    raise sql.BadDataError(str(error), written) from error
                written += 1
        return written


class PostgresWriter(Writer):
    """Writes into PostgreSQL and databases with its protocol and dialect."""

    def _begin(self, connection: Connection) -> Transaction:
        return PostgresTransaction(connection, self)
