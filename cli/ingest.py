"""`stepstream ingest`: JSONL that is there already."""

from __future__ import annotations

import gzip
import os
import select
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import click
import sqlalchemy

from cli.waiting import Waiting, print_summary, say
from infra import log as logs
from infra import settings as settings_module
from infra.kafka.client import client_config
from infra.settings import Settings
from infra.sql import engine as sql
from producers.forward.background import BackgroundForwarder
from producers.forward.run_id import named_run
from producers.forward.stream import Stream, life_ahead
from producers.lines.context import OPEN, SILENT
from producers.spool.format import READ_BYTES, about_new, now_us
from producers.spool.meta_stream import MetaStream
from producers.spool.writer import SpoolWriter
from schemas.errors import DatabaseError, StepstreamError, UsageError
from schemas.tables import Run

HEAD_BYTES = 4096
FOLLOW_SECONDS = 0.02
DATABASE_SECONDS = 3
GZIP = b"\x1f\x8b"
ROLLOUT_SUFFIXES = (".jsonl", ".json", ".parquet", ".pt", ".pth", ".pkl", ".pickle")
STATUS = {OPEN: "lost", SILENT: "completed"}
"""How a run stands whose stream ended without a word about it."""
REASONS = {
    "lost": "the lines end before the run does",
    "completed": "the lines end, and tell of no life cycle",
}


class NotAcknowledgedError(StepstreamError):
    """The time was up before Kafka had all lines."""


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE… | -]")
@click.option("--run-id", help="The run of lines that name none. Default: the first that the file names.")
@click.option("--agent-id", help="The agent of lines that name none.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--follow", is_flag=True, help="Go on with what is appended, until Ctrl-C.")
@click.option("--force", is_flag=True, help="Take files that look like no text.")
@click.option("--timeout", type=float, help="Give up after so many seconds; the lines stay in the spool.")
def ingest(files: tuple[str, ...], as_json: bool, force: bool, timeout: float | None, **options: Any) -> int:
    """Stream JSONL files, gzipped or not, or stdin (-).

    Dead letters are no failure. While no broker answers it waits, and the lines are in the spool.
    """
    settings = settings_module.load()
    logs.configure(settings, "ingest")
    if rollouts := [Path(name) for name in files if may_be_rollouts(name)]:
        from cli.watch import ingest_rollouts  # noqa: PLC0415 - only where it may be needed

        taken = ingest_rollouts(settings, rollouts, as_json=as_json, timeout=timeout, **options)
        files = tuple(name for name in files if Path(name) not in taken)
        if not files:
            return 0
    if not files and sys.stdin.isatty():
        raise UsageError("Nothing to ingest: name a file, or pipe lines in: worker | stepstream ingest -")
    inputs = [Input(name, force=force) for name in files or ("-",)]
    client_config(settings)  # says so at once where no Kafka is known
    began = time.monotonic()
    for name in {options["run_id"], *(given.first_run() for given in inputs)} - {None}:
        if run_exists(settings, name):
            say(f"run {name} is in the database already: these lines become further rows of it.")
    session = Session(settings, timeout, **options)
    acknowledged = session.go(inputs)
    totals = session.shipping.totals()
    print_summary(totals, time.monotonic() - began, as_json=as_json, err=False, read=session.read)
    if letters := totals.summary()["dead_letters"]:
        say(f"{letters:,} of {totals.lines:,} lines are dead letters: `stepstream dlq list` says why.")
    if not acknowledged:
        raise not_acknowledged(settings)
    return 0


def not_acknowledged(settings: Settings) -> NotAcknowledgedError:
    """The error of a command whose time was up."""
    return NotAcknowledgedError(
        f"Kafka has not acknowledged all lines: they stay in {settings.spool_dir}, and "
        "`stepstream up` or `stepstream forward` ships them."
    )


def may_be_rollouts(name: str) -> bool:
    """Whether a file may hold rollouts of language models: `watch` looks closer."""
    return name != "-" and Path(name).suffix in ROLLOUT_SUFFIXES and Path(name).is_file()


class Given(Protocol):
    """Lines from somewhere."""

    name: str
    live: bool

    def chunks(self, over: Callable[[], bool], *, follow: bool) -> Iterator[bytes]:
        """What there is to read; empty bytes while nothing is."""


