"""`stepstream replay`: play a run again."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from cli.played import played
from consumers.replay.play import Part, Replay, Sink
from consumers.replay.sinks import JsonlSink, NullSink
from infra.history.items import Item, Records
from infra.history.reader import RunReader
from infra.history.sql_source import NoTablesError, SqlSource
from infra.kafka.registry import Registry
from infra.settings import Settings, load
from schemas.errors import DatabaseError, StepstreamError, UsageError
from schemas.positions import FORMS, parse_position
from schemas.topics import BESIDE, META_SUFFIX, Kind

OUTPUTS = "jsonl, dashboard, topic:NAME, sql:URL or null"
COPIES = ("topic", "sql")
ROLLOUTS = (Kind.ROLLOUTS, Kind.TOKENS)
BESIDE_LINES = {"dashboard": (Kind.FRAMES,), "topic": BESIDE, "sql": ROLLOUTS, "jsonl": ROLLOUTS}
"""What outputs take of what stands beside lines."""


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option(
    "--from", "start", default="beginning", show_default=True, metavar="P", help=f"Where to begin: {FORMS}."
)
@click.option("--to", "stop", metavar="P", help="Where to end, inclusive; without it at what is there now.")
@click.option("--agent", "agent_id", metavar="A", help="Only this agent's records.")
@click.option("--stream", "streams", metavar="S", multiple=True, help="Only this stream; may be repeated.")
@click.option("--speed", metavar="X", help="A factor of the run's own speed, such as 2 or 0.5, or max.")
@click.option(
    "--skip-idle", type=click.FloatRange(0), metavar="SECONDS", help="Pauses in the run last at most so long."
)
@click.option("--follow", is_flag=True, help="Go on with what a running run adds, until --to or Ctrl-C.")
@click.option("--loop", is_flag=True, help="Begin again at the end, until Ctrl-C.")
@click.option("--step", "by_step", is_flag=True, help="On a terminal: one key, one step; q ends it.")
@click.option("--output", default="jsonl", show_default=True, metavar="OUT", help=f"Where to: {OUTPUTS}.")
@click.option("--append", is_flag=True, help="The topic of --output may be there already.")
@click.option("--allow-missing", is_flag=True, help="Copy into a topic or database although lines are lost.")
@click.option(
    "--source",
    type=click.Choice(["auto", "sql", "kafka"]),
    default="auto",
    show_default=True,
    help="Where from: SQL and what is newer in Kafka, or one of them alone.",
)
@click.option(
    "--meta", is_flag=True, help="stepstream's own records of the run, too: start, heartbeats, stderr, end."
)
def replay(**options: Any) -> None:
    """Play a run again, in the order its workers wrote it.

    As JSONL, each record is the line that a worker would have written: `stepstream replay RUN |
    stepstream ingest -` gives the same events again. Log lines and dead letters are their raw line.
    """
    settings = load()
    command = Command(settings, options)
    tune_collector()
    try:
        command.run()
    except BrokenPipeError:
        _leave_stdout()  # the reader has enough (`| head`)


def tune_collector() -> None:
    """Let the garbage collector look through imports never, and through a page of records rarely.

    Otherwise it takes a quarter of the time of a replay, and 80 ms of the time to one first line in twenty.
    """
    gc.freeze()
    gc.set_threshold(100_000)


class Command:
    """One call: everything is checked before anything is written anywhere."""

    def __init__(self, settings: Settings, options: dict[str, Any]) -> None:
        self.settings, self.options, self.run_id = settings, options, str(options["run_id"])
        self.output, _, self.target = str(options["output"]).partition(":")
        prefix = settings.topic_prefix
        self.speed = _speed(options["speed"], self.output)
        self.part = Part(
            parse_position(options["start"], prefix),
            parse_position(options["stop"], prefix) if options["stop"] else None,
            options["agent_id"],
            meta=options["meta"] or self.output != "jsonl",
        )
        self.stop = threading.Event()
        self._check()

    def run(self) -> None:
        """Play it.

        Raises:
            StepstreamError: there is no such run or part, or something refuses.
        """
        began = time.monotonic()
        registry = Registry(self.settings)
        records = Records(self.run_id, registry.schema)
        with _until_signal(self.stop) as signals, played(self.stop) as shown:
            reader = self._open(registry, shown.reading)
            try:
                player = self._player(reader, shown)
                start, stop = player.find()
                self._refuse_losses(player, start, stop)
                sink = self._sink(records)
                try:
                    player.play(start, stop, sink)
                    resuming = self._resuming(player) if signals else ""
                finally:
                    sink.close()
            finally:
                reader.close()
        _say(_summary(player, sink, time.monotonic() - began))
        if resuming and not self.options["loop"]:
            _say(f"go on with: {resuming}")
        if signals:
            sys.stdout.flush()
            sys.exit(128 + signals[0])

    def _check(self) -> None:
        options = self.options
        if self.output not in ("jsonl", "dashboard", "null", *COPIES) or bool(self.target) != (
            self.output in COPIES
        ):
            raise UsageError(f"--output {options['output']!r} is none of {OUTPUTS}.")
        if options["loop"] and (options["follow"] or self.output in (*COPIES, "dashboard")):
            raise UsageError("--loop goes with --output jsonl or null, and not with --follow.")
        if options["follow"] and options["source"] == "sql":
            raise UsageError("--follow reads Kafka: leave --source sql out.")
        if options["by_step"] and not sys.stdin.isatty():
            raise UsageError("--step waits for keys, and stdin is no terminal.")
        if options["skip_idle"] is not None and self.speed is None:
            raise UsageError("--skip-idle shortens pauses: give a --speed, such as 1.")
        if self.output == "topic":
            from consumers.replay.sink_topic import check_topic  # noqa: PLC0415 - only this output's

            check_topic(self.target)
        if self.output == "sql":
            from consumers.replay.sink_sql import check_url  # noqa: PLC0415 - SQLAlchemy takes a second

            check_url(self.settings, self.target)

    def _open(self, registry: Registry, progress: Callable[[int, int], None]) -> RunReader:
        source = self.options["source"]
        sql = None if source == "kafka" else _sql(self.settings, self.run_id, needed=source == "sql")
        reader = RunReader(
            self.settings,
            self.run_id,
            registry.schema,
            sql,
            kafka=source != "sql",
            beside=self._beside(),
            raw=self.output in COPIES,
            streams=self.options["streams"],
            tell=_say,
            progress=progress,
        )
        try:
            self._refuse_nothing(reader)
        except StepstreamError:
            reader.close()
            raise
        return reader

    def _beside(self) -> tuple[Kind, ...]:
        wanted = BESIDE_LINES.get(self.output, ())
        return tuple(kind for kind in wanted if self.options["source"] != "sql" or kind is not Kind.FRAMES)

    def _refuse_nothing(self, reader: RunReader) -> None:
        facts = reader.facts
        if facts.deleted_at is not None and not facts.known:
            raise StepstreamError(
                f"Run {self.run_id!r} was deleted: `--source kafka` plays what Kafka still holds of it."
            )
        if reader.index.streams:
            return
        streams = self.options["streams"]
        if streams and (facts.known or reader.loaded):
            raise StepstreamError(f"Run {self.run_id!r} has no stream {', '.join(streams)}, or it is no run.")
        where = "SQL" if self.options["source"] == "sql" else "Kafka"
        also = "" if self.options["source"] != "auto" else ", nor does SQL know it"
        raise StepstreamError(
            f"{where} holds nothing of a run {self.run_id!r} under {self.settings.topic_prefix!r}{also}: "
            "`stepstream runs list` names those in SQL."
        )

    def _player(self, reader: RunReader, shown: Any) -> Replay:
        options = self.options
        return Replay(
            reader,
            self.part,
            speed=self.speed,
            skip_idle=options["skip_idle"],
            follow=options["follow"],
            loop=options["loop"],
            turn=self._wait_for_key if options["by_step"] else None,
            stop=self.stop,
            tell=_say,
            progress=shown.playing,
        )

    def _refuse_losses(self, player: Replay, start: dict[str, int], stop: dict[str, int] | None) -> None:
        """A copy that lacks lines is no copy, unless that is wanted."""
        if self.output not in COPIES or self.options["allow_missing"]:
            return
        if missing := player.missing(start, stop):
            raise StepstreamError(
                f"{missing:,} lines of that part are in neither SQL nor Kafka, so nothing was copied: "
                "--allow-missing copies the rest."
            )

    def _sink(self, records: Records) -> Sink:
        match self.output:
            case "topic":
                from consumers.replay.sink_topic import TopicSink  # noqa: PLC0415

                return TopicSink(
                    self.settings, self.target, self.run_id, records, append=self.options["append"]
                )
            case "sql":
                from consumers.replay.sink_sql import SqlSink  # noqa: PLC0415

                return SqlSink(self.settings, self.target, records, self.run_id)
            case "dashboard":
                from consumers.replay.sink_live import DashboardSink  # noqa: PLC0415 - Redis' client

                sink = DashboardSink(self.settings, records, self.run_id)
                _say(f"Plays as {sink.run_id} on the dashboard.")
                return sink
            case "null":
                return NullSink()
        return JsonlSink(records, sys.stdout.buffer)

    def _wait_for_key(self) -> None:
        if click.getchar() in ("q", "\x03", "\x04"):
            self.stop.set()

    def _resuming(self, player: Replay) -> str:
        """The command that goes on with the first record that was not given."""
        words = ["stepstream", "replay", self.run_id, "--from", _place(player)]
        for name, value in self.options.items():
            flag = f"--{_FLAGS.get(name, name.replace('_', '-'))}"
            if name in ("run_id", "start") or value in (None, False, ()) or _is_default(name, value):
                continue
            for each in value if isinstance(value, tuple) else (value,):
                words += [flag] if each is True else [flag, str(each)]
        return shlex.join(words)


_FLAGS = {"stop": "to", "agent_id": "agent", "streams": "stream", "by_step": "step"}


def _is_default(name: str, value: Any) -> bool:
    return (name, value) in (("output", "jsonl"), ("source", "auto"))


def _place(player: Replay) -> str:
    """Where the first record lies that was not given, as a position."""
    index, lines, rest = player.reader.index, player.reader.next_lines, player.rest
    workers = [stream for stream in lines if not stream.endswith(META_SUFFIX)]
    if rest is None:
        return f"seq:{lines[workers[0]]}" if len(workers) == 1 else "end"
    if len(workers) == 1 and rest.stream_id == workers[0]:
        return f"seq:{rest.seq}"
    if rest.kind is Kind.STEPS and rest.stream_id in index.streams:
        return f"step:{index.steps_before(index.cut((rest.time, rest.stream_id, rest.seq)))}"
    return _offset(rest)


def _offset(item: Item) -> str:
    topic = "" if item.kind is Kind.STEPS else f"{item.kind}:"
    return f"offset:{topic}{item.partition}:{item.offset}"


def _summary(player: Replay, sink: Sink, seconds: float) -> str:
    reader = player.reader
    counts = sorted(reader.counts.items(), reverse=True)
    sources = [f"{count:,} from {name}" for name, count in counts if count]
    said = [f"{player.played:,} records played", ", ".join(sources) or "nothing was read"]
    if missing := sum(reader.missing.values()):
        said.append(f"{missing:,} lines are in neither source and are left out")
    for stream, line in sorted(reader.open_at.items()):
        if not player.follow:
            said.append(f"ends before line {line} of stream {stream}, which is not there yet")
    if lost := getattr(sink, "lost", 0):
        said.append(f"{lost:,} rollouts or tokens came apart from their line and are left out")
    total = getattr(sink, "total", None)
    if total is not None:
        said.append(f"{total.stored:,} rows are new, {total.repeated:,} were there")
    return f"{'; '.join(said)}; {seconds:.1f} s"


def _sql(settings: Settings, run_id: str, *, needed: bool) -> SqlSource | None:
    """The run in SQL; None where there is no SQL."""
    try:
        return SqlSource(settings, run_id)
    except NoTablesError:
        if needed:
            raise
    except DatabaseError as error:
        if needed:
            raise
        _say(f"played from Kafka alone: {error}")
    return None


@contextmanager
def _until_signal(stop: threading.Event) -> Iterator[list[int]]:
    """Inside, SIGINT and SIGTERM set `stop`, which ends on a whole line; a second one ends it at once."""
    signals: list[int] = []

    def stopped(number: int, _frame: Any) -> None:
        signals.append(number)
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stopped) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_stdout() -> None:
    """Python would complain again at exit, so stdout goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(note: str) -> None:
    click.echo(f"stepstream: {note}", err=True)


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
