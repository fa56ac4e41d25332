"""Weights & Biases' offline runs: `run-<id>.wandb`, a log of LevelDB's format with `Record` messages."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producers.importers import wire
from producers.importers.lines import Line, Lines, ended, flat, iso, metrics, started, unreadable, when
from producers.importers.source import Source, trail_of
from producers.importers.tfrecords import Damage
from schemas.errors import UsageError

_BLOCK = 32768
_HEADER = 7
_MAGIC = b":W&B"
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT = 2, 3, 5, 17, 18
"""Numbers of the fields of `Record`."""
_LEFT_OUT = {4: "console lines", 7: "system statistics", 8: "artifacts", 10: "alerts", 13: "console lines"}
_FACTS = {"project": 3, "group": 6, "job_type": 7, "name": 8, "notes": 9, "host": 13}
"""Numbers of the fields of `RunRecord`."""


def source(file: Path) -> Source:
    """The run of one file. A run that was resumed has several, which are one run.

    Raises:
        UsageError: the file is none of W&B's.
    """
    with file.open("rb") as opened:
        if opened.read(len(_MAGIC)) != _MAGIC:
            raise UsageError(f"{file} does not begin as W&B's files do: it cannot be imported.")
    run_id = file.stem.removeprefix("run-")
    return Source(file, lambda: read(file), trail_of(file, run_id), own=_own(file) or run_id, everywhere=True)


def _own(file: Path) -> str | None:
    """The id in the file's first record of its run."""
    for record in records(file):
        try:
            for number, body in wire.fields(record) if isinstance(record, bytes) else ():
                if number == _RUN:
                    return wire.text(wire.message(body).get(1)) or None
                if number == _HISTORY:
                    return None
        except ValueError:
            continue
    return None


def read(file: Path) -> Lines:
    """The run of one file. One without an end, as of a process that was killed, is failed."""
    run = _Seen()
    for record in records(file):
        if isinstance(record, str):
            yield record
            continue
        if isinstance(record, Damage):
            yield unreadable(record.message, record.raw)
            continue
        try:
            yield from list(run.lines(record))
        except ValueError:
            yield unreadable("A record of W&B's file cannot be read.", record)
    yield from run.begin()
    yield from (f"{number:,} {kind} left out." for kind, number in run.left_out.items())
    summary = {name: value for name, value in run.summary.items() if not name.startswith("_")}
    yield ended(run.last, run.status, summary=summary or None)


class _Seen:
    """The facts of the run in the records so far."""

    def __init__(self) -> None:
        self.status = "failed"
        self.last: str | None = None
        self.summary: Line = {}
        self.left_out: Counter[str] = Counter()
        self._facts: Line = {}
        self._config: Line = {}
        self._begun = False

    def lines(self, record: bytes) -> Iterator[Line]:
        """The lines of a record."""
        for number, body in wire.fields(record):
            if number == _HISTORY:
                yield from self.begin()
                yield self._history(wire.as_bytes(body))
            elif number in (_SUMMARY, _CONFIG, _RUN, _EXIT):
                self._take(number, wire.as_bytes(body))
            elif number in _LEFT_OUT:
                self.left_out[_LEFT_OUT[number]] += 1

    def begin(self) -> Iterator[Line]:
        """The start of the run, written before its first history, when its facts are known."""
        if not self._begun:
            self._begun = True
            config = {name: value for name, value in self._config.items() if name != "_wandb"}
            yield started(self._facts.pop("ts", None), **self._facts, config=config or None)

    def _take(self, number: int, body: bytes) -> None:
        """A record that is no history."""
        if number == _EXIT:
            self.status = "failed" if wire.signed(wire.message(body).get(1)) else "completed"
        elif number == _SUMMARY:
            self.summary |= _items(body)
        elif number == _CONFIG:
            self._config |= _items(body)
        else:
            self._facts, settings = _run(body)
            self.last = self.last or self._facts.get("ts")
            self._config |= settings

    def _history(self, body: bytes) -> Line:
        """One call of `log`."""
        values = _items(body)
        step = wire.signed(wire.message(wire.message(body).get(2, b"")).get(1))
        moment = when("_timestamp", values.pop("_timestamp", None))
        self.last = moment.get("ts", self.last)
        values = {name: value for name, value in values.items() if not name.startswith("_")}
        return metrics(moment or ({"ts": self.last} if self.last else {}), step, flat(_typed_whole(values)))


