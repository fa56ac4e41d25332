"""`stepstream run`: start a worker and stream what it prints."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.waiting import Waiting, page, print_summary, say
from infra import log as logs
from infra import settings as settings_module
from infra.settings import Settings
from producers.capture.host import facts
from producers.capture.worker import CannotStartError, Worker
from producers.forward.background import BackgroundForwarder
from producers.forward.stream import life_ahead
from producers.lines.context import ENDED, OPEN, SILENT
from producers.rollouts.stream import RolloutStream
from producers.rollouts.thread import FolderThread
from producers.spool.format import About, about_new, new_id, now_us, was_written_before
from producers.spool.meta_stream import MetaStream
from producers.spool.writer import SpoolWriter
from schemas.errors import UsageError

TICK_SECONDS = 0.1
GRACE_SECONDS = 5.0
"""Seconds to wait for Kafka after a failed start, or a signal that ends a worker. Docker kills after 10."""
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--run-id", help="The run of lines that name none. Default: the first that the worker names.")
@click.option("--agent-id", help="The agent of lines that name none.")
@click.option("--name", help="What people call the run: any words.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--quiet", is_flag=True, help="Do not pass the worker's stdout through.")
@click.option("--timeout", type=float, help="Wait at most so many seconds for Kafka at the end.")
@click.option(
    "--watch",
    "watched",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also the rollout files that the worker writes below DIR.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(command: tuple[str, ...], as_json: bool, timeout: float | None, **options: Any) -> int:
    """Start a worker and stream what it prints: stepstream run [OPTIONS] -- CMD ARG…

    Its stdout and stderr are passed through, its signals and its exit code too. Every line is kept on disk
    until Kafka has it; what is not shipped at the end, `stepstream up` or `forward` ships.
    """
    if not command:
        raise UsageError("Nothing to run: stepstream run -- python train.py")
    settings = settings_module.load()
    logs.configure(settings, "run")
    if options["run_id"] and was_written_before(settings.spool_dir, options["run_id"]):
        say(
            f"run {options['run_id']} was started from here before, so this is another attempt: "
            f"`stepstream runs attempts {options['run_id']}` tells them apart."
        )
    session = Session(settings, list(command), says_where=not as_json, **options)
    code = session.go(timeout)
    session.summary(as_json=as_json)
    return code


class Session:
    """One worker from its start to the acknowledgement of its last line."""

    def __init__(
        self,
        settings: Settings,
        command: list[str],
        run_id: str | None,
        agent_id: str | None,
        name: str | None,
        *,
        quiet: bool,
        says_where: bool,
        watched: Path | None = None,
    ) -> None:
        self.settings, self.command, self.quiet = settings, command, quiet
        self.name, self.says_where = name, says_where
        self.began = time.monotonic()
        self.fallback_run = run_id or new_id()
        self.about = about_new("run", run_id, agent_id, generated=self.fallback_run)
        self.waiting = Waiting()
        self.shipping = BackgroundForwarder(settings_module.load, self.waiting.told)
        self.spool = SpoolWriter(settings, self.about)
        self.stream = self.shipping.add(self.about)
        self.spool.unshipped = self.stream.unshipped
        self.meta = MetaStream(settings, self.about, "run", lambda: self.stream.run_id)
        self.shipping.add(self.meta.about)
        self.rollouts = None if watched is None else self._rollouts(watched, agent_id)

    def _rollouts(self, folder: Path, agent_id: str | None) -> FolderThread:
        """Watch the rollout files below a folder, which the worker may create."""
        folder.mkdir(parents=True, exist_ok=True)
        run_of = lambda: self.stream.run_id or self.fallback_run  # noqa: E731 - asked for each file
        return FolderThread(
            RolloutStream(
                self.settings,
                folder.resolve(),
                self.shipping,
                say,
                run_id=run_of,
                agent_id=agent_id,
                announce=False,
            )
        )

    def go(self, timeout: float | None) -> int:
        """The worker's exit code, 128 + n after signal n. `timeout`: seconds to wait for Kafka at the end."""
        told = facts(self.command, Path.cwd(), self.settings.secret_words)
        self.meta.say("run_started", name=self.name, **told)
        gc.freeze()  # a full collection would pause the loop for 15 ms
        self.shipping.start()
        try:
            worker = self._worker()
        except CannotStartError as error:
            with self.waiting.until_signal(GRACE_SECONDS) as over:
                self._end("run_failed", over, exit_code=error.exit_code, reason=str(error))
            raise
        if self.rollouts is not None:
            self.rollouts.start()
        code = self._watch(worker)
        if timeout is None and worker.stopped_by in ENDING:
            timeout = GRACE_SECONDS
        with self.waiting.until_signal(timeout) as over:
            worker.finish(lambda: self._give_up_if(over))
            self._end(_verdict(code, worker), over, **_how(code, worker))
        return code if code >= 0 else 128 - code

    def summary(self, *, as_json: bool) -> None:
        """Print the summary."""
        totals = self.shipping.totals()
        self._say_where(next(iter(totals.runs), self.fallback_run))
        seconds = time.monotonic() - self.began
        print_summary(totals, seconds, as_json=as_json, err=True, read=self.spool.lines_read)

    def _worker(self) -> Worker:
        return Worker(
            self.command,
            _environment(self.settings, self.about, self.fallback_run),
            self._take,
            lambda line: self.meta.say("log", source="stderr", line=line),
            show_stdout=not self.quiet,
        )

    def _take(self, data: bytes) -> None:
        self.spool.append(data, now_us())
        self.shipping.wake()

    def _watch(self, worker: Worker) -> int:
        """Until the worker has ended: write heartbeats, and sync the spool to disk."""
        beat_at = time.monotonic() + self.settings.heartbeat_seconds
        while (code := worker.wait(TICK_SECONDS)) is None:
            self._say_where(self.stream.run_id)
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + self.settings.heartbeat_seconds
                self._beat(worker)
        return code

    def _say_where(self, run_id: str | None) -> None:
        """Print the address of the run's page, once the run is known and if a dashboard runs."""
        if run_id is not None and self.says_where:
            self.says_where = False
            if address := page(self.settings, run_id):
                say(f"run {self.name or run_id}: {address}")

    def _beat(self, worker: Worker) -> None:
        totals = self.shipping.totals()
        of_sdks = totals.lines - self.stream.checkpoint.line
        self.meta.say(
            "heartbeat",
            pid=worker.pid,
            lines_read=self.spool.lines + of_sdks,
            lines_acked=totals.lines,
            lines_dropped=self.spool.dropped or None,
            waiting=self.spool.waiting or None,
            spool_seconds=round(self.shipping.oldest_seconds(), 1) or None,
        )
        begun = {run_id for run_id, state in totals.runs.items() if state == OPEN} | {self.stream.announced}
        for run_id in begun - {
            self.stream.run_id,
            None,
        }:  # the lines, or the SDK in the worker, named another run
            self.meta.say("heartbeat", run_id=run_id)

    def _give_up_if(self, over: Callable[[], bool]) -> None:
        """A full spool must not delay the end: lines without room are dropped and counted."""
        if self._is_over(over):
            self.spool.give_up()

    def _end(self, event: str, over: Callable[[], bool], **said: Any) -> None:
        """Ship the rest, write how the worker ended if it did not, and ship that."""
        self.spool.finish()
        if self.rollouts is not None:
            self.rollouts.close()
        shipping, meta_id = self.shipping, self.meta.about.stream_id
        shipping.discover()
        give_up = lambda: self._is_over(over)  # noqa: E731 - a name for the next lines
        acknowledged = all(shipping.acknowledged(stream_id, give_up) for stream_id in shipping.of_workers())
        for run_id in self._runs_without_end():
            self.meta.say(event, run_id=run_id, **said)
        self.meta.finish()
        acknowledged = shipping.acknowledged(meta_id, give_up) and acknowledged
        shipping.close()
        if not acknowledged:
            self.waiting.kept(self.settings.spool_dir)

    def _is_over(self, over: Callable[[], bool]) -> bool:
        return over() or self.shipping.knows_no_kafka

    def _runs_without_end(self) -> list[str]:
        """End the announced run, too, if every line named another."""
        runs = {self.stream.announced or self.fallback_run: SILENT} | self.shipping.totals().runs
        for stream_id in self.shipping.of_workers():
            runs |= life_ahead(self.settings, stream_id)
        return [run_id for run_id, state in runs.items() if state != ENDED]


