"""Rows of SQL as the page gets them: under their columns' names, moments in ms. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    Boolean,
    ColumnElement,
    Double,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    cast,
    func,
)

from infra.sql.tables import DEAD_LETTERS, EPISODES, LOGS, STEPS, text_of
from schemas.positions import EPOCH
from schemas.tables import UtcTime, own_columns

Row = Mapping[Any, Any]
Kind = Literal["time", "number", "whole", "yes_no", "long", "word"]

MS = timedelta(milliseconds=1)
CUT = 2_000
"""Characters of a long text in a table's row; `Queries.step` has it in full."""

OWN = {table: own_columns(table) for table in (STEPS, EPISODES, LOGS, DEAD_LETTERS)}

_TEXTS = {"observation", "action", "info", "metrics", "extras", "payload", "config", "line"}
"""JSON and text that may be long. `metrics` of a run is a number."""


def columns(table: Table) -> dict[str, ColumnElement[Any]]:
    """The columns that a page can sort and filter by."""
    return {column.name: column for column in table.c if not isinstance(column.type, LargeBinary)}


def kinds(table: Table) -> dict[str, Kind]:
    """How each of those columns is shown."""
    return {name: _kind(column.type) for name, column in columns(table).items()}


def _kind(type_: Any) -> Kind:
    known: list[tuple[Any, Kind]] = [
        (UtcTime, "time"),
        (Boolean, "yes_no"),
        (JSON, "long"),
        (Double, "number"),
        (Integer, "whole"),
        (Text, "word"),
    ]
    return next((kind for sql, kind in known if isinstance(type_, sql)), "word")


def head_of(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The head of a JSON or text column's text; longer than `CUT` where something is cut off."""
    return func.substr(cast(column, String), 1, CUT + 1)


def selected(table: Table, full: bool = False) -> list[ColumnElement[Any]]:
    """All columns of a table, JSON as text; long ones by their head."""
    out: list[ColumnElement[Any]] = []
    for column in table.c:
        if isinstance(column.type, LargeBinary):
            out.append((column if full else func.substr(column, 1, CUT)).label(column.name))
        elif column.name in _TEXTS and not isinstance(column.type, Integer):
            out.append((text_of if full else head_of)(column).label(column.name))
        else:
            out.append(column)
    return out


def step_row(row: Row) -> dict[str, Any]:
    """A step under its columns' names. `seed`: of its episode, where the worker says it."""
    cut = any(len(row[name] or "") > CUT for name in ("action", "observation", "info", "extras"))
    return _event(STEPS, row) | {"seed": episode_seed(told_in(row)), "cut": cut}


def episode_seed(told: Mapping[str, Any]) -> Any:
    """The seed of a step's episode, where the worker says it."""
    return _first(told, "episode_seed", "seed")


def episode_row(row: Row, env_id: str | None = None, seed: Any = None) -> dict[str, Any]:
    """An episode under its columns' names, with `run_seed`, `mode`, `game` and `outcome`.

    Args:
        row: of SQL.
        env_id: the run's, where the episode names no game itself.
        seed: the run's.
    """
    told = told_in(row)
    own, its = _first(told, "episode_seed"), row["seed"]
    return _event(EPISODES, row) | {
        "seed": _given(own, its),
        # A worker that names both means the run's by `seed`.
        "run_seed": _given(_first(told, "seed"), None if own is None else its, seed),
        "mode": _first(told, "mode", "control_mode"),
        "game": _first(told, "game_id", "env_id", "env_name", "game") or env_id,
        "outcome": _outcome(told),
    }


def log_row(row: Row) -> dict[str, Any]:
    """A line for the run's log."""
    return _event(LOGS, row) | {"cut": len(row["line"]) > CUT}


def dead_letter_row(row: Row) -> dict[str, Any]:
    """A dead letter; its bytes as text for the eye."""
    place = {name: row[name] for name in ("topic_partition", "topic_offset")}
    shown = {"raw": bytes(row["raw"]).decode(errors="replace"), "redriven_at": moment(row["redriven_at"])}
    return _event(DEAD_LETTERS, row) | place | shown


def plain_row(row: Row) -> dict[str, Any]:
    """A row under its columns' names, moments in ms."""
    return {name: moment(value) if isinstance(value, datetime) else value for name, value in row.items()}


def moment(value: datetime | None) -> int | None:
    """A moment in whole ms since 1970."""
    return None if value is None else (value.astimezone(UTC) - EPOCH) // MS


def told_in(row: Row) -> dict[str, Any]:
    """What a worker said and no column took: `extras`, what is nested there as metadata, and `metrics`."""
    extras = parsed(row["extras"])
    nested = extras.get("metadata")
    return parsed(row["metrics"]) | (nested if isinstance(nested, dict) else {}) | extras


def parsed(text: str | None) -> dict[str, Any]:
    """A JSON object; empty where there is none, or only its head."""
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _event(table: Table, row: Row) -> dict[str, Any]:
    """An event under its columns' names; its moment in ms."""
    who = {name: row[name] for name in ("stream_id", "seq", "worker_id", "agent_id")}
    return who | {"event_time": moment(row["event_time"])} | {name: row[name] for name in OWN[table]}


def _given(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _first(told: Row, *names: str) -> Any:
    for name in names:
        value = told.get(name)
        if isinstance(value, str | int | float):
            return value
    return None


def _outcome(told: Row) -> Any:
    said = _first(told, "outcome", "result", "success", "is_success")
    return {True: "success", False: "failure"}[said] if isinstance(said, bool) else said
