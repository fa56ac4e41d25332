"""`stepstream replay`: play a run again."""

from __future__ import annotations

import os
import sys

import click

from consumers.replay.play import Replay, Sink
from consumers.replay.position import FORMS, parse_position
from consumers.replay.sinks import JsonLines, Topic
from consumers.replay.window import Window
from infra.kafka.registry import Registry
from infra.settings import Settings, load
from schemas.errors import UsageError

OUTPUTS = "jsonl, dashboard, topic:NAME or sql:URL"


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option(
    "--from", "start", default="beginning", show_default=True, metavar="P", help=f"Where to begin: {FORMS}."
)
@click.option("--to", "stop", metavar="P", help="Where to end, inclusive; without it at what is there now.")
@click.option("--speed", metavar="X", help="A factor of the run's own speed, such as 2 or 0.5, or max.")
@click.option("--follow", is_flag=True, help="Go on with what a running run adds, until --to or Ctrl-C.")
@click.option("--output", default="jsonl", show_default=True, metavar="OUT", help=f"Where to: {OUTPUTS}.")
@click.option(
    "--meta", is_flag=True, help="stepstream's own records of the run, too: start, heartbeats, stderr, end."
)
def replay(
    *, run_id: str, start: str, stop: str | None, speed: str | None, follow: bool, output: str, meta: bool
) -> None:
    """Play a run again from Kafka, in the order its workers wrote it.

    As JSONL, each record is the line that a worker would have written: `stepstream replay RUN |
    stepstream ingest -` gives the same events again. Log lines and dead letters are their raw line.
    """
    settings = load()
    prefix = settings.topic_prefix
    window = Window(parse_position(start, prefix), parse_position(stop, prefix) if stop else None)
    player = Replay(
        settings,
        run_id,
        window,
        _sink(output, settings, run_id),
        speed=_speed(speed, output),
        follow=follow,
        meta=meta or output != "jsonl",
        tell=_say,
    )
    try:
        player.play()
    except BrokenPipeError:
        # The reader has enough (`| head`). Python would complain again at exit, so stdout goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(note: str) -> None:
    click.echo(f"stepstream: {note}", err=True)


def _sink(output: str, settings: Settings, run_id: str) -> Sink:
    lookup = Registry(settings).schema
    match output.partition(":"):
        case ("jsonl", "", _):
            return JsonLines(lookup, sys.stdout.buffer)
        case ("topic", _, name) if name:
            return Topic(settings, name, run_id)
        case ("sql", _, url) if url:
            from consumers.replay.sink_sql import Database  # noqa: PLC0415 - SQL's libraries take a second

            return Database(settings, url, lookup, run_id)
        case ("dashboard", "", _):
            from consumers.replay.sink_live import Dashboard  # noqa: PLC0415 - Redis' likewise

            sink = Dashboard(settings, lookup, run_id)
            _say(f"Plays as {sink.run_id} on the dashboard.")
            return sink
    raise UsageError(f"--output {output!r} is none of {OUTPUTS}.")


def _speed(text: str | None, output: str) -> float | None:
    """The factor; None: as fast as it goes. A dashboard is watched, so its default is the run's own."""
    if text is None:
        return 1.0 if output == "dashboard" else None
    if text == "max":
        return None
    try:
        factor = float(text.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise UsageError(f"--speed {text!r} is neither max nor a factor above 0, such as 2 or 0.5.")
    return factor
