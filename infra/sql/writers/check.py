"""Finds values that a database would refuse: a bad record becomes a dead letter, and its batch is stored.

The rules are the same for both databases: SQLite would store text that is no JSON, and PostgreSQL rolls back
a whole COPY for it.
"""

from __future__ import annotations

import json
from operator import itemgetter

import msgspec
from sqlalchemy import JSON, Text

from infra.sql.engine import BadDataError
from infra.sql.writers.base import COLUMNS, TIME_COLUMN, Row
from schemas.tables import EVENT_TABLES
from schemas.values import EARLIEST_US, LATEST_US, LONGEST_ID

_WHO = ("run_id", "stream_id", "agent_id", "worker_id")
_who = itemgetter(*map(COLUMNS["steps"].index, _WHO))
"""Their index in every table."""

_read_json = msgspec.json.Decoder(msgspec.Raw).decode


class Check:
    """Checks whether rows of a table can be stored."""

    def __init__(self, table: str) -> None:
        self._names = COLUMNS[table]
        types = [EVENT_TABLES[table].columns[name].type for name in self._names]
        self._text = [
            place
            for place, type_ in enumerate(types)
            if isinstance(type_, Text) and self._names[place] not in _WHO
        ]
        self._passed: tuple[str | None, ...] = ()
        self._json = [place for place, type_ in enumerate(types) if isinstance(type_, JSON)]

    def __call__(self, row: Row) -> None:
        """Accept a row, or raise.

        Raises:
            BadDataError: it cannot be stored; which column, and why.
        """
        if not EARLIEST_US <= row[TIME_COLUMN] <= LATEST_US:
            raise BadDataError("event_time is beyond the years 1 to 9999")
        if (who := _who(row)) != self._passed:  # mostly equal to the last row's
            for name, text in zip(_WHO, who, strict=True):
                _be_text(name, text)
                if text is not None and len(text) > LONGEST_ID:
                    raise BadDataError(f"{name} is longer than {LONGEST_ID} characters")
            self._passed = who
        for place in self._text:
            _be_text(self._names[place], row[place])
        for place in self._json:
            if (text := row[place]) is not None:
                try:
                    _read_json(text)
                except (msgspec.DecodeError, RecursionError):
                    _be_json(self._names[place], text)


def _be_text(name: str, text: str | None) -> None:
    if text is not None and "\0" in text:
        raise BadDataError(f"{name} has a NUL character, which no text column takes")


def _be_json(name: str, text: str) -> None:
    """PostgreSQL accepts half a surrogate pair in JSON, and Python prints it; msgspec refuses it."""
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except RecursionError:
        raise BadDataError(f"{name} is nested too deeply") from None
    except ValueError as error:
        raise BadDataError(f"{name} is no JSON: {error}") from None


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number")