def _verdict(code: int, worker: Worker) -> str:
    if code == 0:
        return "run_completed"
    interrupted = code in (-signal.SIGINT, 128 + signal.SIGINT) or worker.stopped_by is not None
    return "run_cancelled" if interrupted else "run_failed"


def _how(code: int, worker: Worker) -> dict[str, Any]:
    """The reason of a failure: exit code or signal, and the end of stderr."""
    if code == 0:
        return {"exit_code": 0}
    ended = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
    last = next((line.strip() for line in reversed(worker.last_lines) if line.strip()), None)
    return {
        "exit_code": code if code > 0 else None,
        "signal": signal.Signals(-code).name if code < 0 else None,
        "reason": f"{last} ({ended})" if last else ended,
        "last_stderr": list(worker.last_lines),
    }


def _environment(settings: Settings, about: About, run_id: str) -> dict[str, str]:
    """The worker's environment: the SDK in it writes its streams beside ours."""
    ours = {
        "STEPSTREAM_HOME": str(settings.home.absolute()),
        "STEPSTREAM_SPOOL_DIR": str(settings.spool_dir.absolute()),
        "STEPSTREAM_RUN_ID": run_id,
        "STEPSTREAM_PARENT_STREAM": about.stream_id,
    }
    if about.agent_id:
        ours["STEPSTREAM_AGENT_ID"] = about.agent_id
    # Python buffers 8 KiB when stdout is a pipe: then nothing would be live.
    # pygame's SDL would catch the signals that end a worker.
    return {"PYTHONUNBUFFERED": "1", "SDL_NO_SIGNAL_HANDLERS": "1", **os.environ, **ours}