class Input:
    """A file, gzipped or not, or stdin.

    Raises:
        UsageError: it cannot be read, or looks like no text.
    """

    def __init__(self, name: str, *, force: bool) -> None:
        self.name, self.live, self.head = name, name == "-", b""
        self.file: IO[bytes]
        if self.live:
            self.file = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - read to the end of the program
            return
        try:
            if not Path(name).is_file() and not Path(name).is_fifo():
                raise UsageError(
                    f"{name} is no file." if Path(name).exists() else f"There is no file {name}."
                )
            self.file = open(name, "rb", buffering=0)  # noqa: SIM115
            if not Path(name).is_file():
                self.live = True
                return
            if os.pread(self.file.fileno(), len(GZIP), 0) == GZIP:
                self.file = gzip.open(self.file)  # type: ignore[assignment]  # noqa: SIM115
            self.head = head = self.file.read(HEAD_BYTES)
            self.file.seek(0)
        except (OSError, EOFError) as error:
            raise UsageError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
        if b"\0" in head and not force:
            raise UsageError(f"{name} looks like no text (a NUL byte in its first 4 KiB): --force takes it.")

    def first_run(self) -> str | None:
        """The run that one of its first lines names."""
        named = (named_run(line) for line in self.head.split(b"\n")[:-1])
        return next((run_id for run_id in named if run_id is not None), None)

    def chunks(self, over: Callable[[], bool], *, follow: bool) -> Iterator[bytes]:
        """What there is to read, and with `follow` what is appended; empty bytes while nothing is."""
        while not over():
            if self.live and not select.select([self.file], [], [], FOLLOW_SECONDS)[0]:
                yield b""
                continue
            if data := self.file.read(READ_BYTES):
                yield data
            elif not follow:
                return
            else:
                time.sleep(FOLLOW_SECONDS)
                yield b""


class Session:
    """Every input is a stream of its own."""

    writer = "ingest"
    """Who wrote the lines: it says which dialect they are."""

    def __init__(
        self,
        settings: Settings,
        timeout: float | None,
        run_id: str | None,
        agent_id: str | None,
        *,
        follow: bool,
    ) -> None:
        self.settings, self.timeout, self.follow = settings, timeout, follow
        self.run_id, self.agent_id = run_id, agent_id
        self.waiting = Waiting()
        self.shipping = BackgroundForwarder(settings_module.load, self.waiting.told)
        self.read = 0
        """Lines so far, shipped or not."""

    def go(self, inputs: Sequence[Given]) -> bool:
        """Ship all of it; False: the time was up."""
        self.shipping.start()
        copied = [self._copy(given) for given in inputs]
        with self.waiting.until_signal(self.timeout) as over:
            acknowledged = [self._land(source, meta, over) for source, meta in copied]
        self.shipping.close()
        return all(acknowledged)

    def _copy(self, given: Given) -> tuple[Stream, MetaStream]:
        """All of an input into a spool of its own, which is shipped meanwhile."""
        about = about_new(self.writer, self.run_id, self.agent_id)
        spool = SpoolWriter(self.settings, about)
        is_live = given.live or self.follow
        source = self.shipping.add(about, patient=not is_live)
        spool.unshipped = source.unshipped
        meta = MetaStream(self.settings, about, "ingest", lambda: source.run_id)
        self.shipping.add(meta.about)
        beat = Beat(self.settings.heartbeat_seconds, meta, source, spool) if is_live else None
        with self.waiting.until_signal(None) as over:
            try:
                for data in given.chunks(over, follow=self.follow):
                    if data:
                        spool.append(data, now_us())
                        self.shipping.wake()
                    else:
                        spool.sync_if_due()
                    if beat is not None:
                        beat.if_due()
            except (OSError, EOFError, zlib.error) as error:
                say(f"{given.name} cannot be read to its end ({error}): what was read is shipped.")
        self.read += spool.lines_read
        spool.finish()
        return source, meta

    def _land(self, source: Stream, meta: MetaStream, over: Callable[[], bool]) -> bool:
        """Wait for the stream's lines; then say how its runs stand, and wait for that."""
        acknowledged = self.shipping.acknowledged(source.stream_id, over)
        runs = source.context.runs if acknowledged else life_ahead(self.settings, source.stream_id)
        ends = {run_id: STATUS[state] for run_id, state in runs.items() if state in STATUS}
        for run_id, status in ends.items():
            meta.say("stream_ended", run_id=run_id, status=status, reason=REASONS[status])
        meta.finish()
        return self.shipping.acknowledged(meta.about.stream_id, over) and acknowledged


def run_exists(settings: Settings, run_id: str) -> bool:
    """Whether SQL has this run; where it cannot be asked, nobody is warned."""
    address = sql.url(settings)
    if address.get_backend_name() != "sqlite":
        engine = sql.engine(settings, connect_args={"connect_timeout": DATABASE_SECONDS})
    elif Path(address.database or "").exists():
        engine = sql.engine(settings)
    else:
        return False
    try:
        with sql.reading(engine) as connection:
            return (
                connection.execute(sqlalchemy.select(Run.run_id).where(Run.run_id == run_id)).first()
                is not None
            )
    except DatabaseError:
        return False


class Beat:
    """Heartbeats of a stream that is still being written."""

    def __init__(self, pause: float, meta: MetaStream, source: Stream, spool: SpoolWriter) -> None:
        self._pause, self._meta, self._source, self._spool = pause, meta, source, spool
        self._due = time.monotonic() + pause

    def if_due(self) -> None:
        """One heartbeat, if it is time for it."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._pause
            lines = {"lines_read": self._spool.lines, "lines_acked": self._source.place.line}
            self._meta.say("heartbeat", **lines, lines_dropped=self._spool.dropped or None)
