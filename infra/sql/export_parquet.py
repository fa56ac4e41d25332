"""Parquet by pyarrow: a module of its own, as pyarrow is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet
from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, LargeBinary

from schemas.tables import UtcTime

_TYPES = {
    BigInteger: pa.int64(),
    Integer: pa.int32(),
    Double: pa.float64(),
    Boolean: pa.bool_(),
    LargeBinary: pa.binary(),
    UtcTime: pa.timestamp("us", tz="UTC"),
}
"""Column type → Arrow's; all else is text, JSON too."""


class ParquetSink:
    """One row group for each batch, compressed with zstd."""

    def __init__(self, columns: Sequence[Column[Any]], path: Path) -> None:
        fields = [
            pa.field(column.name, _TYPES.get(type(column.type), pa.string()), column.nullable)
            for column in columns
        ]
        self._schema = pa.schema(fields)
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows."""
        by_column = zip(*rows, strict=True)
        arrays = [pa.array(values, field.type) for values, field in zip(by_column, self._schema, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()
