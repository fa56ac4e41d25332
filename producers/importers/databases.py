"""SQLite files of Trackio (a file a project) and MLflow (a file for all experiments)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from producers.importers.lines import Line, ended, flat, iso, metrics, started
from schemas.errors import UsageError

_MLFLOW_STATUS = {"FINISHED": "completed", "FAILED": "failed", "KILLED": "cancelled"}


def readers(file: Path) -> list[Callable[[], Iterator[Line]]]:
    """One reader for each run in the file; none if it is of neither.

    Raises:
        UsageError: SQLite cannot read it.
    """
    engine = create_engine(f"sqlite:///file:{file.resolve()}?mode=ro&uri=true", poolclass=NullPool)
    try:
        tables = set(inspect(engine).get_table_names())
    except DatabaseError as error:
        raise UsageError(f"{file} cannot be imported: {error.orig or error}.") from None
    if {"experiments", "runs", "metrics", "params"} <= tables:
        return [partial(_mlflow, engine, row) for row in _rows(engine, _MLFLOW_RUNS)]
    if {"metrics", "configs"} <= tables:
        return [partial(_trackio, engine, file.stem, row["run_name"]) for row in _rows(engine, _TRACKIO_RUNS)]
    return []


_MLFLOW_RUNS = """
    SELECT run_uuid, runs.name AS name, status, start_time, end_time, experiments.name AS experiment
    FROM runs JOIN experiments USING (experiment_id) ORDER BY start_time
"""
_MLFLOW_METRICS = """
    SELECT timestamp, step, key, value, is_nan FROM metrics WHERE run_uuid = :run ORDER BY timestamp, step
"""
_TRACKIO_RUNS = "SELECT DISTINCT run_name FROM metrics ORDER BY run_name"
_TRACKIO_METRICS = "SELECT timestamp, step, metrics FROM metrics WHERE run_name = :run ORDER BY id"


def _mlflow(engine: Engine, run: Line) -> Iterator[Line]:
    run_id = run["run_uuid"]
    config = {row["key"]: row["value"] for row in _rows(engine, _MLFLOW_PARAMS, run=run_id)}
    begin, end = (iso(run[name] / 1000) if run[name] else None for name in ("start_time", "end_time"))
    yield started(run_id, begin, name=run["name"], project=run["experiment"], config=config or None)
    rows = _rows(engine, _MLFLOW_METRICS, run=run_id)
    for (moment, step), same in groupby(rows, itemgetter("timestamp", "step")):
        numbers = {row["key"]: float("nan") if row["is_nan"] else row["value"] for row in same}
        yield metrics(run_id, iso(moment / 1000), step, numbers)
    if run["status"] in _MLFLOW_STATUS:
        yield ended(run_id, end, _MLFLOW_STATUS[run["status"]])


_MLFLOW_PARAMS = "SELECT key, value FROM params WHERE run_uuid = :run"


def _trackio(engine: Engine, project: str, name: str) -> Iterator[Line]:
    run_id, ts = f"{project}-{name}", None
    configs = [json.loads(row["config"]) for row in _rows(engine, _TRACKIO_CONFIG, run=name)]
    config = {key: value for key, value in (configs[-1] if configs else {}).items() if key[0] != "_"}
    for number, row in enumerate(_rows(engine, _TRACKIO_METRICS, run=name)):
        ts = row["timestamp"]
        if number == 0:
            yield started(run_id, ts, name=name, project=project, config=config or None)
        yield metrics(run_id, ts, row["step"], flat(json.loads(row["metrics"])))
    yield ended(run_id, ts)


_TRACKIO_CONFIG = "SELECT config FROM configs WHERE run_name = :run ORDER BY id"


def _rows(engine: Engine, query: str, **values: Any) -> Iterator[Line]:
    with engine.connect() as connection:
        for row in connection.execution_options(yield_per=1000).execute(text(query), values).mappings():
            yield dict(row)
