"""A file's rows, one after the other, to numbered findings: the same rows are the same findings. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import msgspec

from producers.rollouts.model import Format, Item, Place, Row, UnfitError

LETTER_BYTES = 8 * 1024 * 1024
MOST_TRIES = 50
"""A record may begin in the middle of a line, behind a torn one: so many places are tried."""

_read = msgspec.json.Decoder(dict[str, object]).decode


@dataclass
class Unusable:
    """Bytes of a file that are no row of its format, and why."""

    reason: str
    message: str
    raw: bytes


@dataclass
class Finding:
    """What a file holds, by number from 1 (0: it has none); `row`: number of the row that completed it."""

    number: int
    row: int
    what: Item | Unusable
    flushed: bool = False


class NotARowError(ValueError):
    """The bytes are no JSON object."""


def decode(line: bytes) -> Row:
    """The object in a line. The bare words NaN, Infinity and -Infinity are numbers.

    Raises:
        NotARowError: it is none.
    """
    try:
        return _read(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        value = json.loads(line)
    except UnicodeDecodeError as error:
        raise NotARowError(f"byte {error.start + 1} is no UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise NotARowError(str(error)) from None
    if not isinstance(value, dict):
        raise NotARowError("it is no object")
    return value


class Parsing:
    """Reads one version of one file from its start.

    Args:
        first: number of the first row: lines count from 1, rows of a table from 0.
    """

    def __init__(self, format_: Format, place: Place, first: int = 1) -> None:
        self._format, self._place = format_, place
        self._reader = format_.reader(place)
        self.rows = first - 1
        """Number of the newest row."""
        self.holds = False
        """Rows came since the last flush, so the reader may hold something back."""
        self._found = 0

    def line(self, line: bytes) -> list[Finding]:
        """What a line completes; nothing where it is blank."""
        self.rows += 1
        bare = line.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r")
        if not bare:
            return []
        try:
            row = decode(bare)
        except NotARowError as error:
            return self._broken(line, str(error))
        return self._row(row, line)

    def row(self, row: Row) -> list[Finding]:
        """What a row of a table completes."""
        self.rows += 1
        return self._row(row, b"")

    def flush(self) -> list[Finding]:
        """What the reader held back, as no row came for some time."""
        self.holds = False
        return self._numbered(self._reader.end(), flushed=True)

    def torn(self, rest: bytes) -> Finding:
        """A last line without its end: a letter without a number, as its rest may come one day."""
        row = self.rows + 1
        message = f"Line {row} of {self._place.path} is no JSON object: it is cut off."
        return Finding(0, row, Unusable("torn", message, rest[:LETTER_BYTES]))

    def _row(self, row: Row, line: bytes) -> list[Finding]:
        self.holds = True
        try:
            found: list[Item | Unusable] = list(self._reader.row(row, self.rows))
        except UnfitError as error:
            found = [self._unfit(row, line, f"is no {self._format.name} rollout: {error}")]
        except Exception as error:  # a reader meets what nobody has seen: that row is a letter, no end
            found = [self._unfit(row, line, f"cannot be read as {self._format.name}: {error!r}.")]
        return self._numbered(found)

    def _unfit(self, row: Row, line: bytes, what: str) -> Unusable:
        raw = line or json.dumps(row, default=str).encode()
        message = f"Row {self.rows} of {self._place.path} {what}"
        return Unusable("unfit_rollout", message, raw[:LETTER_BYTES])

    def _broken(self, line: bytes, why: str) -> list[Finding]:
        """A line that is no object: a letter, and the record behind it where one begins in its middle."""
        at, row = self._second(line)
        message = f"Line {self.rows} of {self._place.path} is no JSON object: {why}."
        letter = self._numbered([Unusable("broken_json", message, line[:at][:LETTER_BYTES])])
        return letter if row is None else [*letter, *self._row(row, line[at:])]

    def _second(self, line: bytes) -> tuple[int, Row | None]:
        at = len(line)
        for _ in range(MOST_TRIES):
            at = line.rfind(b'{"', 1, at)
            if at < 0:
                break
            try:
                row = decode(line[at:].strip())
            except NotARowError:
                continue
            if self._format.claims(self._place.path, row):
                return at, row
        return len(line), None

    def _numbered(self, found: Iterable[Item | Unusable], *, flushed: bool = False) -> list[Finding]:
        numbered = [
            Finding(number, self.rows, what, flushed) for number, what in enumerate(found, self._found + 1)
        ]
        self._found += len(numbered)
        return numbered


def not_written(finding: Finding, path: str, error: Exception) -> Unusable:
    """The dead letter of a finding that fits no line."""
    raw = json.dumps(asdict(finding.what), default=str).encode()
    message = f"What row {finding.row} of {path} holds cannot be written as a line: {error!r}."
    return Unusable("unfit_rollout", message, raw[:LETTER_BYTES])
