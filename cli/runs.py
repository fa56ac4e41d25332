"""`runs`: list, show, delete and export the runs in SQL."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cli import progress
from infra import private
from infra.settings import Settings, load
from infra.sql import export as exports
from infra.sql import runs as store
from infra.sql.attempts import Attempt, attempts_of
from infra.sql.migrations import checked_engine
from schemas.errors import LiveBufferError, UsageError

NUMBERS = ("return", "agents", "steps", "episodes", "duration")
LISTED = ("run", "name", "status", "environment", "algorithm", *NUMBERS, "started")
RUN = click.argument("run", metavar="RUN")
"""A run by its id, or by its name where no other run has it."""


@click.group()
def runs() -> None:
    """List, show, delete and export runs."""


@runs.command("list")
@click.option("--json", "as_json", is_flag=True, help="A list of objects, newest first.")
@click.option("--status", help="Only runs of this status.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_(as_json: bool, status: str | None, limit: int | None) -> None:
    """List the runs, newest first."""
    found = store.listed(checked_engine(load()), status=status, limit=limit)
    if as_json:
        click.echo(json.dumps(found, default=_plain))
        return
    table = Table(box=None, pad_edge=False)
    for name in LISTED:
        right, whole = name in NUMBERS, name not in ("name", "environment", "algorithm")
        table.add_column(name, justify="right" if right else "left", no_wrap=whole, overflow="fold")
    now = datetime.now(UTC)
    for run in found:
        table.add_row(*_cells(run, now))
    wide = None if sys.stdout.isatty() else 1000  # a pipe has no edge to cut a run's id at
    none = "No runs yet: `stepstream demo`, or `stepstream run -- COMMAND`."
    Console(width=wide).print(table if found else none)


@runs.command()
@RUN
@click.option("--json", "as_json", is_flag=True, help="One object: the columns of `runs` and the counts.")
def show(run: str, as_json: bool) -> None:
    """Show one run, by its id or name: its columns, counts and attempts."""
    engine = checked_engine(load())
    run_id = store.resolved(engine, run)
    found = store.shown(engine, run_id)
    if as_json:
        click.echo(json.dumps(found, default=_plain))
        return
    for name, value in found.items():
        click.echo(f"{name:13} {_text(value)}")
    for attempt in attempts_of(engine, run_id):
        click.echo(f"attempt {attempt.number:<5} {_attempt(attempt)}")


@runs.command()
@RUN
@click.option("--json", "as_json", is_flag=True, help="A list of objects, the first attempt first.")
def attempts(run: str, as_json: bool) -> None:
    """List the attempts of a run: each time that its id was started anew, with the streams it wrote.

    Every row of the run's tables has its stream_id, which tells the attempts' rows apart.
    """
    engine = checked_engine(load())
    run_id = store.resolved(engine, run)
    store.shown(engine, run_id)
    found = attempts_of(engine, run_id)
    if as_json:
        click.echo(json.dumps([asdict(attempt) for attempt in found], default=_plain))
        return
    for attempt in found:
        click.echo(f"attempt {attempt.number:<5} {_attempt(attempt)}")
        for stream_id in attempt.stream_ids:
            click.echo(f"{'':14}{stream_id}")


def _attempt(attempt: Attempt) -> str:
    started, ended = (at.strftime("%Y-%m-%d %H:%M:%S") for at in (attempt.started_at, attempt.ended_at))
    streams = f"{len(attempt.stream_ids)} stream{'s' if len(attempt.stream_ids) > 1 else ''}"
    return f"{attempt.status}, {started} to {ended}, {streams}"


@runs.command()
@RUN
@click.option("--format", "kind", type=click.Choice(exports.FORMATS), default="parquet", show_default=True)
@click.option("--table", "tables", type=click.Choice([*exports.TABLES]), multiple=True, help="Only these.")
@click.option(
    "--output",
    help="Folder for a file a table; default: named after the run. `-`: one table to stdout, no parquet.",
)
@click.option("--json", "as_json", is_flag=True, help='An object: {"run_id", "folder", "rows" by table}.')
def export(run: str, kind: str, tables: tuple[str, ...], output: str | None, as_json: bool) -> None:
    """Write a run's rows into files, however many they are."""
    engine = checked_engine(load())
    run_id = store.resolved(engine, run)
    counts = store.shown(engine, run_id)
    chosen = tables or exports.tables_of(engine, run_id)
    if output == "-":
        if len(chosen) != 1:
            raise UsageError("One table fits on stdout: name it, such as --table steps.")
        with exports.open_sink(kind, chosen[0], sys.stdout) as sink:
            exports.export_table(engine, run_id, chosen[0], sink)
        return
    os.umask(private.users_umask())
    folder = Path(output or exports.folder_name(run_id))
    with progress.bar("exporting", sum(counts.get(table) or 0 for table in chosen)) as told:
        written = exports.export_run(engine, run_id, folder, kind, tables=chosen, progress=told)
    if as_json:
        click.echo(json.dumps({"run_id": run_id, "folder": str(folder), "rows": written}))
    else:
        click.echo(f"{sum(written.values()):,} rows in {folder}")


@runs.command()
@RUN
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help='An object: {"run_id", "deleted"}.')
def delete(run: str, yes: bool, as_json: bool) -> None:
    """Delete a run from SQL and from the page, whole and for good.

    Records of it that Kafka holds now are not stored again; later ones are the run begun again.
    """
    settings = load()
    engine = checked_engine(settings)
    run_id = store.resolved(engine, run)
    rows = store.rows(engine, run_id)
    if not yes:
        click.confirm(f"Delete run {run_id} ({rows:,} rows)?", abort=True, err=True)
    with progress.bar("deleting", rows) as told:
        deleted = store.remove(engine, run_id, partial(datetime.now, UTC), told)
    if settings.redis_url:
        _take_off_the_page(settings, run_id)
    click.echo(
        json.dumps({"run_id": run_id, "deleted": deleted}) if as_json else f"Deleted {deleted:,} rows."
    )


def _take_off_the_page(settings: Settings, run_id: str) -> None:
    from infra.redis.live_store import delete_run  # noqa: PLC0415 - half a second to import

    try:
        delete_run(settings, run_id)
    except LiveBufferError as error:
        click.echo(f"stepstream: the run stays on the page until it expires: {error}", err=True)


def _cells(run: dict[str, Any], now: datetime) -> list[str]:
    started = run["started_at"].strftime("%Y-%m-%d %H:%M:%S") if run["started_at"] else ""
    mean = "" if run["mean_return"] is None else f"{run['mean_return']:.4g}"
    numbers = [mean, *(f"{run[name]:,}" for name in ("agents", "steps", "episodes")), _duration(run, now)]
    words = [run["name"], run["status"], run["env_id"], run["algorithm"]]
    return [run["run_id"], *(word or "" for word in words), *numbers, started]


def _duration(run: dict[str, Any], now: datetime) -> str:
    """The time from a run's start to its end, or to now while it runs; "" if no end is known."""
    end = now if run["status"] == "running" else run["ended_at"]
    if run["started_at"] is None or end is None:
        return ""
    return str(timedelta(seconds=max(0, int((end - run["started_at"]).total_seconds()))))


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return "" if value is None else json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _plain(value: Any) -> str:
    """A time as JSON."""
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON")
