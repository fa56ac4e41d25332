"""Monitor's CSV, of Stable-Baselines3 and old Gym: a comment with JSON, then `r,l,t` for each episode.

A process that continues a file writes the comment and the names again. A killed process leaves an incomplete
row, directly followed by the next header or row.
"""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from producers.importers.lines import Line, Lines, ended, iso, open_text, started, unreadable, whole
from producers.importers.source import Source, trail_of
from schemas.errors import UsageError

COLUMNS = ("r", "l", "t")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.I | re.A)
_FLAGS = {"true": 1.0, "false": 0.0}
_LONGEST_QUOTED = 50
"""Lines of a quoted text, at most: otherwise one stray quote would swallow the file."""


def source(file: Path) -> Source:
    """The run of a file, named after it and its folders."""
    name = file.name.removesuffix("monitor.csv").strip(".")
    return Source(file, lambda: read(file), trail_of(file, name))


def read(file: Path) -> Lines:
    """The episodes of one file.

    Raises:
        UsageError: the file does not begin as Monitor's do.
    """
    with open_text(file) as opened:
        pieces = _Pieces(opened)
        about = _header(next(iter(pieces), ""))
        if about is None:
            raise UsageError(
                f"{file} does not begin with Monitor's line, which says when it began, so it cannot be "
                'imported: put #{"t_start": 1700000000.0, "env_id": "CartPole-v1"} (your own time and '
                'environment) and a line "r,l,t" before its rows.'
            )
        name = source(file).trail[-1]
        env_id = about["env_id"] if isinstance(about.get("env_id"), str) else None
        rest = {key: value for key, value in about.items() if key not in ("t_start", "env_id")}
        begin = about["t_start"] if iso(about["t_start"]) is None else None
        yield started(iso(about["t_start"]), name=name, env_id=env_id, t_start=begin, monitor=rest or None)
        rows = _Rows(about["t_start"])
        for text in pieces:
            yield from rows.take(text, pieces)
        yield ended(rows.last)


class _Pieces:
    """The lines of a file, with each header as a line of its own."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._held: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        while self._held or self._more():
            yield self._held.popleft()

    def _more(self) -> bool:
        line = next(self._lines, None)
        if line is not None:
            self._held.extend(_divided(line))
        return line is not None

    def quoted(self, text: str) -> str:
        """A row with the further lines inside its quotes."""
        taken: list[str] = []
        while (text + "".join(taken)).count('"') % 2 and len(taken) < _LONGEST_QUOTED:
            if not (self._held or self._more()):
                break
            taken.append(self._held.popleft())
        whole_row = text + "".join(taken)
        if whole_row.count('"') % 2 == 0:
            return whole_row
        self._held.extendleft(reversed(taken))
        return text


def _divided(line: str) -> Iterator[str]:
    at = line.find("#{")
    if at > 0 and _header(line[at:]) is not None:
        yield line[:at]  # without a newline: its row may be cut
        line = line[at:]
    if _header(line) is not None:
        _, end = json.JSONDecoder().raw_decode(line.lstrip("#"))
        end += len(line) - len(line.lstrip("#"))
        yield line[:end] + "\n"
        line = line[end:].lstrip(" \t\r\n")
    if line:
        yield line


def _header(text: str) -> Line | None:
    """The JSON of Monitor's comment; None: the text does not begin with one."""
    body = text.lstrip("#")
    if not body.startswith("{"):
        return None
    try:
        about, _ = json.JSONDecoder().raw_decode(body)
    except (ValueError, RecursionError):
        return None
    return about if isinstance(about, dict) and "t_start" in about else None


class _Rows:
    """Rows with the header and the names before them."""

    def __init__(self, begin: Any) -> None:
        self._begin = begin
        self._columns = list(COLUMNS)
        self._number = 0
        self.last = iso(begin)
        """The newest time that a row had."""

    def take(self, text: str, pieces: _Pieces) -> Iterator[Line]:
        """The lines of one row of the file."""
        if (about := _header(text)) is not None:
            self._begin = about["t_start"]
            return
        if not text.strip():
            return
        if text.count('"') % 2:
            text = pieces.quoted(text)
        for row in self._names_taken(_fields(text)):
            try:
                yield self._episode(row, text)
            except ValueError as error:
                yield unreadable(f"Row {self._number + 1} of the Monitor file cannot be used: {error}.", text)
            self._number += 1

    def _names_taken(self, row: list[str]) -> list[list[str]]:
        """The row; or a line of column names, and what follows on the same line."""
        if set(COLUMNS) <= set(row) and not any(_NUMBER.fullmatch(text) for text in row):
            self._columns = row
            return []
        if row[:2] != list(COLUMNS[:2]) or len(row) % 2 == 0:
            return [row]
        count = (len(row) + 1) // 2
        glued = re.fullmatch(rf"([A-Za-z_].*?)({_NUMBER.pattern})", row[count - 1], re.I | re.A)
        if glued is None:
            return [row]
        self._columns = [*row[: count - 1], glued[1]]
        return [[glued[2], *row[count:]]]

    def _episode(self, row: list[str], text: str) -> Line:
        if "\0" in text:
            raise ValueError("it holds NUL bytes, as a file does after a power cut")
        if not text.endswith(("\n", "\r")):
            raise ValueError("it has no newline at its end, so it may be cut")
        if len(row) != len(self._columns):
            raise ValueError(f"it has {len(row)} values, and there are {len(self._columns)} columns")
        values = dict(zip(self._columns, row, strict=True))
        returned, length, elapsed = (_number(name, values.pop(name)) for name in COLUMNS)
        if length is not None and whole(length) is None:
            raise ValueError(f"l must be a whole number, and it is {length}")
        if returned is None and length is None:
            raise ValueError("it has neither a return nor a length")
        ts = (
            None
            if elapsed is None or not isinstance(self._begin, (int, float))
            else iso(self._begin + elapsed)
        )
        self.last = ts or self.last
        line = {
            "type": "episode",
            "ts": ts,
            "episode_index": self._number,
            "episode_return": returned,
            "episode_length": whole(length),
            "elapsed": elapsed if elapsed is None else round(elapsed, 6),
            "metrics": {name: _typed(text) for name, text in values.items() if text},
        }
        return {name: value for name, value in line.items() if value is not None}


def _fields(text: str) -> list[str]:
    try:
        return next(csv.reader([text.strip(" \t\r\n")]), [])
    except csv.Error:
        return [text]


def _number(name: str, text: str) -> float | None:
    """A number; None: the row leaves it out."""
    if not text.strip():
        return None
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"{name} must be a number, and it is {text[:40]!r}")
    return float(text)


def _typed(text: str) -> float | str:
    """A further column's value: Monitor's `info_keywords` are numbers, flags or texts."""
    if _NUMBER.fullmatch(text.strip()):
        return float(text)
    return _FLAGS.get(text.strip().lower(), text)
