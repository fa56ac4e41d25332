"""Weights & Biases' offline runs: `run-<id>.wandb`, a log of LevelDB's format with `Record` messages."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producers.importers import wire
from producers.importers.lines import Line, ended, flat, iso, metrics, started
from schemas.errors import UsageError

_BLOCK = 32768
_HEADER = 7
_MAGIC = b":W&B"
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT = 2, 3, 5, 17, 18
"""Numbers of the fields of `Record`."""
_FACTS = {"project": 3, "group": 6, "job_type": 7, "name": 8, "notes": 9, "host": 13}
"""Numbers of the fields of `RunRecord`."""


def lines(file: Path) -> Iterator[Line]:
    """The run of one file. One without an end, as of a process that was killed, is failed."""
    run = _Seen(file.stem.removeprefix("run-"))
    for record in records(file):
        for number, body in wire.fields(record):
            if number == _HISTORY:
                yield from run.begin()
                yield run.history(wire.as_bytes(body))
            elif number in (_SUMMARY, _CONFIG, _RUN, _EXIT):
                run.take(number, wire.as_bytes(body))
    yield from run.begin()
    summary = {name: value for name, value in run.summary.items() if not name.startswith("_")}
    yield ended(run.run_id, run.last, run.status, summary=summary or None)


class _Seen:
    """What the records told of the run so far."""

    def __init__(self, run_id: str) -> None:
        self.run_id, self.status = run_id, "failed"
        self.last: str | None = None
        self.summary: Line = {}
        self._facts: Line = {}
        self._config: Line = {}
        self._begun = False

    def take(self, number: int, body: bytes) -> None:
        """A record that is no history."""
        if number == _EXIT:
            self.status = "failed" if wire.signed(wire.message(body).get(1)) else "completed"
        elif number == _SUMMARY:
            self.summary |= _items(body)
        elif number == _CONFIG:
            self._config |= _items(body)
        else:
            self._facts, settings = _run(body)
            self.run_id = self._facts.pop("run_id") or self.run_id
            self.last = self.last or self._facts.get("ts")
            self._config |= settings

    def begin(self) -> Iterator[Line]:
        """The begin of the run, before its first history: what is told of it comes earlier."""
        if not self._begun:
            self._begun = True
            config = {name: value for name, value in self._config.items() if name != "_wandb"}
            yield started(self.run_id, self._facts.pop("ts", None), **self._facts, config=config or None)

    def history(self, body: bytes) -> Line:
        """One call of `log`."""
        values = _items(body)
        step = wire.signed(wire.message(wire.message(body).get(2, b"")).get(1))
        moment = values.pop("_timestamp", None)
        self.last = iso(moment) if moment else self.last
        values = {name: value for name, value in values.items() if not name.startswith("_")}
        return metrics(self.run_id, self.last, step, flat(values))


def records(file: Path) -> Iterator[bytes]:
    """The records of the log; a torn end ends it.

    Raises:
        UsageError: the file is none of W&B's.
    """
    data = file.read_bytes()
    if not data.startswith(_MAGIC):
        raise UsageError(f"{file} does not begin as W&B's files do: it cannot be imported.")
    at, parts = _HEADER, b""
    while at + _HEADER <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:  # the rest of a block that holds no header is padding
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        piece = data[at + _HEADER : at + _HEADER + size]
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or len(piece) < size:
            return
        parts = piece if kind in (_FULL, _FIRST) else parts + piece
        at += _HEADER + size
        if kind in (_FULL, _LAST):
            yield parts


def _run(body: bytes) -> tuple[Line, Line]:
    found = wire.message(body)
    facts: Line = {"run_id": wire.text(found.get(1))}
    for name, number in (
        ("project", 3),
        ("group", 6),
        ("job_type", 7),
        ("name", 8),
        ("notes", 9),
        ("host", 13),
    ):
        facts[name] = wire.text(found.get(number)) or None
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
    """Key and value; a nested key is joined by `/`."""
    keys = [wire.text(value) for number, value in wire.fields(body) if number == 2]
    found = wire.message(body)
    value: Any = None
    with contextlib.suppress(ValueError):
        value = json.loads(wire.text(found.get(16)) or "null")
    return "/".join(keys) or wire.text(found.get(1)), value
