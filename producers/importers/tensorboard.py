"""TensorBoard's event files: TFRecords of `Event` messages. A folder of them is a run.

CleanRL's `charts/episodic_return` and `charts/episodic_length` at one step are an episode; every other
value is a metric at its global step; the table of a text `hyperparameters` is the config.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from producers.importers import wire
from producers.importers.lines import Line, Lines, ended, iso, metrics, started, unreadable, when, whole
from producers.importers.source import Source, trail_of
from producers.importers.tfrecords import Damage, records

_RETURN, _LENGTH = "charts/episodic_return", "charts/episodic_length"
_CONFIG = "hyperparameters/"
_STRING = 7
"""TensorFlow's number of the type of texts."""
_NUMBERS = {1: ("f", 5), 2: ("d", 6), 3: ("i", 7), 9: ("q", 10)}
"""Type of a tensor → `struct`'s letter of its numbers, and the field of single numbers."""
_PICTURES = {4: "pictures", 6: "sounds"}
"""Fields of a value that are left out."""
_LEFT_OUT = ("images", "audio", "pr_curves", "mesh", "hparams")
"""Plugins whose values are left out."""


class Value(NamedTuple):
    """One value of an event."""

    time: float
    step: int
    tag: str
    value: Any


class LeftOut(NamedTuple):
    """A value of a kind that is not imported."""

    kind: str


def is_event_file(path: Path) -> bool:
    """Whether TensorBoard wrote it, by its name."""
    return ".tfevents." in path.name


def source(folder: Path) -> Source:
    """The run of a folder, named after it."""
    return Source(folder, lambda: read_folder(folder), trail_of(folder))


def read_folder(folder: Path) -> Lines:
    """The values of a folder's files, by time."""
    values: list[Value] = []
    left_out: Counter[str] = Counter()
    for file in sorted(folder.iterdir()):
        if is_event_file(file):
            for found in read(file):
                if isinstance(found, Value):
                    values.append(found)
                elif isinstance(found, LeftOut):
                    left_out[found.kind] += 1
                else:
                    yield found
    _sort(values)
    times = [ts for value in values if (ts := iso(value.time))]
    config = next((table(v.value) for v in values if v.tag.startswith(_CONFIG)), None)
    yield started(times[0] if times else None, name=trail_of(folder)[-1], config=config or None)
    yield from _events(values)
    yield from (f"{number:,} {kind} left out." for kind, number in left_out.items())
    yield ended(times[-1] if times else None)


def _sort(values: list[Value]) -> None:
    """Sorted by time; a value without a time stays behind its predecessor."""
    newest, keys = 0.0, []
    for value in values:
        newest = value.time if iso(value.time) else newest
        keys.append(newest)
    order = sorted(range(len(values)), key=keys.__getitem__)
    values[:] = [values[place] for place in order]


def _events(values: list[Value]) -> Iterator[Line]:
    lengths = _lengths(values)
    episode = 0
    for value in values:
        if value.tag == _RETURN:
            queue = lengths.get(value.step)
            yield _line(
                "episode",
                **when("wall_time", value.time),
                episode_index=episode,
                episode_return=value.value,
                episode_length=queue.popleft() if queue else None,
                metrics={"global_step": value.step},
            )
            episode += 1
        elif not (value.tag == _LENGTH and value.step in lengths) and not value.tag.startswith(_CONFIG):
            yield metrics(when("wall_time", value.time), value.step, {value.tag: value.value})


def _lengths(values: list[Value]) -> dict[int, deque[int]]:
    """The lengths of the episodes that ended at a step, in their order, where each episode has one."""
    returns = Counter(value.step for value in values if value.tag == _RETURN)
    lengths: dict[int, deque[int]] = defaultdict(deque)
    for value in values:
        if value.tag == _LENGTH and (length := whole(value.value)) is not None:
            lengths[value.step].append(length)
    return {step: queue for step, queue in lengths.items() if len(queue) == returns[step]}


def _line(kind: str, **said: Any) -> Line:
    return {"type": kind, **{name: value for name, value in said.items() if value is not None}}


def read(file: Path) -> Iterator[Value | LeftOut | Line | str]:
    """The values of one event file, and a line or a remark for each place that cannot be read."""
    for record in records(file):
        if isinstance(record, str):
            yield f"{file.name}: {record}"
            continue
        if isinstance(record, Damage):
            yield unreadable(f"{file.name}: {record.message}", record.raw)
            continue
        try:
            yield from list(_values(record))
        except (ValueError, struct.error):
            yield unreadable(f"{file.name}: an event cannot be read.", record)


def _values(event: bytes) -> Iterator[Value | LeftOut]:
    found = wire.message(event)
    time, step = wire.double(found.get(1, b"\0" * 8)), wire.signed(found.get(2))
    for number, summary in wire.fields(wire.as_bytes(found.get(5, b""))):
        if number == 1:
            inside = wire.message(summary)
            value = _value(inside)
            tag = wire.text(inside.get(1))
            yield value if isinstance(value, LeftOut) else Value(time, step, tag, value)


def _value(inside: dict[int, int | bytes]) -> Any:
    """A number, a text, a list of them or a histogram."""
    if 2 in inside:
        return wire.double(inside[2])
    if 5 in inside:
        return _histogram(wire.as_bytes(inside[5]))
    kind = next((word for field, word in _PICTURES.items() if field in inside), None)
    if kind is not None:
        return LeftOut(kind)
    plugin = wire.text(wire.message(wire.message(inside.get(9, b"")).get(1, b"")).get(1))
    tensor = wire.as_bytes(inside.get(8, b""))
    if plugin in _LEFT_OUT or not tensor:
        return LeftOut(f"values of the plugin {plugin}" if plugin else "values of an unknown kind")
    return _tensor(tensor)


def _tensor(tensor: bytes) -> Any:
    found = wire.message(tensor)
    kind = found.get(1)
    if kind == _STRING:
        texts = [wire.text(value) for number, value in wire.fields(tensor) if number == 8]
        return texts[0] if len(texts) == 1 else texts
    letter, field = _NUMBERS.get(kind if isinstance(kind, int) else 0, ("", 0))
    data = found.get(4) or found.get(field)
    if isinstance(data, int):
        return wire.signed(data)
    if not letter or data is None or len(data) % struct.calcsize(letter):
        return LeftOut(f"tensors of type {kind!r}")
    numbers = [number for (number,) in struct.iter_unpack(f"<{letter}", data)]
    return numbers[0] if len(numbers) == 1 else numbers


def _histogram(body: bytes) -> Line:
    found = wire.message(body)
    names = {1: "min", 2: "max", 3: "num", 4: "sum", 5: "sum_squares"}
    line: Line = {name: wire.double(found[field]) for field, name in names.items() if field in found}
    for field, name in ((6, "bucket_limit"), (7, "bucket")):
        packed = wire.as_bytes(found.get(field, b""))
        line[name] = [number for (number,) in struct.iter_unpack("<d", packed)]
    return {"_type": "histogram", **line}


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
