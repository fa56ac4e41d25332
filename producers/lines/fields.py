"""The fields of one line. Handlers take them one by one; the others become `metrics` and `extras`."""

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
"""Fields whose string holds JSON → the name of the parsed value."""

TIME_NAMES = ("ts", "timestamp", "ts_unix_ns")

DEEPEST = 32
"""Nested names are joined by `/` down to this depth; deeper objects stay as they are."""


class FieldReader:
    """The fields of a line that were not taken yet.

    Args:
        fields: name → JSON text; taking one removes it.
        kind: the known kind that the line names, if any.
    """

    def __init__(self, fields: Fields, kind: str | None = None) -> None:
        self.fields = fields
        self.kind = kind
        self.beside: list[tuple[Kind, dict[str, Any]]] = []
        """Columns of further records in the line; they have the line's key."""
        self._notes: Fields = {}
        self._flat: tuple[Fields, Fields] | None = None

    def has(self, *names: str) -> bool:
        """Whether one of the fields is present and not null."""
        return any(self.fields.get(name, "null") != "null" for name in names)

    def take(self, *names: str) -> tuple[str, str] | None:
        """Take the first of the fields that is not null: name and text. Null ones are removed."""
        for name in names:
            if name in self.fields:
                text = self.fields[name]
                if text != "null":
                    return name, self.fields.pop(name)
                del self.fields[name]
        return None

    def json(self, *names: str) -> str | None:
        """Take the JSON text of the first of the fields that is present, also where it is null."""
        return next((self.fields.pop(name) for name in names if name in self.fields), None)

    def note(self, name: str, text: str) -> None:
        """Put a taken value that no column holds into extras."""
        self._notes[name] = text

    def joined(self) -> str:
        """The fields that were not taken, and the noted values, as one object."""
        return join(self.fields | self._notes)

    def double(self, column: str, *names: str) -> float | None:
        """A double. NaN is also noted in extras, as SQLite has no NaN."""
        value = self._read(number, names)
        if value is not None and value != value:  # noqa: PLR0124 - NaN alone differs from itself
            self.note(column, '"NaN"')
        return value

    def integer(self, *names: str) -> int | None:
        """A whole number; one of more than 64 bits stays in extras."""
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
        """The fields of an object; empty if it is none. The object is not taken."""
        return _inside(self.fields.get(name, ""))

    def rest(self) -> dict[str, Any]:
        """`metrics` and `extras`: the fields that were not taken."""
        return self._divided(self._column_named("metrics"), self._column_named("extras"))

    def _column_named(self, name: str) -> Fields:
        """An object with a column's own name becomes that column."""
        return _inside(self.fields.pop(name)) if self.fields.get(name, "")[:1] == "{" else {}

    def _divided(self, named: Fields, extras: Fields) -> dict[str, Any]:
        numbers: Fields = {}
        for name, text in (*named.items(), *self.fields.items()):
            (numbers if is_number(text) else extras)[name] = text
        return self.columns(numbers, extras)

    def columns(self, numbers: Fields, extras: Fields) -> dict[str, Any]:
        """The two columns, with the noted values."""
        extras |= self._notes
        return {"metrics": join(numbers) if numbers else None, "extras": join(extras) if extras else None}

    def flattened(self) -> tuple[Fields, Fields]:
        """Numbers and the rest; names of nested objects are joined by `/`.

        A second time in the line is no metric.
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
    """JSON in JSON: a string that holds JSON becomes its value, under the name without `_json`."""
    for name, target in IN_JSON.items():
        if name not in fields:
            continue
        text = fields[name]
        inner = string(text).strip() if text[0] == '"' else text
        text = inner if is_json(inner) else text
        del fields[name]
        fields[name if target in fields else target] = text
