"""`stepstream watch`: rollout files of trainers of language models, as they are written."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import click

from cli.waiting import NotAcknowledgedError, Waiting, say
from infra import log as logs
from infra import settings as settings_module
from infra.folders import changes
from infra.kafka.client import client_config
from infra.settings import Settings
from producers.forward.background import BackgroundForwarder
from producers.rollouts.formats.numbers import NumbersLog
from producers.rollouts.recognise import PICKLES, Left, by_name, recognise
from producers.rollouts.stream import RolloutStream
from producers.rollouts.watcher import LAST, Totals
from schemas.errors import StepstreamError, UsageError

PROGRESS_SECONDS = 5.0
GRACE_SECONDS = 5.0
DEEPEST = 4
"""Folders above a single file that help to recognise its format."""
UNREADABLE = (*PICKLES, ".parquet")


class NoRolloutsError(StepstreamError):
    """There is nothing to read."""


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Read what is there now, and end.")
@click.option(
    "--format", "format_", metavar="F", help="Take files as this format only; default: each by what it holds."
)
@click.option("--run-id", help="The run of files that name none. Default: by the name of their folder.")
@click.option("--agent-id", help="The agent of all rollouts.")
@click.option("--again", is_flag=True, help="Read again what was read before, as further rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--timeout", type=float, help="Wait at most so many seconds for Kafka at the end.")
def watch(folder: Path, as_json: bool, timeout: float | None, **options: Any) -> int:
    """Stream the rollout files that a trainer of language models writes below DIR.

    New files and lines are read as they come; a rewritten file is a new attempt. Nothing is read twice, also
    after a kill. While no broker answers, what was read is kept on disk. Ctrl-C ends it with a summary.
    """
    settings = settings_module.load()
    logs.configure(settings, "watch")
    folder = checked(folder)
    client_config(settings)  # fails at once if no Kafka is known
    format_, once = options.pop("format_"), options.pop("once")
    session = WatchSession(settings, folder, wanted=by_name(format_) if format_ else None, **options)
    acknowledged = session.go(once=once, timeout=timeout)
    print_totals(session.stream.watcher.totals, session.seconds, as_json=as_json)
    session.judge(acknowledged)
    return 0


def checked(folder: Path) -> Path:
    """The folder, absolute.

    Raises:
        UsageError: the path is no folder, or cannot be read.
    """
    if not folder.is_dir():
        what = "is no folder: `stepstream ingest` takes a file" if folder.exists() else "is not there"
        raise UsageError(f"{folder} {what}.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UsageError(f"{folder} cannot be read: permission denied.")
    return folder.resolve()


def ingest_rollouts(
    settings: Settings, files: list[Path], *, as_json: bool, timeout: float | None, **options: Any
) -> set[Path]:
    """Ingest the files that hold rollouts, and print the summary; returns those files.

    Args:
        settings: the stack.
        files: those to look at; others are left out.
        as_json: print the summary as JSON.
        timeout: seconds to wait for Kafka; None: without end.
        options: of `WatchSession`.

    Raises:
        UsageError: a pickle, or Parquet that cannot be read here.
    """
    taken: dict[Path, list[Path]] = {}
    for file in files:
        path = file.resolve()
        root = path.parents[min(DEEPEST, len(path.parents) - 1)]
        found = recognise(path, PurePosixPath(root.name, *path.relative_to(root).parts))
        if isinstance(found, Left) and path.suffix in UNREADABLE:
            raise UsageError(f"{file} {found.why}; --force takes its bytes as lines.")
        if not isinstance(found, Left) and found.name != NumbersLog.name:
            taken.setdefault(root, []).append(path)
    if taken:
        client_config(settings)
    for root, paths in taken.items():
        run_id, agent_id = options.get("run_id"), options.get("agent_id")
        session = WatchSession(settings, root, only=paths, run_id=run_id, agent_id=agent_id)
        acknowledged = session.go(once=True, timeout=timeout)
        print_totals(session.stream.watcher.totals, session.seconds, as_json=as_json)
        session.judge(acknowledged)
    every = {path for paths in taken.values() for path in paths}
    return {file for file in files if file.resolve() in every}


class WatchSession:
    """One folder from the start to the acknowledgement of its last line."""

    def __init__(self, settings: Settings, folder: Path, **options: Any) -> None:
        self.settings, self.folder = settings, folder
        self.began = time.monotonic()
        self.waiting = Waiting()
        self.shipping = BackgroundForwarder(settings_module.load, self.waiting.told)
        self.stream = RolloutStream(settings, folder, self.shipping, say, **options)

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def go(self, *, once: bool, timeout: float | None) -> bool:
        """Read and ship; False: Kafka did not acknowledge everything within `timeout` seconds."""
        self.shipping.start()
        with self.waiting.until_signal(None) as over:
            if once:
                while not over() and self.stream.turn():
                    pass
                self.stream.end()
            else:
                self._follow(over)
        self.stream.close()
        with self.waiting.until_signal(timeout) as told:
            over = lambda: self._gives_up(told)  # noqa: E731 - a name for the next lines
            ids = self.stream.stream_ids
            acknowledged = all(self.shipping.acknowledged(stream_id, over) for stream_id in ids)
            self._end_runs()
            if acknowledged:
                self.stream.shipped()
            acknowledged = self.shipping.acknowledged(self.stream.meta.about.stream_id, over) and acknowledged
        self.shipping.close()
        return acknowledged

    def _gives_up(self, told: Callable[[], bool]) -> bool:
        """Whether to stop waiting for Kafka; after a signal it has a few seconds."""
        since = self.waiting.signalled_at
        if not since:
            return told()
        return self.waiting.signals > 1 or time.monotonic() >= since + GRACE_SECONDS

    def judge(self, acknowledged: bool) -> None:
        """Raise what went wrong.

        Raises:
            NotAcknowledgedError: Kafka does not have everything yet.
            NoRolloutsError: no file held a rollout.
        """
        totals = self.stream.watcher.totals
        if not acknowledged:
            raise NotAcknowledgedError(
                f"Kafka has not acknowledged all of it: it stays in {self.settings.spool_dir}, and "
                "`stepstream up` or `stepstream forward` ships it."
            )
        if not set(totals.formats) - set(LAST):
            raise NoRolloutsError(nothing_found(self.folder, totals))
        if not totals.rollouts and self.stream.was_read:
            say(f"what is below {self.folder} was read before: nothing is new (--again reads it once more).")

    def _follow(self, over: Callable[[], bool]) -> None:
        """Watch until a signal."""
        stop = threading.Event()
        beat = progress = time.monotonic()
        said = 0
        self.stream.turn()
        for paths in changes(self.folder, stop, say):
            self.stream.turn(paths)
            now = time.monotonic()
            if now - beat >= self.settings.heartbeat_seconds:
                beat = now
                for run_id in self.stream.watcher.totals.run_ids:
                    self.stream.meta.say("heartbeat", run_id=run_id)
            totals = self.stream.watcher.totals
            if now - progress >= PROGRESS_SECONDS and totals.rollouts != said:
                progress, said = now, totals.rollouts
                say(f"{totals.rollouts:,} rollouts from {self.stream.watcher.files:,} files.")
            if over():
                stop.set()
                break
        self.stream.turn()

    def _end_runs(self) -> None:
        for run_id in self.stream.watcher.totals.run_ids:
            reason = "the files tell of no life cycle"
            self.stream.meta.say("stream_ended", run_id=run_id, status="completed", reason=reason)
        self.stream.meta.finish()


def nothing_found(folder: Path, totals: Totals) -> str:
    """Why there are no rollouts."""
    if totals.pickles:
        return (
            f"{folder} holds only pickles, which are never loaded, as they may run code: call "
            "stepstream.log_rollout in the trainer's rollout hook (docs/language-models.md)."
        )
    return f"{folder} holds no rollouts of a format that is known: docs/language-models.md lists them."


def print_totals(totals: Totals, seconds: float, *, as_json: bool) -> None:
    """Print the summary, the last line."""
    counts = {
        "files": sum(totals.formats.values()),
        "read": totals.read,
        "rollouts": totals.rollouts,
        "superseded": totals.superseded,
        "metrics": totals.metrics,
        "dead_letters": totals.dead_letters,
    }
    if as_json:
        more = {
            "formats": dict(totals.formats),
            "run_ids": list(totals.run_ids),
            "seconds": round(seconds, 3),
        }
        click.echo(json.dumps(counts | more))
        return
    words = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in counts.items() if number)
    formats = ", ".join(totals.formats) or "no format"
    runs = f"run {next(iter(totals.run_ids))}" if len(totals.run_ids) == 1 else f"{len(totals.run_ids)} runs"
    click.echo(f"stepstream: {words or 'nothing'}; {formats}; {runs}; {seconds:.1f} s")
