"""`stepstream import`: runs that other trackers wrote, shipped as if they were live."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import click

from cli.ingest import NotAcknowledgedError, Session, run_exists
from cli.waiting import print_summary, say
from infra import log as logs
from infra import settings as settings_module
from infra.kafka.client import client_config
from infra.settings import Settings
from producers.importers import Lines, find

LINES = 1000
"""Lines that are handed over at once."""


class Importing(Session):
    """Every run is a stream; its lines are as the SDK writes them."""

    writer = "sdk"


class ImportedRun:
    """A run that a tracker wrote, in the form of an input of `ingest`."""

    live = False

    def __init__(self, name: str, lines: Lines) -> None:
        self.name = name
        self._lines = lines

    def chunks(self, over: Callable[[], bool], *, follow: bool) -> Iterator[bytes]:
        """JSON lines."""
        while not over() and (some := list(islice(self._lines, LINES))):
            yield b"".join(json.dumps(line, default=str).encode() + b"\n" for line in some)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(path_type=Path))
@click.option("--run-id", help="Name of the run, where PATH holds one. Default: the tracker's own.")
@click.option("--agent-id", help="The agent of the runs.")
@click.option("--again", is_flag=True, help="Also runs that are in the database: as further rows of them.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--timeout", type=float, help="Give up after so many seconds; the lines stay in the spool.")
def imports(
    paths: tuple[Path, ...],
    run_id: str | None,
    agent_id: str | None,
    *,
    again: bool,
    as_json: bool,
    timeout: float | None,
) -> int:
    """Take in what other trackers wrote: files, or folders that hold some.

    TensorBoard event files, W&B offline folders, Monitor CSV, RLlib's result.json, SQLite files of Trackio
    and MLflow.
    """
    settings = settings_module.load()
    logs.configure(settings, "import")
    found = [run for path in paths for run in find(path)]
    if run_id is not None:
        found = _named(found, run_id)
    client_config(settings)  # says so at once where no Kafka is known
    if not again:
        found = list(_new(settings, found))
    began = time.monotonic()
    session = Importing(settings, timeout, None, agent_id, follow=False)
    acknowledged = session.go([ImportedRun(name, lines) for name, lines in found])
    print_summary(session.shipping.totals(), time.monotonic() - began, as_json=as_json, err=False)
    say(f"{len(found)} run{'s' if len(found) != 1 else ''} imported.")
    if not acknowledged:
        raise NotAcknowledgedError(
            f"Kafka has not acknowledged all lines: they stay in {settings.spool_dir}, and "
            "`stepstream up` or `stepstream forward` ships them."
        )
    return 0


def _new(settings: Settings, found: list[tuple[str, Lines]]) -> Iterator[tuple[str, Lines]]:
    """The runs that the database does not have; the first line of each names it."""
    for name, lines in found:
        first = next(lines)
        if run_exists(settings, first["run_id"]):
            say(f"{name}: run {first['run_id']} is in the database already: left out (--again takes it).")
        else:
            yield name, chain([first], lines)


def _named(found: list[tuple[str, Lines]], run_id: str) -> list[tuple[str, Lines]]:
    if len(found) > 1:
        raise click.UsageError(f"--run-id names one run, and there are {len(found)}.")
    ((name, lines),) = found
    return [(name, ({**line, "run_id": run_id} for line in lines))]
