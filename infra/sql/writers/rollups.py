"""Upserts that add a batch's changes to the rows of runs, agents and seek points.

The rules are those of `merge` of `RunState`, `AgentState` and `SeekPoint`; a test compares them.
`old` is the existing row, `excluded` the batch's change. {greatest} and {least} are the functions of the
database; both sides are made non-null first, as databases treat NULL differently.
"""

from __future__ import annotations

from schemas.tables import Agent, Run, SeekPointRow

_COUNTS = ("steps", "episodes", "metrics", "run_events", "logs", "dead_letters")
_AGENT_SUMS = ("steps", "episodes", "metrics", "returns", "return_sum")

_DECIDES = "excluded.status_at IS NOT NULL AND (old.status_at IS NULL OR excluded.status_at >= old.status_at)"
"""A newer record sets the status; an older one does not."""

_HEARD_SINCE = {
    "excluded": "excluded.status = 'lost' AND old.last_seen_at > excluded.status_at",
    "old": "old.status = 'lost' AND excluded.last_seen_at > old.status_at",
}
"""A lost run with a newer record is running."""

_NEWER_EPISODE = (
    "excluded.newest_episode_at IS NOT NULL AND "
    "(old.newest_episode_at IS NULL OR excluded.newest_episode_at >= old.newest_episode_at)"
)


def _decided(column: str, revived: str) -> str:
    sides = [
        f"(CASE WHEN {_HEARD_SINCE[side]} THEN {revived} ELSE {side}.{column} END)"
        for side in ("excluded", "old")
    ]
    return f"CASE WHEN {_DECIDES} THEN {sides[0]} ELSE {sides[1]} END"


def _extreme(word: str, column: str) -> str:
    return f"{{{word}}}(coalesce(old.{column}, excluded.{column}), coalesce(excluded.{column}, old.{column}))"


def _newest(column: str) -> str:
    return f"CASE WHEN {_NEWER_EPISODE} THEN excluded.{column} ELSE old.{column} END"


_RUNS = {
    "status": _decided("status", "'running'"),
    "reason": _decided("reason", "NULL"),
    "status_at": f"CASE WHEN {_DECIDES} THEN excluded.status_at ELSE old.status_at END",
    "ended_at": f"CASE WHEN {_DECIDES} THEN excluded.ended_at ELSE old.ended_at END",
    "env_id": "coalesce(old.env_id, excluded.env_id)",
    "started_at": _extreme("least", "started_at"),
    "last_seen_at": _extreme("greatest", "last_seen_at"),
    **{
        name: f"coalesce(excluded.{name}, old.{name})"
        for name in ("name", "project", "algorithm", "config", "host", "git_commit")
    },
    **{name: f"old.{name} + excluded.{name}" for name in _COUNTS},
}

_AGENTS = {
    "first_seen_at": _extreme("least", "first_seen_at"),
    "last_seen_at": _extreme("greatest", "last_seen_at"),
    "best_return": _extreme("greatest", "best_return"),
    **{name: _newest(name) for name in ("newest_return", "newest_episode_index", "newest_episode_at")},
    **{name: f"old.{name} + excluded.{name}" for name in _AGENT_SUMS},
}

_SEEK_POINTS = {
    "newest_event_time": _extreme("greatest", "newest_event_time"),
    "newest_episode": _extreme("greatest", "newest_episode"),
    "first_offset": _extreme("least", "first_offset"),
    "last_offset": _extreme("greatest", "last_offset"),
    "records": "old.records + excluded.records",
}

COLUMNS = {
    model.__tablename__: tuple(column.name for column in model.__table__.columns)
    for model in (Run, Agent, SeekPointRow)
}
KEYS = {
    model.__tablename__: tuple(column.name for column in model.__table__.columns if column.primary_key)
    for model in (Run, Agent, SeekPointRow)
}
_CHANGES = {"runs": _RUNS, "agents": _AGENTS, "seek_points": _SEEK_POINTS}


def upsert(table: str, source: str, *, greatest: str, least: str) -> str:
    """The statement that adds rows from `source` (`VALUES …` or `SELECT …`) to those of a table."""
    changes = ", ".join(f"{column} = {rule}" for column, rule in _CHANGES[table].items())
    return (
        f"INSERT INTO {table} AS old ({', '.join(COLUMNS[table])}) {source} "
        f"ON CONFLICT ({', '.join(KEYS[table])}) DO UPDATE SET "
        + changes.format(greatest=greatest, least=least)
    )
