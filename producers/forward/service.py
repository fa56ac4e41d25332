"""Ships every stream of a folder that no other process ships, and writes heartbeats and ends for SDK workers.

An SDK only writes lines: without `stepstream run` a worker has no heartbeat, and no end when it is killed.
Streams of a killed `run` or `ingest` are taken over in the same way.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from infra.lock import is_held
from infra.metrics import Health
from infra.settings import Settings
from producers.forward.forwarder import Forwarder, Stopped
from producers.forward.stream import Stream, discard_old, life_ahead
from producers.lines.context import ENDED, OPEN, SILENT
from producers.spool.format import PROGRAMS, About
from producers.spool.meta_stream import MetaStream
from schemas.topics import META_SUFFIX

SCAN_SECONDS = 0.2
POLL_SECONDS = 0.02
TIDY_SECONDS = 60.0
LAST_SECONDS = 3.0
"""After SIGTERM, how long to wait for records in flight."""

log = structlog.get_logger(part="forward")


class ForwardService:
    """Ships one folder of spools.

    Args:
        load: reads the settings; `spool_dir` is the folder.
        stop: ends the loop when set.
        drain: seconds in which it still ships what the spools hold, after it was told to stop.
    """

    def __init__(self, load: Callable[[], Settings], stop: threading.Event, drain: float = 0.0) -> None:
        self._forwarder = Forwarder(load, self._told)
        self._settings = self._forwarder.settings
        self._stop, self._drain = stop, drain
        self._drained = False
        self._folder = self._settings.spool_dir
        self._finished: set[str] = set()
        self._metas: dict[str, MetaStream] = {}
        self._refusals: set[str] = set()
        self.health = Health("forward", {"kafka": lambda: self._forwarder.waits_for})
        self._scanned_at = self._beat_at = self._tidied_at = 0.0

    def run(self) -> None:
        """Run until `stop` is set and the spools are drained."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            while not self._is_over():
                self.health.beat()
                self._carefully(self._tidy_if_due)  # before a scan claims a stream that is to be deleted
                self._carefully(self._scan_if_due)
                self._carefully(self._beat_if_due)
                if not self._forwarder.pump():
                    self._carefully(self._finish_ended)
                    self._rest()
            self._forwarder.wait_acknowledged(LAST_SECONDS)
        except Stopped:
            log.info("stopped; what Kafka has not acknowledged stays in the spool")
        finally:
            for stream in self._forwarder.streams:
                stream.release()
            for meta in self._metas.values():
                meta.close()

    def _is_over(self) -> bool:
        return self._stop.is_set() and (self._drained or self._drain <= 0)

    def _rest(self) -> None:
        """Nothing to send just now. Once told to stop, a last scan finds what was written meanwhile."""
        if not self._stop.wait(POLL_SECONDS):
            return
        time.sleep(POLL_SECONDS)
        self._scanned_at = 0.0
        self._carefully(self._scan_if_due)
        self._drained = self._forwarder.unshipped() == 0

    def unshipped(self) -> int:
        """Bytes of all spools that Kafka has not acknowledged."""
        return self._forwarder.unshipped()

    def oldest_seconds(self) -> float:
        """Age of the oldest line that Kafka has not acknowledged; 0: there is none."""
        return self._forwarder.oldest_seconds()

    def stop(self) -> None:
        """End the loop; after `drain` seconds, at least LAST_SECONDS, also its waiting."""
        self._stop.set()
        last = threading.Timer(max(LAST_SECONDS, self._drain), self._give_up)
        last.daemon = True
        last.start()

    def _give_up(self) -> None:
        self._drained = True
        self._forwarder.stop()

    def _carefully(self, action: Callable[[], None]) -> None:
        """Run an action; what the disk refuses is tried again later, and each reason is logged once."""
        try:
            action()
        except OSError as error:
            if str(error) not in self._refusals:
                self._refusals.add(str(error))
                log.error("the disk refuses; trying again", reason=str(error))

    def _told(self, reason: str) -> None:
        if reason:
            log.warning("waiting for Kafka; lines are kept on disk", reason=reason)
        else:
            log.info("Kafka acknowledges again")

    def _scan_if_due(self) -> None:
        now = time.monotonic()
        if now - self._scanned_at < SCAN_SECONDS:
            return
        self._scanned_at = now
        shipped = {stream.stream_id for stream in self._forwarder.streams}
        for name in sorted(os.listdir(self._folder)):
            if name not in shipped and name not in self._finished and not self._is_anothers(name, shipped):
                self._carefully(partial(self._claim, self._folder / name))

    def _is_anothers(self, name: str, shipped: set[str]) -> bool:
        """Whether the process that ships a stream's worker also ships this one beside it."""
        first = name.partition(".")[0]
        ours = first == name or first in shipped or first in self._finished
        return not ours and is_held(self._folder / first / "ship.lock")

    def _claim(self, folder: Path) -> None:
        try:
            if _is_a_living_programs(folder):
                return
            stream = Stream.claim(self._settings, folder, parent=lambda: self._worker_of(folder.name))
        except (ValueError, TypeError) as error:
            log.error("a spool cannot be read", folder=str(folder), reason=str(error))
            self._finished.add(folder.name)
            return
        if stream is not None:
            self._forwarder.streams.append(stream)

    def _worker_of(self, meta_id: str) -> Stream | None:
        name = meta_id.removesuffix(META_SUFFIX)
        return next((stream for stream in self._forwarder.streams if stream.stream_id == name), None)

    def _beat_if_due(self) -> None:
        now = time.monotonic()
        if now - self._beat_at < self._settings.heartbeat_seconds:
            return
        self._beat_at = now
        for stream in self._forwarder.streams:
            if self._is_ours_to_speak_for(stream) and not stream.writer_is_gone():
                with suppress(BlockingIOError):
                    oldest = round(self.oldest_seconds(), 1) or None
                    acked = stream.checkpoint.line
                    self._meta(stream).say(
                        "heartbeat", pid=stream.about.pid, lines_acked=acked, spool_seconds=oldest
                    )

    def _is_ours_to_speak_for(self, stream: Stream) -> bool:
        return stream.about.writer == "sdk" and stream.about.owner and not stream.meta

    def _meta(self, stream: Stream) -> MetaStream:
        found = self._metas.get(stream.stream_id)
        if found is None:
            found = MetaStream(self._settings, stream.about, "forward", lambda: stream.run_id)
            self._metas[stream.stream_id] = found
            self._reopen(found.about.stream_id)
        return found

    def _reopen(self, stream_id: str) -> None:
        """Ship a stream again that had ended: it has new lines."""
        self._finished.discard(stream_id)
        for stream in self._forwarder.streams:
            if stream.stream_id == stream_id:
                stream.ended = False

    def _finish_ended(self) -> None:
        ended = [stream for stream in self._forwarder.streams if stream.ended]
        for stream in sorted(ended, key=lambda stream: stream.meta):
            if not stream.ended:  # its worker's end was written meanwhile
                continue
            self._forwarder.finish(stream)
            if not stream.meta:
                self._say_end(stream)
            self._forwarder.streams.remove(stream)
            stream.release()
            self._finished.add(stream.stream_id)

    def _say_end(self, stream: Stream) -> None:
        """Write how the stream's runs ended, if no process has; then mark the stream as complete."""
        complete = (stream.folder / "done").exists()
        meta_folder = self._folder / (stream.stream_id + META_SUFFIX)
        if not (meta_folder / "done").exists() and (stream.about.owner or meta_folder.exists()):
            with suppress(BlockingIOError):  # another process still writes it, and writes the end itself
                self._end_runs(stream, complete=complete)
        if not complete:
            (stream.folder / "done").touch()

    def _end_runs(self, stream: Stream, *, complete: bool) -> None:
        known = ({stream.announced: SILENT} if stream.announced else {}) | stream.context.runs
        over = self._ended_by_run(stream.stream_id)
        runs = {run_id: state for run_id, state in known.items() if state != ENDED and run_id not in over}
        if not runs and not (self._folder / (stream.stream_id + META_SUFFIX)).exists():
            return
        meta = self._meta(stream)
        for run_id, state in runs.items():
            if complete and state == SILENT:
                meta.say("stream_ended", run_id=run_id, status="completed", reason="the lines end")
            else:
                gone = f"process {stream.about.pid} on {stream.about.host} is gone without a word"
                ended = "the lines end before the run does"
                reason = ended if complete and state == OPEN else gone
                meta.say("stream_ended", run_id=run_id, status="lost", reason=reason)
        meta.finish()
        del self._metas[stream.stream_id]
        self._reopen(meta.about.stream_id)

    def _ended_by_run(self, stream_id: str) -> set[str]:
        """Of an SDK's stream: the runs whose end the `run` has written that started its worker.

        Raises:
            BlockingIOError: it still writes.
        """
        parent, _, own = stream_id.partition(".")
        if not own:
            return set()
        if is_held(self._folder / (parent + META_SUFFIX) / "writer.lock"):
            raise BlockingIOError
        said = life_ahead(self._settings, parent + META_SUFFIX)
        return {run_id for run_id, state in said.items() if state == ENDED}

    def _tidy_if_due(self) -> None:
        now = time.monotonic()
        if now - self._tidied_at >= TIDY_SECONDS:
            self._tidied_at = now
            self._finished -= set(discard_old(self._settings))


def _is_a_living_programs(folder: Path) -> bool:
    """Whether the stream is of a running `run`, `ingest` or `watch`, which ships it itself."""
    about = About.read(folder)
    return about is not None and about.writer in PROGRAMS and is_held(folder / "writer.lock")
