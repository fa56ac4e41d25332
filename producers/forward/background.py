"""Ships a program's streams in a background thread, and knows when all lines are acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from infra.lock import is_held
from infra.settings import Settings
from producers.forward.forwarder import Forwarder, Stopped
from producers.forward.stream import Stream
from producers.lines.context import ENDED, OPEN
from producers.spool.format import About
from schemas.errors import StepstreamError
from schemas.topics import META_SUFFIX, Kind

POLL_SECONDS = 0.01
"""How often streams of other processes are polled; our own notify the thread."""
DISCOVER_SECONDS = 0.1
CLOSE_SECONDS = 1.0
"""`close()` does not wait for a thread that is still connecting: it ends with the program."""
COUNTS = {
    "steps": Kind.STEPS,
    "episodes": Kind.EPISODES,
    "metrics": Kind.METRICS,
    "run_events": Kind.RUNS,
    "logs": Kind.LOGS,
    "dead_letters": Kind.DLQ,
    "frames": Kind.FRAMES,
}
"""Names in a summary → the kind that each counts."""


@dataclass
class Totals:
    """Acknowledged records of the worker's lines, by kind."""

    lines: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    """Every run that the lines named, with the state of its life cycle."""

    def add(self, stream: Stream) -> None:
        """Add the counts of one stream."""
        self.lines += stream.checkpoint.line
        for name, number in stream.checkpoint.counts.items():
            self.counts[name] = self.counts.get(name, 0) + number
        for run_id, state in list(stream.context.runs.items()):
            if self.runs.get(run_id) != ENDED:
                self.runs[run_id] = state if state in (ENDED, OPEN) else self.runs.get(run_id, state)

    def summary(self) -> dict[str, int]:
        """The counts by the names of a summary."""
        found = {name: self.counts.get(kind, 0) for name, kind in COUNTS.items()}
        return {"read": self.lines, **found}


class BackgroundForwarder:
    """Ships the streams that this program writes, their meta streams, and those of SDKs in its worker.

    Args:
        load: reads the settings.
        report: called with the reason of a wait, and with "" when it is over.
    """

    def __init__(
        self, load: Callable[[], Settings], report: Callable[[str], None] = lambda reason: None
    ) -> None:
        self._forwarder = Forwarder(load, report)
        self.settings = self._forwarder.settings
        self._parents: list[str] = []
        self._released: set[str] = set()
        self._done = Totals()
        self._changes = threading.Lock()
        self._wake = threading.Event()
        self._closing = self._others = False
        self._discovered_at = 0.0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="shipping", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, about: About, *, patient: bool = False) -> Stream:
        """Ship a stream of ours, and the streams beside it.

        Args:
            patient: it is a complete file, so wait until its end for a line that names the run.

        Raises:
            StepstreamError: another process ships it.
        """
        with self._changes:
            self._parents.append(about.stream_id)
            found = self._found(about.stream_id) or self._claim(about.stream_id, patient=patient)
        if found is None:
            raise StepstreamError(f"Another process ships {self.settings.spool_dir / about.stream_id}.")
        return found

    def _found(self, stream_id: str) -> Stream | None:
        """The stream, if it was discovered beside its parent before it was added."""
        return next((stream for stream in self._forwarder.streams if stream.stream_id == stream_id), None)

    def adopt(self, stream_id: str) -> bool:
        """Ship the rest of a killed process's stream; False: nothing is left, or another process ships it."""
        with self._changes:
            folder = self.settings.spool_dir / stream_id
            if About.read(folder) is None or is_held(folder / "ship.lock"):
                return False
            self._parents.append(stream_id)
            return self._claim(stream_id) is not None

    def wake(self) -> None:
        """There are new lines."""
        for stream in self._forwarder.streams:
            stream.wake()
        self._wake.set()

    def acknowledged(self, stream_id: str, over: Callable[[], bool]) -> bool:
        """Wait until all lines of an ended stream are acknowledged (True) or `over()` is true (False).

        Raises:
            Exception: the error that ended the thread.
        """
        while stream_id not in self._released:
            self.wake()
            if self._error is not None:
                raise self._error
            if over():
                return False
            time.sleep(0.005)
        return True

    def known(self) -> set[str]:
        """Ids of streams that are or were shipped."""
        return {stream.stream_id for stream in self._forwarder.streams} | self._released

    @property
    def knows_no_kafka(self) -> bool:
        """No address of a broker is set: it can only wait until one is set."""
        return self._forwarder.knows_no_kafka

    def of_workers(self) -> list[str]:
        """Streams whose worker is gone, so that they will end; without meta streams."""
        streams = [
            stream for stream in self._forwarder.streams if not stream.meta and stream.writer_is_gone()
        ]
        return [stream.stream_id for stream in streams]

    def discover(self) -> None:
        """Ship the streams that SDKs inside the worker made."""
        self._discovered_at = time.monotonic()
        with self._changes:
            known = self.known()
            for parent in self._parents:
                for folder in self.settings.spool_dir.glob(f"{parent}.*"):
                    if folder.name not in known:
                        self._claim(folder.name)

    def close(self) -> None:
        """End the thread; unacknowledged lines stay in the spool for `forward`."""
        self._closing = True
        self._forwarder.stop()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)
        for stream in self._forwarder.streams:
            stream.release()

    def oldest_seconds(self) -> float:
        """Age of the oldest line that Kafka has not acknowledged; 0: there is none."""
        return self._forwarder.oldest_seconds()

    def totals(self) -> Totals:
        """Totals of all lines so far, without meta streams."""
        with self._changes:
            done = self._done
            found = Totals(done.lines, dict(done.counts), dict(done.runs))
            for stream in self._forwarder.streams:
                if not stream.meta:
                    found.add(stream)
        return found

    def _run(self) -> None:
        try:
            while not self._closing:
                if time.monotonic() - self._discovered_at >= DISCOVER_SECONDS:
                    with suppress(OSError):  # if the disk refuses, the next turn tries again
                        self.discover()
                if not self._forwarder.pump():
                    self._release_ended()
                    self._wake.wait(POLL_SECONDS if self._others else DISCOVER_SECONDS)
                    self._wake.clear()
        except Stopped:
            pass
        except BaseException as error:
            self._error = error

    def _release_ended(self) -> None:
        for stream in [stream for stream in self._forwarder.streams if stream.ended]:
            self._forwarder.finish(stream)
            with self._changes:
                if not stream.meta:
                    self._done.add(stream)
                self._forwarder.streams.remove(stream)
                stream.release()
            self._released.add(stream.stream_id)

    def _claim(self, stream_id: str, *, patient: bool = False) -> Stream | None:
        folder = self.settings.spool_dir / stream_id
        stream = Stream.claim(
            self.settings, folder, patient=patient, parent=lambda: self._worker_of(stream_id)
        )
        if stream is not None:
            self._forwarder.streams.append(stream)
            if stream.about.writer == "sdk":
                self._others = True
                for other in self._forwarder.streams:
                    other.hurry = True
        return stream

    def _worker_of(self, meta_id: str) -> Stream | None:
        return self._found(meta_id.removesuffix(META_SUFFIX))
