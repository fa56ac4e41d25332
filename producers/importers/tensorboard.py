"""TensorBoard's event files: TFRecords of `Event` messages. A folder of them is a run.

CleanRL's `charts/episodic_return` and `charts/episodic_length` at one step are an episode; every other
scalar is a metric at its global step; the table of a text `hyperparameters` is the config.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from producers.importers import wire
from producers.importers.lines import Line, ended, iso, metrics, started

_LENGTH = struct.Struct("<Q")
_RETURN, _LENGTH_TAG = "charts/episodic_return", "charts/episodic_length"
_FLOAT, _DOUBLE, _STRING = 1, 2, 7
"""TensorFlow's numbers of types."""
_MOST_BYTES = 1 << 30


class Value(NamedTuple):
    """One value of an event: a number or a text."""

    time: float
    step: int
    tag: str
    value: float | str


def is_event_file(path: Path) -> bool:
    """Whether TensorBoard wrote it, by its name."""
    return ".tfevents." in path.name


def lines(folder: Path) -> Iterator[Line]:
    """A run, named after its folder."""
    run_id = folder.resolve().name
    values = [value for file in sorted(folder.iterdir()) if is_event_file(file) for value in read(file)]
    values.sort(key=lambda value: value.time)
    begin = iso(values[0].time) if values else None
    config = next((table(v.value) for v in values if v.tag.startswith("hyperparameters/")), None)
    yield started(run_id, begin, name=run_id, config=config or None)
    yield from _events(run_id, values)
    yield ended(run_id, iso(values[-1].time) if values else None)


def _events(run_id: str, values: list[Value]) -> Iterator[Line]:
    lengths = {value.step: value.value for value in values if value.tag == _LENGTH_TAG}
    episode = 0
    for value in values:
        if value.tag == _RETURN:
            yield {
                "type": "episode",
                "ts": iso(value.time),
                "run_id": run_id,
                "episode_index": episode,
                "episode_return": value.value,
                "episode_length": int(lengths[value.step]) if value.step in lengths else None,
                "metrics": {"global_step": value.step},
            }
            episode += 1
        elif value.tag != _LENGTH_TAG and isinstance(value.value, float):
            yield metrics(run_id, iso(value.time), value.step, {value.tag: value.value})


def read(file: Path) -> Iterator[Value]:
    """The values of one event file; a torn end, as of a writer that was killed, ends it."""
    with file.open("rb") as opened:
        while len(head := opened.read(12)) == 12:
            (length,) = _LENGTH.unpack_from(head)
            data = opened.read(length) if length < _MOST_BYTES else b""
            if len(data) < length or len(opened.read(4)) < 4:
                return
            try:
                yield from _values(data)
            except (wire.WireError, struct.error, UnicodeDecodeError):
                return


def _values(event: bytes) -> Iterator[Value]:
    found = wire.message(event)
    time, step = wire.double(found.get(1, b"\0" * 8)), wire.signed(found.get(2))
    for number, summary in wire.fields(wire.as_bytes(found.get(5, b""))):
        if number == 1:
            inside = wire.message(summary)
            value = _value(inside)
            if value is not None:
                yield Value(time, step, wire.text(inside.get(1)), value)


def _value(inside: dict[int, int | bytes]) -> float | str | None:
    """A scalar (`simple_value`, or a tensor of one number) or a text; None: a picture, a histogram."""
    if 2 in inside:
        return wire.double(inside[2])
    tensor = wire.message(inside.get(8, b""))
    kind = tensor.get(1)
    if kind == _STRING and 8 in tensor:
        return wire.text(tensor[8])
    size, form, field = (4, "<f", 5) if kind == _FLOAT else (8, "<d", 6)
    data = tensor.get(4) or tensor.get(field)
    if kind in (_FLOAT, _DOUBLE) and isinstance(data, bytes) and len(data) == size:
        number: float = struct.unpack(form, data)[0]
        return number
    return None


def table(markdown: Any) -> Line:
    """The rows of `|param|value|`; a value that is a number becomes one."""
    rows = [row.strip().strip("|").split("|", 1) for row in str(markdown).splitlines() if row.startswith("|")]
    return {row[0].strip(): _typed(row[1].strip()) for row in rows[2:] if len(row) == 2}


def _typed(text: str) -> Any:
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
