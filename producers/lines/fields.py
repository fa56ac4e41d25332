"""What one line says: its fields, taken one by one; what nobody takes becomes `metrics` and `extras`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from producers.lines.json_text import Fields, NotJsonError, is_json, is_number, join, split
from producers.lines.values import TooWideError, boolean, integer, number, string
from schemas.topics import Kind

T = TypeVar("T")

IN_JSON = {
    "action_json": "action",
    "observation_json": "observation",
    "render_hint_json": "render_hint",
    "metadata_json": "metadata",
}
"""Fields whose string holds JSON, and the name of the value itself."""

TIME_NAMES = ("ts", "timestamp", "ts_unix_ns")

DEEPEST = 32
"""Names are joined down to this depth; what is deeper stays as it is."""


class FieldReader:
    """The fields of a line that nobody has taken yet.

    Args:
        fields: name → JSON text; what is taken is removed.
        kind: the kind that the line names and we know; None: none.
    """

    def __init__(self, fields: Fields, kind: str | None = None) -> None:
        self.fields = fields
        self.kind = kind
        self.beside: list[tuple[Kind, dict[str, Any]]] = []
        """Columns of further records that the line holds; without a key of their own, under the line's."""
        self._notes: Fields = {}
        self._flat: tuple[Fields, Fields] | None = None

    def has(self, *names: str) -> bool:
        """Whether one of the fields is there and not null."""
        return any(self.fields.get(name, "null") != "null" for name in names)

    def take(self, *names: str) -> tuple[str, str] | None:
        """Name and text of the first of the fields that is there and not null; null ones go."""
        for name in names:
            if name in self.fields:
                text = self.fields[name]
                if text != "null":
                    return name, self.fields.pop(name)
                del self.fields[name]
        return None

    def json(self, *names: str) -> str | None:
        """The own JSON text of the first of the fields that is there; null is kept as JSON's null."""
        return next((self.fields.pop(name) for name in names if name in self.fields), None)

    def note(self, name: str, text: str) -> None:
        """Keep what was taken and no column holds: it will stand in extras."""
        self._notes[name] = text

    def joined(self) -> str:
        """All that nobody has taken, and what was noted, as one object."""
        return join(self.fields | self._notes)

    def double(self, column: str, *names: str) -> float | None:
        """A double. NaN is noted in extras too, as SQLite has none."""
        value = self._read(number, names)
        if value is not None and value != value:  # noqa: PLR0124 - NaN alone differs from itself
            self.note(column, '"NaN"')
        return value

    def integer(self, *names: str) -> int | None:
        """A whole number; one that 64 bits do not hold stays in extras."""
        found = self.take(*names)
        if found is None:
            return None
        try:
            return integer(*found)
        except TooWideError:
            self.note(*found)
            return None

    def boolean(self, *names: str) -> bool | None:
        """true or false."""
        return self._read(boolean, names)

    def _read(self, read: Callable[[str, str], T], names: tuple[str, ...]) -> T | None:
        found = self.take(*names)
        return None if found is None else read(*found)

    def inside(self, name: str) -> Fields:
        """The fields of a field that is an object; empty where it is none. It stays."""
        return _inside(self.fields.get(name, ""))

    def rest(self) -> dict[str, Any]:
        """`metrics` and `extras`: what was not taken."""
        return self._divided(self._column_named("metrics"), self._column_named("extras"))

    def _column_named(self, name: str) -> Fields:
        """An object under a column's own name is that column."""
        return _inside(self.fields.pop(name)) if self.fields.get(name, "")[:1] == "{" else {}

    def _divided(self, named: Fields, extras: Fields) -> dict[str, Any]:
        numbers: Fields = {}
        for name, text in (*named.items(), *self.fields.items()):
            (numbers if is_number(text) else extras)[name] = text
        return self.columns(numbers, extras)

    def columns(self, numbers: Fields, extras: Fields) -> dict[str, Any]:
        """The two columns, with what was noted on the way."""
        extras |= self._notes
        return {"metrics": join(numbers) if numbers else None, "extras": join(extras) if extras else None}

    def flattened(self) -> tuple[Fields, Fields]:
        """Numbers and the rest; names of nested objects joined by `/`. Asked twice, it is the same.

        A time beside the one that was read is no number by name.
        """
        if self._flat is None:
            for name in TIME_NAMES:
                if name in self.fields:
                    self.note(name, self.fields.pop(name))
            self._flat = {}, {}
            _flatten("", self.fields, *self._flat, DEEPEST)
        return self._flat


def _flatten(prefix: str, fields: Fields, numbers: Fields, others: Fields, depth: int) -> None:
    for name, text in fields.items():
        path = prefix + name
        if path in numbers or path in others:  # {"a": {"b": 1}, "a/b": 2}
            path = f"{path}#{len(numbers) + len(others)}"
        if text[0] == "{" and depth and (inner := _inside(text)):
            _flatten(f"{path}/", inner, numbers, others, depth - 1)
        else:
            (numbers if is_number(text) else others)[path] = text


def _inside(text: str) -> Fields:
    try:
        return split(text) if text[:1] == "{" else {}
    except NotJsonError:
        return {}


def unpack(fields: Fields) -> None:
    """JSON in JSON: a string that holds JSON becomes the value itself, under the name without `_json`."""
    for name, target in IN_JSON.items():
        if name not in fields:
            continue
        text = fields[name]
        inner = string(text).strip() if text[0] == '"' else text
        text = inner if is_json(inner) else text
        del fields[name]
        fields[name if target in fields else target] = text
