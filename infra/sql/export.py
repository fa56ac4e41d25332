"""A run's rows as files: Parquet, CSV or JSON lines, a few thousand rows in memory at a time.

Rows are in the order of their primary key, each stream by its seq. JSON columns are the worker's own
text: a string in Parquet and CSV, the value itself in JSON lines. Times are UTC; raw bytes are base64
where a format has none; NaN and the infinities are the words NaN, Infinity and -Infinity.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, cast

from sqlalchemy import JSON, Column, Engine, Select, Table, Text, select, type_coerce
from sqlalchemy import cast as sql_cast

from infra.sql.engine import reading
from schemas.errors import StepstreamError, UsageError
from schemas.tables import EVENT_TABLES, Agent, Run

BATCH_ROWS = 5_000
LONGEST_NAME = 200
"""Bytes of a folder's name."""
_NO_FOLDER = re.compile(r"[^\w.-]|^\.+")
FORMATS = ("parquet", "csv", "jsonl")
TABLES: dict[str, Table] = {
    **{name: table for name, table in EVENT_TABLES.items() if name != "frames"},
    **{model.__tablename__: cast(Table, model.__table__) for model in (Run, Agent)},
}
"""The tables of an export, without those about places on this Kafka."""


_OF_LANGUAGE_MODELS = ("rollouts", "tokens")


def tables_of(engine: Engine, run_id: str) -> tuple[str, ...]:
    """The tables of a run's export; those of rollouts only where it has any."""
    with reading(engine) as connection:
        empty = [
            name
            for name in _OF_LANGUAGE_MODELS
            if connection.execute(
                select(TABLES[name].c.seq).where(TABLES[name].c.run_id == run_id).limit(1)
            ).first()
            is None
        ]
    return tuple(name for name in TABLES if name not in empty)


def folder_name(run_id: str) -> str:
    """The name of a run's folder: different for each run, and never a path.

    Letters, digits, `.`, `-` and `_` stay; other characters and leading dots are percent-encoded (`%2E`). A
    name that is too long for a file system ends with a digest.
    """
    name = _NO_FOLDER.sub(lambda found: "".join(f"%{byte:02X}" for byte in _bytes(found[0])), run_id)
    if len(_bytes(name)) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(_bytes(run_id)).hexdigest()[:16]
    return _bytes(name)[: LONGEST_NAME - 17].decode("utf-8", "ignore") + f"-{digest}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class Sink(Protocol):
    """Takes rows, and is closed at the end."""

    def write(self, rows: Sequence[Sequence[Any]]) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


def export_table(
    engine: Engine, run_id: str, table: str, sink: Sink, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Write a run's rows of one table into a sink; returns how many. `progress` is told the rows so far."""
    done = 0
    with reading(engine) as connection:
        options = {"stream_results": True, "yield_per": BATCH_ROWS}  # a cursor on the server, not a list
        result = connection.execution_options(**options).execute(_query(engine, TABLES[table], run_id))
        for rows in result.partitions():
            sink.write(rows)
            done += len(rows)
            progress(done)
    return done


def export_run(
    engine: Engine,
    run_id: str,
    folder: Path,
    kind: str,
    *,
    tables: Sequence[str],
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, int]:
    """Write a file a table, `steps.parquet` and so on; returns their rows. A file is complete, or missing.

    Raises:
        StepstreamError: a file cannot be written; one sentence.
    """
    written: dict[str, int] = {}
    for table in tables:
        told = partial(_told, progress, sum(written.values()))
        with whole_file(folder / f"{table}.{kind}") as path, open_sink(kind, table, path) as sink:
            written[table] = export_table(engine, run_id, table, sink, told)
    return written


def _told(progress: Callable[[int], None], before: int, done: int) -> None:
    progress(before + done)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside this one, renamed to it once all is written.

    Raises:
        StepstreamError: the file or its folder cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise StepstreamError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def open_sink(kind: str, table: str, target: Path | IO[str]) -> Iterator[Sink]:
    """A sink of a format into a file, or a text stream that stays open."""
    columns = list(TABLES[table].columns)
    if kind == "parquet":
        sink: Sink = _parquet(columns, target)
        stream = None
    else:
        stream = target.open("w", encoding="utf-8", newline="") if isinstance(target, Path) else None
        text = stream or cast(IO[str], target)
        sink = CsvSink(columns, text) if kind == "csv" else JsonLinesSink(columns, text)
    try:
        yield sink
        sink.close()
    finally:
        if stream is not None:
            stream.close()


class CsvSink:
    """RFC 4180, with a header."""

    def __init__(self, columns: Sequence[Column[Any]], stream: IO[str]) -> None:
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow([column.name for column in columns])

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows."""
        self._writer.writerows([[_word(value) for value in row] for row in rows])

    def close(self) -> None:
        """Does nothing: every row is written already."""


class JsonLinesSink:
    """One object a line; JSON columns as their own values."""

    def __init__(self, columns: Sequence[Column[Any]], stream: IO[str]) -> None:
        self._stream = stream
        self._columns = [(f"{json.dumps(c.name)}:", isinstance(c.type, JSON)) for c in columns]

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows."""
        self._stream.writelines("{" + ",".join(self._fields(row)) + "}\n" for row in rows)

    def _fields(self, row: Sequence[Any]) -> Iterator[str]:
        for (name, is_json), value in zip(self._columns, row, strict=True):
            yield name + (value if is_json and value is not None else json.dumps(_word(value)))

    def close(self) -> None:
        """Does nothing: every row is written already."""


def _word(value: Any) -> Any:
    """A value as CSV and JSON have it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _parquet(columns: Sequence[Column[Any]], target: Path | IO[str]) -> Sink:
    try:
        from infra.sql.export_parquet import ParquetSink  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow: install stepstream-server[export], or export as csv or jsonl."
        ) from None
    if not isinstance(target, Path):
        raise UsageError("Parquet is no text: name a folder with --output, or export as csv or jsonl.")
    return ParquetSink(columns, target)


def _query(engine: Engine, table: Table, run_id: str) -> Select[Any]:
    """Rows of a run in the order of the key, JSON as the text that is stored."""
    is_postgres = engine.dialect.name == "postgresql"
    as_text = (lambda c: sql_cast(c, Text).label(c.name)) if is_postgres else (lambda c: type_coerce(c, Text))
    shown = [as_text(column) if isinstance(column.type, JSON) else column for column in table.columns]
    return select(*shown).where(table.c.run_id == run_id).order_by(*table.primary_key.columns)
