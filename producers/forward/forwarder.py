"""Ships streams to Kafka: no line is lost, and a line that is sent twice becomes the same record twice.

The guarantee, in steps:

1. A window holds the next lines of the spools, at most `window_lines`, normalised and encoded.
2. One idempotent producer sends it (acks=all, no time-out); the next window is made while this one is in
   flight.
3. The flush ends when nothing is in flight. It waits as long as needed: an outage costs disk, not data.
4. Without a failure every line of the window is stored, and the checkpoint of each stream is saved, small
   windows together.
5. A record that Kafka refuses is sent again alone. If it fails alone, it becomes a dead letter, and counts
   as done once that is stored.
6. After any other failure the whole window is sent again, by a new producer if the old one is broken.
7. After a kill the next forwarder repeats at most two windows, and the small ones of 0.1 s before them, with
   the same run, agent and time for each line, as the checkpoint holds them. If a picture waits for its
   turn, the checkpoint is before its window.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable

import structlog

from infra import metrics
from infra.kafka.batch_producer import BatchProducer, Failure
from infra.kafka.registry import Registry
from infra.settings import Settings
from producers.forward.encoder import Item, RecordEncoder, Window
from producers.forward.stream import Stream
from producers.spool.format import now_us
from schemas.errors import BrokerError, RegistryError, UsageError
from schemas.topics import Kind

WAIT_SECONDS = 0.25
PATIENCE_SECONDS = 1.0
"""After this many seconds the user is told the reason of the wait."""
AGAIN_SECONDS = 1.0
GATHER_SECONDS = 0.005
"""Linger 5 ms after a window of few records, so that records share a request."""
FEW_RECORDS = 500
log = structlog.get_logger(part="forwarder")


class Stopped(Exception):  # noqa: N818 - a state
    """Stopped while records were in flight: they stay in the spool."""


def _measure(window: Window) -> None:
    """Count acknowledged records for Prometheus, by kind."""
    for kind, count in Counter(item[0].value for item in window.items).items():
        metrics.RECORDS.labels("forward", kind).inc(count)
    metrics.BATCH_RECORDS.labels("forward").observe(len(window.items))
    metrics.BATCH_SECONDS.labels("forward").observe(time.monotonic() - window.sent_at)


class Forwarder:
    """Ships the streams in `streams`. All methods are for one thread, except `stop` and `unshipped`.

    Args:
        load: reads the settings; called again when no broker answers, as its address may have changed.
        report: called with the reason of a wait, and with "" when it is over.
    """

    def __init__(
        self, load: Callable[[], Settings], report: Callable[[str], None] = lambda reason: None
    ) -> None:
        self.settings = load()
        self.streams: list[Stream] = []
        self._load, self._report = load, report
        self._stop = threading.Event()
        self._producer: BatchProducer | None = None
        self._records: RecordEncoder | None = None
        self._topics: dict[Kind, str] = {}
        self._turn = 0
        self._in_flight: Window | None = None
        self._gathers_until = 0.0
        self._said = ""
        """The reason of the wait; empty: none."""
        self.knows_no_kafka = False

    @property
    def waits_for(self) -> str:
        """Why nothing is sent now; empty: records are being sent."""
        return self._said or ("" if self._producer else metrics.NOT_YET)

    def unshipped(self) -> int:
        """Bytes of all spools that Kafka has not acknowledged. Another thread may call it."""
        with contextlib.suppress(OSError):  # a spool was deleted meanwhile
            return sum(stream.unshipped() for stream in list(self.streams))
        return 0

    def oldest_seconds(self) -> float:
        """Age of the oldest line that Kafka has not acknowledged; 0: none. Another thread may call it."""
        with contextlib.suppress(OSError):  # a spool was deleted meanwhile
            came = [at for stream in list(self.streams) if (at := stream.oldest_unshipped())]
            return max((now_us() - min(came)) / 1e6, 0.0) if came else 0.0
        return 0.0

    def stop(self) -> None:
        """Stop waiting; records in flight stay in the spool."""
        self._stop.set()

    def pump(self) -> bool:
        """Make the next window while the last one is in flight, wait for its acknowledgement, send the next.

        Returns:
            Whether there was anything to send.

        Raises:
            Stopped: `stop` was called.
        """
        self._connect()
        if (left := self._gathers_until - time.monotonic()) > 0:
            self._stop.wait(left)
        window = self._make()
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is None and window is None:
            for stream in list(self.streams):
                stream.save()
            return False
        if in_flight is not None:
            self._await(in_flight)
        if window is not None:
            self._send(window)
            self._in_flight = window
            few = len(window.items) < FEW_RECORDS
            self._gathers_until = time.monotonic() + GATHER_SECONDS if few else 0.0
        if in_flight is not None:  # saved while Kafka takes the next window
            self._save(in_flight)
        return True

    def wait_acknowledged(self, seconds: float) -> None:
        """Wait at most `seconds` for the records in flight.

        Raises:
            Stopped: `stop` was called.
        """
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None and self._producer is not None and self._producer.flush(seconds):
            self._acknowledged(in_flight)

    def finish(self, stream: Stream) -> None:
        """Send the pictures of a stream that still wait for their turn."""
        self._connect()
        assert self._records is not None
        window = Window()
        stream.fill_rest(window, self._records)
        self._send(window)
        self._acknowledged(window)

    # The producer

    def _connect(self, *, told: bool = True) -> None:
        began = time.monotonic()
        while self._producer is None:
            try:
                self.settings = self._load()
                registry = Registry(self.settings, self._stop)
                ids = {kind: registry.id_to_write(kind) for kind in Kind}
                self._topics = {kind: kind.topic(self.settings.topic_prefix) for kind in Kind}
                producer = BatchProducer(self.settings)
                limits = {kind: producer.limits[topic] for kind, topic in self._topics.items()}
                self._records = RecordEncoder(ids, limits, self.settings.frame_format)
                self._producer = producer
            except (BrokerError, RegistryError, UsageError) as error:
                self.knows_no_kafka = not self.settings.bootstrap_servers
                self._wait(began, str(error))
        self.knows_no_kafka = False
        if told:
            self._told("")

    def _wait(self, began: float, reason: str) -> None:
        if time.monotonic() - began >= PATIENCE_SECONDS:
            self._told(reason)
        if self._stop.wait(AGAIN_SECONDS):
            raise Stopped(reason)

    def _told(self, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            self._report(reason)

    # A window

    def _make(self) -> Window | None:
        assert self._records is not None
        window = Window(self.settings.window_lines)
        for stream in self._in_turn():
            stream.fill(window, self._records)
        return window if window.items else None

    def _in_turn(self) -> list[Stream]:
        """The streams, each time from another one on, so that a long one does not hold up the others."""
        self._turn = (self._turn + 1) % max(len(self.streams), 1)
        return self.streams[self._turn :] + self.streams[: self._turn]

    def _send(self, window: Window) -> None:
        assert self._producer is not None
        window.sent_at = time.monotonic()
        send, topics = self._producer.send, self._topics
        for kind, key, value, _, _ in window.items:
            send(topics[kind], key, value)

    def _acknowledged(self, window: Window) -> None:
        self._await(window)
        self._save(window)

    def _await(self, window: Window) -> None:
        """Wait until each record of a window is acknowledged, or a dead letter."""
        while failures := self._failures(window):
            if all(failure.records_fault for failure in failures):
                self._one_by_one(window, failures)
                break
            log.warning("sending the window again", reason=failures[0].reason)
            if any(failure.fatal for failure in failures):
                self._renew()
            self._wait(0, failures[0].reason)
            self._send(window)
        self._told("")

    def _save(self, window: Window) -> None:
        """Save the checkpoints of a window that is acknowledged."""
        _measure(window)
        for stream in list(self.streams):
            if (checkpoint := window.checkpoints.get(stream.stream_id)) is not None:
                stream.acknowledge(checkpoint)

    def _failures(self, window: Window) -> list[Failure]:
        """Wait until nothing is in flight; returns the failures."""
        assert self._producer is not None
        began = time.monotonic()
        while not self._producer.flush(WAIT_SECONDS):
            if self._stop.is_set():
                raise Stopped(self._producer.trouble())
            waited = time.monotonic() - began
            if waited >= PATIENCE_SECONDS:
                self._told(self._producer.trouble() or "Kafka has not acknowledged yet.")
                if self._moved():
                    self._renew()
                    self._send(window)
        return self._producer.failures()

    def _moved(self) -> bool:
        """Whether Kafka has another address now: a restarted local stack has other ports."""
        try:
            return self._load().bootstrap_servers not in ("", self.settings.bootstrap_servers)
        except UsageError:
            return False

    def _renew(self) -> None:
        if self._producer is not None:
            self._producer.abandon()
        self._producer = None
        self._connect(told=False)  # a connection does not mean that records are acknowledged

    def _one_by_one(self, window: Window, failures: list[Failure]) -> None:
        """Send each failed record again alone; one that fails alone becomes a dead letter."""
        failed = {(failure.topic, failure.value) for failure in failures}
        for item in window.items:
            kind, _, value, encoder, line = item
            if (self._topics[kind], value) not in failed:
                continue
            again = self._alone(item)
            if again and line is not None:
                self._alone(encoder.refused(kind, value, line, f"Kafka refuses it: {again[0].reason}."))
                counts = window.checkpoints[encoder.stream_id].counts
                counts[kind.value] -= 1
                counts[Kind.DLQ.value] = counts.get(Kind.DLQ.value, 0) + 1

    def _alone(self, item: Item) -> list[Failure]:
        single = Window()
        single.items.append(item)
        while True:
            self._send(single)
            failures = self._failures(single)
            if not failures or failures[0].records_fault:
                return failures
            self._wait(0, failures[0].reason)
