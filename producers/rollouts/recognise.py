"""Which format a file is of, or why it is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from producers.rollouts.formats import FORMATS, LEFT_OUT
from producers.rollouts.model import Format, Row
from producers.rollouts.parsing import NotARowError, decode
from schemas.errors import UsageError

HEAD_LINES = 100
READ_BYTES = 1024 * 1024
LONGEST_LINE = 256 * 1024 * 1024

PICKLES = {
    ".pt": "slime",
    ".pth": "a trainer",
    ".pkl": "SkyRL",
    ".pickle": "a trainer",
}
NO_PICKLE = (
    "is a pickle, which is never loaded, as it may run code: call stepstream.log_rollout in the trainer's "
    "rollout hook instead (docs/language-models.md)"
)
NO_PYARROW = "is Parquet, which needs pyarrow: install stepstream-server[export]"
TEMPORARY = (".tmp", ".part", ".new", ".swp", ".lock", "~")
SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class Left:
    """A file that is left out, and why. `final`: also later, whatever it will hold."""

    why: str
    final: bool = True


NOT_YET = Left("holds no whole row yet", final=False)


def by_name(name: str) -> Format:
    """A format.

    Raises:
        UsageError: there is none of this name.
    """
    found = next((item for item in FORMATS if item.name == name), None)
    if found is None:
        names = ", ".join(item.name for item in FORMATS)
        raise UsageError(f"There is no format {name}; the formats are {names}.")
    return found


def is_candidate(name: str) -> bool:
    """Whether a file of this name is looked at, or at least spoken of."""
    suffix = PurePosixPath(name).suffix
    hidden = name.startswith(".") or name.endswith(TEMPORARY)
    return not hidden and (suffix in SUFFIXES or suffix in PICKLES or name in LEFT_OUT)


def recognise(path: Path, shown: PurePosixPath, wanted: Format | None = None) -> Format | Left:
    """The format of a file, by its first row.

    Args:
        shown: its path as formats see it.
        wanted: the format that the user names.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix in PICKLES:
        return Left(NO_PICKLE)
    if shown.name in LEFT_OUT:
        return Left(f"is {LEFT_OUT[shown.name]}")
    first = _first_row(path)
    if isinstance(first, Left):
        return first
    formats = [wanted] if wanted else [item for item in FORMATS if path.suffix == item.suffix]
    # Whoever names the format may have named the file, too.
    paths = [shown, shown.with_stem("0")] if wanted else [shown]
    for item in formats:
        if path.suffix == item.suffix and any(item.claims(each, first) for each in paths):
            return item
    if wanted:
        return Left(f"is no {wanted.name} file")
    names = ", ".join(list(first)[:6])
    return Left(f"is of no format that is known (it has {names or 'no fields'})")


def _first_row(path: Path) -> Row | Left:
    if path.suffix == ".parquet":
        return _first_of_table(path)
    if path.suffix == ".json":
        return _whole(path)
    for seen, line in enumerate(_lines(path), 1):
        if line.strip():
            try:
                return decode(line)
            except NotARowError:
                if seen >= HEAD_LINES:
                    return Left("holds no JSON lines")
    return NOT_YET


def _lines(path: Path) -> Iterator[bytes]:
    """Complete lines from the start, as long as they are asked for."""
    with path.open("rb") as file:
        rest = b""
        while data := file.read(READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
            if len(rest) > LONGEST_LINE:
                return


def _whole(path: Path) -> Row | Left:
    try:
        return decode(path.read_bytes())
    except NotARowError:
        return NOT_YET


def _first_of_table(path: Path) -> Row | Left:
    if (rows := table(path)) is None:
        return NOT_YET
    return next(iter(rows), dict.fromkeys(rows.names))


_DOUBLES = ("double", "float", "halffloat")


class Table:
    """A Parquet file that is whole."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.names: list[str] = list(file.schema_arrow.names)
        self.doubles = frozenset(item.name for item in file.schema_arrow if str(item.type) in _DOUBLES)

    def __iter__(self) -> Iterator[Row]:
        for batch in self._file.iter_batches(batch_size=256):
            yield from batch.to_pylist()


class NoPyarrowError(UsageError):
    """Parquet cannot be read here."""


def table(path: Path) -> Table | None:
    """A Parquet file's rows; None: it is not whole yet.

    Raises:
        NoPyarrowError: pyarrow is not installed.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(file.seek(0, 2) - 4, 0))
        if head != b"PAR1" or file.read(4) != b"PAR1":
            return None
    try:
        import pyarrow as arrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise NoPyarrowError(f"{path.name} {NO_PYARROW}.") from None
    try:
        return Table(parquet.ParquetFile(path))
    except (arrow.ArrowException, OSError):
        return None
