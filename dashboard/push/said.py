"""What a page has been told: the last text of each leaf and the last value of each property.

    said = Said({"table": "id"})
    said.add(first); said.add(second)
    said.parts()                        # tell one who comes later all of it

Of a Patch its parts are kept, as a page keeps them: a newer one of the same place replaces the older.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import msgspec
from msgspec import Raw, Struct

from dashboard.push.slot import ENCODER, values_of

Message = dict[str, Any]
"""`texts` by key of a live leaf, `props` and `draw` by component id."""
MOST_PARTS = 50
"""Of the Patches of a property: what only grows is not kept."""


class _Part(Struct):
    operation: str
    location: list[str | int]
    params: Raw


class _Patch(Struct, rename={"mark": "__dash_patch_update"}):
    mark: str
    operations: list[_Part]


_IS_PATCH = b'{"__dash_patch_update"'
_patch = msgspec.json.Decoder(_Patch).decode
_rows = msgspec.json.Decoder(list[Raw]).decode


class Said:
    """What was said up to now.

    Args:
        row_ids: the field that identifies a row, by the id of each table that changes by rows.
    """

    def __init__(self, row_ids: Mapping[str, str]) -> None:
        self._row_ids = row_ids
        self._texts: dict[str, str] = {}
        self._set: dict[str, dict[str, dict[str, Raw]]] = {"props": {}, "draw": {}}
        self._patches: dict[str, dict[str, _Patch]] = {}
        self._lost: set[tuple[str, str]] = set()
        """Properties of which not all is kept."""
        self._rows: dict[str, dict[Any, Raw]] = {}
        """The rows of tables that have changed by rows."""

    @property
    def whole(self) -> bool:
        """Whether it is all that a page knows."""
        return not self._lost

    def add(self, message: Message) -> None:
        """One more message."""
        self._texts |= message["texts"]
        for when in self._set:
            for id, values in message[when].items():
                for name, value in values_of(values).items():
                    self._add(when, id, name, value)

    def parts(self) -> list[Message]:
        """All of it, as messages one after the other."""
        patches = {id: dict(of) for id, of in self._patches.items()}
        first: Message = {"texts": self._texts}
        for when, ids in self._set.items():
            first[when] = {}
            for id, values in ids.items():
                made = dict(values)
                if id in self._rows:
                    made["rowData"] = Raw(ENCODER.encode(list(self._rows[id].values())))
                for name in patches.get(id, {}).keys() & made.keys():
                    if (changed := _changed(made[name], patches[id][name])) is not None:
                        made[name] = changed
                        del patches[id][name]
                first[when][id] = Raw(ENCODER.encode(made))
        left = {id: Raw(ENCODER.encode(of)) for id, of in patches.items() if of}
        return [first, {"texts": {}, "props": {}, "draw": left}] if left else [first]

    def _add(self, when: str, id: str, name: str, value: Raw) -> None:
        if name == "rowTransaction":
            self._change(id, value)
        elif bytes(value).startswith(_IS_PATCH):
            self._join(id, name, _patch(value))
        elif name != "api":  # a call changes nothing that is kept
            kept = next((ids[id] for ids in self._set.values() if id in ids), None)
            if kept is None:
                kept = self._set[when][id] = {}
            kept[name] = value.copy()
            if name == "rowData":
                self._rows.pop(id, None)
            self._patches.get(id, {}).pop(name, None)
            self._lost.discard((id, name))

    def _change(self, id: str, value: Raw) -> None:
        """Some rows of a table are new, others, or gone."""
        values = next((ids[id] for ids in self._set.values() if id in ids), {})
        field = self._row_ids.get(id)
        if field is None or "rowData" not in values:
            self._lost.add((id, "rowData"))
            return
        if id not in self._rows:
            self._rows[id] = _by(field, _rows(values["rowData"]))
        changes = values_of(value)
        for name in ("add", "update"):
            self._rows[id] |= _by(field, _rows(changes.get(name, b"[]")))
        for gone in _by(field, _rows(changes.get("remove", b"[]"))):
            self._rows[id].pop(gone, None)

    def _join(self, id: str, name: str, patch: _Patch) -> None:
        patches = self._patches.setdefault(id, {})
        parts = patches[name].operations if name in patches else []
        for part in patch.operations:
            if part.operation == "Assign":
                parts = [one for one in parts if one.location != part.location]
            parts.append(part)
        patches[name] = _Patch(patch.mark, parts)
        if len(parts) > MOST_PARTS:
            self._lost.add((id, name))
            del patches[name]


def _by(field: str, rows: list[Raw]) -> dict[Any, Raw]:
    return {bytes(values_of(row)[field]): row.copy() for row in rows}


def _changed(value: Raw, patch: _Patch) -> Raw | None:
    """The value with the parts of a Patch set in it; None where they do more than that."""
    whole = msgspec.json.decode(value)
    try:
        for part in patch.operations:
            if part.operation != "Assign":
                return None
            *path, last = part.location
            at = reduce(lambda inner, key: inner[key], path, whole)
            at[last] = msgspec.json.decode(part.params)["value"]
    except (LookupError, TypeError):
        return None
    return Raw(ENCODER.encode(whole))
