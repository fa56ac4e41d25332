"""What `run` and `ingest` print on stderr while they wait and at their end, and how a signal stops them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import click

from infra.settings import Settings, running_stack
from producers.forward.background import Totals
from schemas.errors import StepstreamError

COUNTED = ("steps", "episodes", "metrics", "run_events", "logs", "dead_letters", "frames")


class NotAcknowledgedError(StepstreamError):
    """The time was up before Kafka had all lines."""


def not_acknowledged(settings: Settings) -> NotAcknowledgedError:
    """The error of a command whose time was up."""
    return NotAcknowledgedError(
        f"Kafka has not acknowledged all lines: they stay in {settings.spool_dir}, and "
        "`stepstream up` or `stepstream forward` ships them."
    )


class Waiting:
    """Tells the user what one command waits for.

    Args:
        on_signal: called in the handler of SIGINT and SIGTERM.
    """

    def __init__(self, on_signal: Callable[[], None] = lambda: None) -> None:
        self._since: float | None = None
        self._on_signal = on_signal
        self.signals = 0
        self.signalled_at: float | None = None
        """When the first signal came, by the monotonic clock."""

    def told(self, reason: str) -> None:
        """Print the reason of a wait; "" when it is over."""
        if reason:
            self._since = self._since or time.monotonic()
            say(f"waiting for Kafka, lines are kept on disk meanwhile: {reason}")
        elif self._since is not None:
            say(f"Kafka is there after {time.monotonic() - self._since:.0f} s.")
            self._since = None

    def kept(self, folder: Path) -> None:
        """Say that lines stay in the spool."""
        say(f"not all lines reached Kafka: they stay in {folder}, `stepstream up` or `forward` ships them.")

    @contextmanager
    def until_signal(self, timeout: float | None) -> Iterator[Callable[[], bool]]:
        """In this block SIGINT and SIGTERM only end the waiting. Yields a function: whether to stop.

        Args:
            timeout: seconds until it says to stop; None: never.
        """
        until = None if timeout is None else time.monotonic() + timeout
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield lambda: self.signals > 0 or (until is not None and time.monotonic() >= until)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1
        self.signalled_at = self.signalled_at or time.monotonic()
        self._on_signal()


def page(settings: Settings, run_id: str) -> str | None:
    """The address of a run's page; None if no running dashboard is known."""
    url = running_stack(settings.home).get("dashboard_url")
    return f"{url}/runs/{quote(run_id, safe='')}" if url else None


def say(text: str) -> None:
    """One line on stderr."""
    click.echo(f"stepstream: {text}", err=True)


def print_summary(totals: Totals, seconds: float, *, as_json: bool, err: bool, read: int = 0) -> None:
    """Print the summary, the last line of a command.

    Args:
        read: lines in our own spools, also unacknowledged ones.
    """
    counts, run_ids = totals.summary(), list(totals.runs)
    counts["read"] = max(counts["read"], read)
    if as_json:
        click.echo(json.dumps({**counts, "run_ids": run_ids, "seconds": round(seconds, 3)}), err=err)
        return
    words = [f"{counts[name]:,} {name.replace('_', ' ')}" for name in COUNTED if counts[name]]
    if counts["dead_letters"]:
        words.append(f"why: stepstream dlq list{f' {run_ids[0]}' if len(run_ids) == 1 else ''}")
    runs = f"run {run_ids[0]}" if len(run_ids) == 1 else f"{len(run_ids)} runs"
    lines = "1 line" if counts["read"] == 1 else f"{counts['read']:,} lines"
    click.echo(f"stepstream: {lines} read: {', '.join(words) or 'nothing'}; {runs}; {seconds:.1f} s", err=err)
