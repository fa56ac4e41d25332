"""Rows of SQL as the tables on the page name them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Integer, LargeBinary, String, Table, cast, func

from infra.sql.tables import DEAD_LETTERS, EPISODES, LOGS, RUNS, STEPS, text_of

Row = Mapping[Any, Any]

CUT = 2_000
"""Characters of a long text in a table's row; `Queries.step` has it in full."""

_WHO = {"timestamp": "event_time", "worker": "worker_id", "agent": "agent_id"}

_TEXTS = {"observation", "action", "info", "metrics", "extras", "payload", "config", "line"}
"""JSON and text that may be long. `metrics` of a run is a number."""

NAMES: dict[Table, dict[str, str]] = {
    STEPS: _WHO
    | {"episode": "episode_index", "step": "step_index", "action": "action", "reward": "reward"}
    | {"terminated": "terminated", "truncated": "truncated", "observation": "observation", "info": "info"},
    EPISODES: _WHO
    | {"episode": "episode_index", "steps": "episode_length", "total_reward": "episode_return"}
    | {"terminated": "terminated", "truncated": "truncated", "episode_seed": "seed"},
    LOGS: _WHO | {"source": "source", "line": "line"},
    DEAD_LETTERS: _WHO
    | {"reason": "reason", "field": "field", "message": "message", "redriven_at": "redriven_at"},
    RUNS: {column.name: column.name for column in RUNS.c},
}
"""What the page calls a column → the column. These can be sorted and filtered by."""


def columns(table: Table) -> dict[str, ColumnElement[Any]]:
    """The columns that a page can sort and filter by."""
    return {name: table.c[column] for name, column in NAMES[table].items()}


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
    """A step for the table of steps."""
    told = told_in(row)
    return _who(row) | {
        "episode": row["episode_index"],
        "step": row["step_index"],
        "episode_seed": episode_seed(told),
        "action": row["action"],
        "reward": row["reward"],
        "terminated": row["terminated"],
        "truncated": row["truncated"],
        "observation": row["observation"],
        "info": row["info"],
        "metrics": row["metrics"],
        "extras": row["extras"],
        "cut": any(len(row[name] or "") > CUT for name in ("action", "observation", "info", "extras")),
    }


def episode_seed(told: Mapping[str, Any]) -> Any:
    """The seed of a step's episode, where the worker says it."""
    return _first(told, "episode_seed", "seed")


def episode_row(row: Row, env_id: str | None = None, seed: Any = None) -> dict[str, Any]:
    """An episode for the table of episodes.

    Args:
        row: of SQL.
        env_id: the run's, where the episode names no game itself.
        seed: the run's.
    """
    told = told_in(row)
    own = _first(told, "episode_seed")
    its = row["seed"]
    return _who(row) | {
        "episode": row["episode_index"],
        "steps": row["episode_length"],
        "total_reward": row["episode_return"],
        "terminated": row["terminated"],
        "truncated": row["truncated"],
        # One that names both means the run's by `seed`.
        "seed": _given(_first(told, "seed"), None if own is None else its, seed),
        "episode_seed": _given(own, its),
        "mode": _first(told, "mode", "control_mode"),
        "game": _first(told, "game_id", "env_id", "env_name", "game") or env_id,
        "outcome": _outcome(told),
        "duration": row["duration"],
        "metrics": row["metrics"],
        "extras": row["extras"],
    }


def log_row(row: Row) -> dict[str, Any]:
    """A line for the run's log."""
    return _who(row) | {"source": row["source"], "line": row["line"], "cut": len(row["line"]) > CUT}


def dead_letter_row(row: Row) -> dict[str, Any]:
    """A dead letter; its bytes as text for the eye."""
    names = ("reason", "field", "message", "producer_version", "topic", "topic_partition", "topic_offset")
    return (
        _who(row)
        | {name: row[name] for name in names}
        | {"raw": bytes(row["raw"]).decode(errors="replace"), "redriven_at": moment(row["redriven_at"])}
    )


def plain_row(row: Row) -> dict[str, Any]:
    """A row under its columns' names, moments in ms."""
    return {name: moment(value) if isinstance(value, datetime) else value for name, value in row.items()}


def moment(value: datetime | None) -> int | None:
    """A moment in ms since 1970."""
    return None if value is None else int(value.astimezone(UTC).timestamp() * 1000)


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


def _who(row: Row) -> dict[str, Any]:
    return {
        "stream_id": row["stream_id"],
        "seq": row["seq"],
        "timestamp": moment(row["event_time"]),
        "worker": row["worker_id"],
        "agent": row["agent_id"],
    }


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
