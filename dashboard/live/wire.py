"""Rows of the live buffer and of SQL, each as the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from dashboard.live.news import Row
from dashboard.sql import rows
from dashboard.sql.joined import number
from schemas.live import LiveEpisode, LiveStep

T = TypeVar("T", LiveStep, LiveEpisode)

CUT = 600
"""Characters of a long text in a live row; the page asks SQL for the rest."""

_LONG = ("action", "observation", "info")


def stored_step(row: Mapping[str, Any]) -> Row:
    """A step's row out of SQL as panels read it."""
    return Row(_record(LiveStep, row), row["agent_id"])


def stored_episode(row: Mapping[str, Any]) -> Row:
    """An episode's row out of SQL as panels read it."""
    seed = row["seed"] if isinstance(row["seed"], int) else None
    return Row(_record(LiveEpisode, {**row, "seed": seed}), row["agent_id"])


def _record(kind: type[T], row: Mapping[str, Any]) -> T:
    """The same under the same names; a moment of SQL's rows is in ms, of the live buffer's in µs."""
    event_time = int((row["event_time"] or 0) * 1000)
    return kind(**{name: row[name] for name in kind.__struct_fields__} | {"event_time": event_time})


def step(live: LiveStep, agent_id: str) -> dict[str, Any]:
    """A step for the table of steps: what `short` makes of a row from SQL, at a tenth of its cost."""
    told = {"metrics": live.metrics, "extras": live.extras} if _names_seed(live) else None
    return {
        "stream_id": live.stream_id,
        "seq": live.seq,
        "event_time": live.event_time / 1000,
        "agent_id": agent_id,
        "episode_index": live.episode_index,
        "step_index": live.step_index,
        "seed": rows.episode_seed(rows.told_in(told)) if told else None,
        "action": _head(live.action),
        "reward": _shown(live.reward),
        "terminated": live.terminated,
        "truncated": live.truncated,
        "observation": _head(live.observation),
        "info": _head(live.info),
        "metrics": live.metrics,
        "cut": any(len(text) > CUT for text in (live.action, live.observation, live.info) if text),
    }


def _names_seed(live: LiveStep) -> bool:
    return "seed" in (live.extras or "") or "seed" in (live.metrics or "")


def _head(text: str | None) -> str | None:
    return text[:CUT] if text else text


def short(row: dict[str, Any]) -> dict[str, Any]:
    """A step's row with long texts cut, and without what no table shows."""
    cut = bool(row["cut"]) or any(len(row[name] or "") > CUT for name in _LONG)
    heads = {name: _head(row[name]) for name in _LONG}
    made = row | heads | {"cut": cut, "reward": _shown(row["reward"])}
    del made["extras"], made["worker_id"]
    return made


def episode(live: LiveEpisode, agent_id: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """An episode for the table of episodes. `run`: its row, for the game and the seed it was begun with."""
    row = {name: getattr(live, name) for name in LiveEpisode.__struct_fields__} | {"elapsed": None}
    seed = rows.parsed(run.get("config")).get("seed")
    made = rows.episode_row(
        row | {"event_time": None, "agent_id": agent_id},
        run.get("env_id") or None,
        seed if isinstance(seed, str | int | float) else None,
    )
    return light(made | {"event_time": live.event_time / 1000})


def light(row: dict[str, Any]) -> dict[str, Any]:
    """An episode's row without what no table shows."""
    made = row | {"episode_return": _shown(row["episode_return"])}
    del made["extras"], made["metrics"]
    return made


def _shown(value: Any) -> float | str | None:
    """A reward: NaN and the infinities by their names, as JSON has no number for them."""
    if value is None or number(value) is not None:
        return value  # type: ignore[no-any-return]
    return str(value)
