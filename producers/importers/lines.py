"""Lines as the SDK writes them: the names are those of `producers.dialects`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Line = dict[str, Any]


def iso(seconds: float) -> str:
    """A time as lines have it.

    Args:
        seconds: since 1970, UTC.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def started(run_id: str, ts: str | None, **facts: Any) -> Line:
    """The begin of a run: name, project, config, env_id; what is None is left out."""
    line = {"type": "run_started", "ts": ts, "run_id": run_id, **facts}
    return {name: value for name, value in line.items() if value is not None}


def metrics(run_id: str, ts: str | None, step: int | None, numbers: Line) -> Line:
    """Numbers by name; below `metrics`, so that none is taken for a field."""
    line = {"type": "metrics", "ts": ts, "run_id": run_id, "step": step, "metrics": numbers}
    return {name: value for name, value in line.items() if value is not None}


def ended(run_id: str, ts: str | None, status: str = "completed", **facts: Any) -> Line:
    """The end of a run."""
    line = {"type": "run_completed", "ts": ts, "run_id": run_id, "status": status, **facts}
    return {name: value for name, value in line.items() if value is not None}


def flat(values: Line, prefix: str = "") -> Line:
    """Numbers of nested objects, names joined by `/`."""
    numbers: Line = {}
    for name, value in values.items():
        if isinstance(value, dict):
            numbers |= flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            numbers[f"{prefix}{name}"] = value
    return numbers
