"""SQLite files of Trackio (a file a project) and MLflow (a file for all experiments), of any version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from infra.sql.sqlite_file import SqliteFile
from producers.importers.lines import Line, Lines, ended, flat, iso, metrics, started, unreadable, when, whole
from producers.importers.source import Source, trail_of

_MLFLOW_STATUS = {"FINISHED": "completed", "FAILED": "failed", "KILLED": "cancelled"}
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
"""Trackio's texts of numbers that JSON does not have."""


def sources(file: Path, remarks: list[str]) -> list[Source]:
    """The runs in the file; none if it is of neither.

    Args:
        remarks: told what is left out.

    Raises:
        UnreadableDatabaseError: SQLite cannot read it.
    """
    database = SqliteFile(file)
    if {"experiments", "runs", "metrics", "params"} <= database.columns.keys():
        return list(_mlflow_runs(database, remarks))
    if {"metrics", "configs"} <= database.columns.keys() and "run_name" in database.columns["metrics"]:
        return list(_trackio_runs(database, remarks))
    return []


def _mlflow_runs(database: SqliteFile, remarks: list[str]) -> Iterator[Source]:
    experiments = {row["experiment_id"]: row for row in database.rows("experiments")}
    for run in database.rows("runs", "start_time"):
        run_id = str(run["run_uuid"])
        experiment = experiments.get(run["experiment_id"], {})
        if "deleted" in (run.get("lifecycle_stage"), experiment.get("lifecycle_stage")):
            remarks.append(f"{database.file}: run {run_id} is deleted in MLflow: left out.")
            continue
        read = partial(_mlflow, database, run, experiment.get("name"))
        trail = trail_of(database.file, run_id)
        yield Source(database.file, read, trail, own=run_id, inner=run_id, everywhere=True)


def _mlflow(database: SqliteFile, run: Line, experiment: Any) -> Lines:
    run_id = run["run_uuid"]
    config = {row["key"]: row["value"] for row in database.rows("params", run_uuid=run_id)}
    tags = {}
    if "tags" in database.columns:
        tags = {row["key"]: row["value"] for row in database.rows("tags", run_uuid=run_id)}
    name = run.get("name") or tags.get("mlflow.runName")
    begin, end = (iso(_seconds(run.get(moment))) for moment in ("start_time", "end_time"))
    yield started(begin, name=name, project=experiment, config=config or None, tags=tags or None)
    rows = database.rows("metrics", "timestamp", "step", run_uuid=run_id)
    for (moment, step), same in groupby(rows, itemgetter("timestamp", "step")):
        for values in _once_each(same):
            yield metrics(when("timestamp", _seconds(moment)), whole(step), values)
    if run["status"] in _MLFLOW_STATUS:
        yield ended(end, _MLFLOW_STATUS[run["status"]])


def _once_each(rows: Iterator[Line]) -> Iterator[Line]:
    """The values of one moment by name; a name that occurs again begins another set of values."""
    sets: list[Line] = []
    for row in rows:
        free = next((values for values in sets if row["key"] not in values), None)
        if free is None:
            sets.append(free := {})
        free[row["key"]] = float("nan") if row.get("is_nan") else row["value"]
    yield from sets


def _seconds(milliseconds: Any) -> Any:
    return milliseconds / 1000 if isinstance(milliseconds, (int, float)) else milliseconds


def _trackio_runs(database: SqliteFile, remarks: list[str]) -> Iterator[Source]:
    if traces := sum(1 for _ in database.rows("traces")) if "traces" in database.columns else 0:
        remarks.append(f"{database.file}: {traces:,} traces are left out.")
    runs = {(row["run_name"], row.get("run_id")): None for row in database.rows("metrics", "id")}
    for name, key in sorted(runs, key=str):
        own = f"{database.file.stem}-{name}"
        read = partial(_trackio, database, name, key)
        yield Source(database.file, read, trail_of(database.file, own), own=own, inner=str(key or name))


def _trackio(database: SqliteFile, name: Any, key: Any) -> Lines:
    which = {"run_name": name, "run_id": key}
    configs = [_loaded(row["config"]) for row in database.rows("configs", "id", **which)]
    config = {key: value for key, value in (configs[-1] if configs else {}).items() if key[:1] != "_"}
    ts, begun = None, False
    for table, prefix in (("metrics", ""), ("system_metrics", "system/")):
        for row in database.rows(table, "id", **which) if table in database.columns else ():
            moment = _moment(row.get("timestamp"))
            ts = moment.get("ts", ts)
            if not begun:
                begun = True
                yield started(ts, name=str(name), project=database.file.stem, config=config or None)
            values = _loaded(row["metrics"])
            if values:
                yield metrics(moment, whole(row.get("step")), flat(_numbered(values), prefix))
            else:
                yield unreadable("The values of a Trackio log are no JSON object.", str(row["metrics"]))
    yield ended(ts)


def _loaded(content: Any) -> Line:
    """A stored JSON object; empty: it is none."""
    try:
        found = json.loads(content)
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _numbered(value: Any) -> Any:
    """The value, in which NaN and the infinities are numbers instead of texts."""
    if isinstance(value, dict):
        return {name: _numbered(each) for name, each in value.items()}
    return _SPECIAL.get(value, value) if isinstance(value, str) else value


def _moment(written: Any) -> Line:
    """The time of a log: ISO-8601, or seconds since 1970."""
    try:
        datetime.fromisoformat(written)
    except (ValueError, TypeError):
        return when("timestamp", written)
    return {"ts": written}