def _typed_whole(values: Line) -> Line:
    """Tables, histograms and files as one value each: their fields are no metrics of the run."""
    typed = {name.removesuffix("/_type") for name in values if name.endswith("/_type")}
    found: Line = {}
    for name, value in values.items():
        whole = next((each for each in typed if name.startswith(f"{each}/")), None)
        if whole is None:
            found[name] = value
        else:
            found.setdefault(whole, {})[name.removeprefix(f"{whole}/")] = value
    return found


def records(file: Path) -> Iterator[bytes | Damage | str]:
    """The records of the log; the damage between them; a remark on an end in the middle of one."""
    parts: bytes | None = None
    for piece in _pieces(file.read_bytes()):
        if not isinstance(piece, tuple) or isinstance(piece, Damage):
            parts = None
            yield piece
            continue
        kind, data = piece
        if kind in (_FULL, _FIRST):
            parts = data
        elif parts is not None:  # otherwise its beginning is damaged, which was reported
            parts += data
        if kind in (_FULL, _LAST) and parts is not None:
            yield parts
            parts = None


def _pieces(data: bytes) -> Iterator[tuple[int, bytes] | Damage | str]:
    """Kind and bytes of each piece of a record."""
    at = _HEADER
    sums = _end(data, at, sums=True) is not None  # some writers leave the checksums out
    while at < len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:  # the rest of a block that holds no header is padding
            at += left
            continue
        end = _end(data, at, sums=sums)
        if end is not None:
            yield data[at + 6], data[at + _HEADER : end]
            at = end
            continue
        following = _following(data, at + 1) if sums else None
        if following is None:
            yield f"the last {len(data) - at:,} bytes are no whole record: left out."
            return
        yield Damage(f"{following - at:,} bytes from byte {at:,} on are damaged.", data[at:following])
        at = following


def _end(data: bytes, at: int, *, sums: bool) -> int | None:
    """The end of the piece that begins here; None: there is none, or it is damaged."""
    left = min(_BLOCK - at % _BLOCK, len(data) - at)
    if left < _HEADER or data[at + 6] not in (_FULL, _FIRST, _MIDDLE, _LAST):
        return None
    size = int.from_bytes(data[at + 4 : at + 6], "little")
    end = at + _HEADER + size
    if _HEADER + size > left:
        return None
    told = int.from_bytes(data[at : at + 4], "little")
    return None if sums and told != zlib.crc32(data[at + 6 : at + 7] + data[at + _HEADER : end]) else end


def _following(data: bytes, at: int) -> int | None:
    """The beginning of the next complete piece."""
    return next((place for place in range(at, len(data)) if _end(data, place, sums=True) is not None), None)


def _run(body: bytes) -> tuple[Line, Line]:
    found = wire.message(body)
    facts: Line = {name: wire.text(found.get(number)) or None for name, number in _FACTS.items()}
    facts["tags"] = [wire.text(value) for number, value in wire.fields(body) if number == 10] or None
    if 17 in found:
        moment = wire.message(found[17])
        facts["ts"] = iso(wire.signed(moment.get(1)) + wire.signed(moment.get(2)) / 1e9)
    return facts, _items(wire.as_bytes(found.get(4, b"")))


def _items(body: bytes) -> Line:
    """The items of a config or summary: in both, updates are field 1."""
    return {
        name: value
        for number, item in wire.fields(body)
        if number == 1
        for name, value in [_item(wire.as_bytes(item))]
    }


def _item(body: bytes) -> tuple[str, Any]:
    """Key and value; a nested key is joined by `/`, and a value that is no JSON is its text."""
    keys = [wire.text(value) for number, value in wire.fields(body) if number == 2]
    found = wire.message(body)
    text = wire.text(found.get(16))
    try:
        value = json.loads(text or "null")
    except (ValueError, RecursionError):
        value = text
    return "/".join(keys) or wire.text(found.get(1)), value
