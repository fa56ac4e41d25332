"""Lines as the SDK writes them (names as in `producers.lines.dialects`), without their run.

An importer yields lines and texts: a text tells the user what it leaves out.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

Line = dict[str, Any]
Lines = Iterator[Line | str]

UNREADABLE = "unreadable"
"""Kind of a line that becomes a dead letter."""
RAW_CHARACTERS = 65536
BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""First bytes of a file that is not UTF-8. PowerShell's `>` writes UTF-16."""


def encoding_of(head: bytes) -> str:
    """The encoding of a text, by its first four bytes."""
    return next((name for bom, name in BOMS if head.startswith(bom)), "utf-8-sig")


def open_text(file: Path) -> IO[str]:
    """A text file, opened in the encoding of its first bytes; undecodable bytes become U+FFFD."""
    with file.open("rb") as opened:
        encoding = encoding_of(opened.read(4))
    return file.open(encoding=encoding, errors="replace", newline="")


def iso(seconds: Any) -> str | None:
    """A time in the form of our lines; None: no time since 1970.

    Args:
        seconds: since 1970, UTC.
    """
    if not is_number(seconds) or not 0 <= seconds < 253_402_300_800:  # NaN is outside, too
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def when(name: str, seconds: Any) -> Line:
    """The time of a line; a value that is no time is kept under its name."""
    if seconds is None:
        return {}
    ts = iso(seconds)
    return {"extras": {name: seconds}} if ts is None else {"ts": ts}


def is_number(value: Any) -> bool:
    """Whether it is a number; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def whole(value: Any) -> int | None:
    """A whole number, if it is one."""
    return int(value) if is_number(value) and math.isfinite(value) and value == int(value) else None


def started(ts: str | None, **facts: Any) -> Line:
    """The start of a run: name, project, config, env_id; None is left out.

    A run without a config has an empty one: otherwise its other fields would be read as the config.
    """
    return _line("run_started", ts=ts, **facts | {"config": facts.get("config") or {}})


def metrics(moment: Line, step: int | None, values: Line) -> Line:
    """Values by name, inside `metrics`, so that none is read as a field; texts become extras."""
    return _line("metrics", **moment, step=step, metrics=values)


def ended(ts: str | None, status: str = "completed", **facts: Any) -> Line:
    """The end of a run."""
    return _line("run_completed", ts=ts, status=status, **facts)


def unreadable(message: str, raw: str | bytes, **moment: Any) -> Line:
    """A record that cannot be used, which becomes a dead letter.

    Args:
        message: one sentence.
        raw: the record; bytes are kept as hexadecimal digits.
        moment: its time, where that is known.
    """
    text = raw.hex() if isinstance(raw, bytes) else raw
    return _line(UNREADABLE, **moment, message=message, raw=text[:RAW_CHARACTERS])


def _line(kind: str, **said: Any) -> Line:
    return {"type": kind, **{name: value for name, value in said.items() if value is not None}}


def flat(values: Line, prefix: str = "") -> Line:
    """The values of nested objects, names joined by `/`. An object with a type is one value."""
    found: Line = {}
    for name, value in values.items():
        inside = isinstance(value, dict) and "_type" not in value and bool(value)
        for path, leaf in (flat(value, f"{prefix}{name}/") if inside else {f"{prefix}{name}": value}).items():
            if leaf is not None:
                found[path if path not in found else f"{path}#{len(found)}"] = leaf
    return found
