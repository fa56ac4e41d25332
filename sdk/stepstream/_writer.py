"""The buffer that calls append to, and the thread that makes lines of it and writes them to the spool."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from stepstream import _warn
from stepstream._encoder import Encoder, metrics_row
from stepstream._plan import LINE
from stepstream._spool import Spool

HIGH_WATER = 20_000
"""With more rows than this waiting, a call writes them itself: memory stays bounded and nothing is lost."""
MAX_PENDING = 16 << 20
"""Bytes kept in memory while the disk takes none; what comes on top is dropped and counted."""


class Writer:
    """One run's way to the disk, in one process.

    Args:
        open_spool: makes the spool, when there is a first line for it.
        interval: seconds between writes.
    """

    def __init__(self, encoder: Encoder, open_spool: Callable[[], Spool], interval: float) -> None:
        self.rows: list[tuple] = []
        self.dropped = 0
        """Events that are nowhere on disk."""
        self._encoder = encoder
        self._open_spool = open_spool
        self._interval = interval
        self._spool: Spool | None = None
        self._pending: list[tuple[bytes, int]] = []
        self._lock = threading.RLock()  # a signal's handler may log while its own thread flushes
        self._wake = threading.Event()
        self._closed = False
        self._flushing = self._stuck = False
        self._told: dict[str, int] = {}
        self._thread = threading.Thread(target=self._work, name="stepstream", daemon=True)

    def start(self) -> None:
        """Begin to write what is appended to `rows`."""
        self._thread.start()

    def flush(self) -> None:
        """Write all rows that were appended before."""
        with self._lock:
            if self._flushing or self._closed:  # a signal's handler, in the middle of a flush
                return
            self._flushing = True
            try:
                count = len(self.rows)
                rows = self.rows[:count]  # calls go on appending meanwhile: each of these two is atomic
                del self.rows[:count]
                if rows:
                    self._keep(self._encoder.encode(rows))
                self._write()
            finally:
                self._flushing = self._stuck = False

    def relieve(self) -> None:
        """Called by a call that found the buffer full: do the thread's work, or if it is stuck, drop."""
        if self._lock.acquire(timeout=0 if self._stuck else 1):
            try:
                self.flush()
            finally:
                self._lock.release()
            return
        self._stuck = True
        if len(self.rows) > 10 * HIGH_WATER:
            lost = len(self.rows)
            del self.rows[:lost]
            self._drop(lost, "the disk does not answer")

    def close(self, last: tuple | None = None) -> None:
        """Write everything, `last` at the very end, and say that the stream is complete."""
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        with self._lock:
            if self._closed:
                return
            self.flush()
            self._keep(self._encoder.end())
            self._report()
            if last is not None:
                self._keep(self._encoder.encode([last]))
            self._write()
            self._closed = True
            if self._pending:
                self._drop(sum(lines for _, lines in self._pending), "the disk takes no more")
            if self._spool is not None:
                _quietly(self._spool.close if self._pending else self._spool.finish)

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""
        if self._spool is not None:
            _quietly(self._spool.close)
        self._closed = True

    def _work(self) -> None:
        reported = time.monotonic()
        while not self._wake.wait(self._interval):
            try:
                self.flush()
                if time.monotonic() - reported > 1:
                    reported = time.monotonic()
                    with self._lock:
                        self._report()
            except Exception as error:
                _warn.once("writer", f"writing failed and goes on ({error!r}).")

    def _keep(self, encoded: tuple[bytes, int]) -> None:
        data, lines = encoded
        if lines and sum(len(kept) for kept, _ in self._pending) + len(data) > MAX_PENDING and self._pending:
            self._drop(lines, "the disk takes no more")
        elif lines:
            self._pending.append(encoded)

    def _write(self) -> None:
        try:
            while self._pending:
                if self._spool is None:
                    self._spool = self._open_spool()
                self._spool.append(*self._pending[0])
                del self._pending[0]
        except OSError as error:
            _warn.once(
                "disk",
                f"the spool cannot be written ({error}); training goes on, events wait in "
                f"memory up to {MAX_PENDING >> 20} MB, then they are dropped and counted.",
            )

    def _drop(self, lines: int, why: str) -> None:
        self.dropped += lines
        _warn.once("dropped", f"events are dropped: {why}. Their number is on the run's page.")

    def count_lost(self) -> dict[str, int]:
        """What is not as it was logged, by name; the run's page shows these metrics."""
        encoder = self._encoder
        return {
            "stepstream/dropped": self.dropped + encoder.lost,
            "stepstream/replaced": encoder.dump.replaced,
        }

    def _report(self) -> None:
        counts = {name: number for name, number in self.count_lost().items() if number}
        now = time.monotonic_ns()
        rows: list[tuple] = [((LINE,), now, "sdk_warning", {"message": text}) for text in _warn.untold()]
        if counts != self._told:
            rows.append(metrics_row(now, self._encoder.steps, None, counts))
            self._told = counts
        self._keep(self._encoder.encode(rows))


def _quietly(action: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        action()
