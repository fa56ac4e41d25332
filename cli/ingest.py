"""`stepstream ingest`: JSONL that is there already."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from cli.inputs import Given, Input
from cli.waiting import Waiting, not_acknowledged, print_summary, say
from infra import log as logs
from infra import settings as settings_module
from infra.kafka.client import client_config
from infra.settings import Settings
from infra.sql.known_runs import KnownRuns
from producers.forward.background import BackgroundForwarder
from producers.forward.stream import Stream, life_ahead
from producers.ledger import Ledger
from producers.lines.context import OPEN, SILENT
from producers.spool.format import about_new, now_us
from producers.spool.meta_stream import MetaStream
from producers.spool.writer import SpoolWriter
from schemas.errors import UsageError

AT_ONCE = 32
"""Streams that are shipped at a time: each holds files open."""
GRACE_SECONDS = 5.0
"""After a signal, seconds to wait for Kafka."""
ROLLOUT_SUFFIXES = (".jsonl", ".json", ".parquet", ".pt", ".pth", ".pkl", ".pickle")
STATUS = {OPEN: "lost", SILENT: "completed"}
"""Status of a run whose stream ended without saying it."""
REASONS = {
    "lost": "the lines end before the run does",
    "completed": "the lines end, and tell of no life cycle",
}


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE… | -]")
@click.option("--run-id", help="The run of lines that name none. Default: the first that the file names.")
@click.option("--agent-id", help="The agent of lines that name none.")
@click.option("--again", is_flag=True, help="Ingest again what was ingested before, as further rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--follow", is_flag=True, help="Go on with what is appended, until Ctrl-C.")
@click.option("--force", is_flag=True, help="Take files that look like no text.")
@click.option("--timeout", type=float, help="Give up after so many seconds; the lines stay in the spool.")
def ingest(
    files: tuple[str, ...],
    as_json: bool,
    force: bool,
    again: bool,
    timeout: float | None,
    **options: Any,
) -> int:
    """Stream JSONL files, compressed (gzip, bzip2, xz, Zstandard) or not, or stdin (-).

    Dead letters are no failure. While no broker answers it waits, and the lines are in the spool.
    """
    settings = settings_module.load()
    logs.configure(settings, "ingest")
    if not force and (rollouts := [Path(name) for name in files if may_be_rollouts(name)]):
        from cli.watch import ingest_rollouts  # noqa: PLC0415 - only where it may be needed

        taken = ingest_rollouts(settings, rollouts, as_json=as_json, timeout=timeout, **options)
        files = tuple(name for name in files if Path(name) not in taken)
        if not files:
            return 0
    if not files and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("Nothing to ingest: name a file, or pipe lines in: worker | stepstream ingest -")
    inputs = [Input(name, force=force) for name in files or ("-",)]
    client_config(settings)  # fails at once if no Kafka is known
    began = time.monotonic()
    inputs = _new(settings, inputs, again=again, **options)
    session = Session(settings, timeout, **options)
    acknowledged = session.go(inputs)
    totals = session.shipping.totals()
    print_summary(totals, time.monotonic() - began, as_json=as_json, err=False, read=session.read)
    if letters := totals.summary()["dead_letters"]:
        say(f"{letters:,} of {totals.lines:,} lines are dead letters: `stepstream dlq list` says why.")
    if not acknowledged:
        raise not_acknowledged(settings)
    return 0 if session.complete else 1


def _new(
    settings: Settings,
    inputs: list[Input],
    run_id: str | None,
    agent_id: str | None,
    *,
    again: bool,
    follow: bool,
) -> list[Input]:
    """The inputs with content that was not ingested before; each is read from there."""
    known, found = KnownRuns(settings), []
    ledger = Ledger(settings.home, known.deleted_us)
    for given in inputs:
        if not given.live:
            entry = ledger.entry(f"ingest\0{Path(given.name).absolute()}\0{run_id or ''}\0{agent_id or ''}")
            runs = ", ".join(entry.runs) or "no run"
            if not given.compare(entry, again=again) and not follow:
                say(f"{given.name} was ingested before ({runs}): left out (--again takes it).")
                continue
            if given.skipped:
                say(f"{given.name}: {given.skipped:,} bytes of it were ingested before ({runs}): left out.")
        found.append(given)
    for name in {run_id, *(given.first_run() for given in found if not given.skipped)}:
        if name is not None and known.has(name):
            say(f"run {name} is in the database already: these lines become further rows of it.")
    return found


def may_be_rollouts(name: str) -> bool:
    """Whether a file may hold rollouts of language models, by its name."""
    return name != "-" and Path(name).suffix in ROLLOUT_SUFFIXES and Path(name).is_file()


class Session:
    """Ingests inputs, each as a stream of its own, within `timeout` seconds for Kafka."""

    writer = "ingest"
    """The writer of the lines, which decides their dialect."""

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
        self.waiting = Waiting(self._stop)
        self.shipping = BackgroundForwarder(settings_module.load, self.waiting.told)
        self.read = 0
        """Lines so far, shipped or not."""
        self.complete = True
        """Whether every input was read to its end, and nothing was dropped."""
        self._spool: SpoolWriter | None = None
        self._given_up = False

    def go(self, inputs: Sequence[Given]) -> bool:
        """Ship all inputs; False: the time was up before Kafka had them."""
        self.shipping.start()
        under_way: deque[_UnderWay] = deque()
        acknowledged = True
        with self.waiting.until_signal(None) as over:
            for number, given in enumerate(inputs):
                if over() or self._given_up:
                    self.complete = False
                    say(f"stopped: {', '.join(each.name for each in inputs[number:])} not read.")
                    break
                under_way.append(self._copy(given, over))
                while len(under_way) > AT_ONCE:
                    acknowledged &= self._land(under_way.popleft())
            for each in under_way:
                acknowledged &= self._land(each)
        self.shipping.close()
        return acknowledged

    def _stop(self) -> None:
        """After a signal do not wait for room: what was read is written into the spool past its limit."""
        if self._spool is not None:
            self._spool.lift_limit()

    def _copy(self, given: Given, over: Callable[[], bool]) -> _UnderWay:
        """Write an input into a spool of its own, which is shipped meanwhile."""
        about = about_new(self.writer, self.run_id, self.agent_id)
        spool = self._spool = SpoolWriter(self.settings, about)
        if given.before is not None:
            given.before.save(spool.folder, sync=True)
        is_live = given.live or self.follow
        stream = self.shipping.add(about, patient=not is_live)
        spool.unshipped = stream.unshipped
        meta = MetaStream(self.settings, about, "ingest", lambda: stream.run_id)
        self.shipping.add(meta.about)
        beat = Beat(self.settings.heartbeat_seconds, meta, stream, spool) if is_live else None
        try:
            for data in given.chunks(over, follow=self.follow):
                if data:
                    spool.append(data, now_us())
                    self.shipping.wake()
                else:
                    spool.sync_if_due()
                if beat is not None:
                    beat.if_due()
        except OSError as error:
            self.complete = False
            say(f"{given.name} cannot be read to its end ({error}): what was read is shipped.")
        if spool.dropped:
            self.complete = False
            say(f"{given.name}: {spool.dropped:,} lines were dropped, as the spool has no room for them.")
        self.read += spool.lines_read
        self._spool = None
        spool.finish()
        return _UnderWay(given, stream, meta, spool.dropped)

    def _land(self, each: _UnderWay) -> bool:
        """Wait for the stream's lines; then write the status of its runs, and wait for that."""
        stream, meta = each.stream, each.meta
        give_up = self._patience()
        acknowledged = self.shipping.acknowledged(stream.stream_id, give_up)
        runs = stream.context.runs if acknowledged else life_ahead(self.settings, stream.stream_id)
        ends = {run_id: STATUS[state] for run_id, state in runs.items() if state in STATUS}
        for run_id, status in ends.items():
            meta.say("stream_ended", run_id=run_id, status=status, reason=REASONS[status])
        meta.finish()
        if not each.dropped:
            each.given.shipped(stream, list(runs))
        return self.shipping.acknowledged(meta.about.stream_id, give_up) and acknowledged

    def _patience(self) -> Callable[[], bool]:
        """Returns whether to stop waiting: the time is up, or a signal came."""
        until = None if self.timeout is None else time.monotonic() + self.timeout

        def is_over() -> bool:
            now, since = time.monotonic(), self.waiting.signalled_at
            late = until is not None and now >= until
            told = since is not None and (self.waiting.signals > 1 or now >= since + GRACE_SECONDS)
            self._given_up = self._given_up or late or told
            return self._given_up

        return is_over


class _UnderWay(NamedTuple):
    """An input whose lines are in the spool."""

    given: Given
    stream: Stream
    meta: MetaStream
    dropped: int


class Beat:
    """Sends a heartbeat of a growing stream every `pause` seconds."""

    def __init__(self, pause: float, meta: MetaStream, stream: Stream, spool: SpoolWriter) -> None:
        self._pause, self._meta, self._stream, self._spool = pause, meta, stream, spool
        self._due = time.monotonic() + pause

    def if_due(self) -> None:
        """One heartbeat, if it is time for it."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._pause
            lines = {"lines_read": self._spool.lines, "lines_acked": self._stream.checkpoint.line}
            self._meta.say("heartbeat", **lines, lines_dropped=self._spool.dropped or None)
