"""One stream on its way to Kafka: its lines, its run and its checkpoint."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from infra.lock import is_held, try_lock
from infra.settings import Settings
from producers.forward.encoder import RecordEncoder, StreamEncoder, Window
from producers.forward.frame_sampler import FrameSampler
from producers.forward.run_id import RunIdFinder
from producers.lines.context import Context, Identity
from producers.lines.normalise import HEAD_BYTES, Normaliser
from producers.spool.format import (
    DISK_FULL,
    About,
    Checkpoint,
    arrived_at,
    keep_room,
    now_us,
    segment_path,
    segments,
)
from producers.spool.reader import Chunk, SpoolReader
from schemas.topics import META_SUFFIX

LONGEST_REST_SECONDS = 0.1
TROUBLE_SECONDS = 0.5
SYNC_SECONDS = 1.0
"""After a power cut an old checkpoint costs only work, so it is synced no more often than this."""
SAVE_SECONDS, SAVE_LINES = 0.1, 500
"""Each checkpoint is a new file: it is saved no more often, unless a kill would repeat so many lines."""

log = structlog.get_logger(part="forwarder")


class Stream:
    """A stream that this process ships: it holds its `ship.lock`.

    Args:
        patient: wait for a run's name until the stream's end, as it is a complete file.
        parent: of a meta stream: the stream beside it.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        about: About,
        lock: int,
        *,
        patient: bool = False,
        parent: Callable[[], Stream | None] = lambda: None,
    ) -> None:
        self.folder, self.about = folder, about
        self.checkpoint = Checkpoint.load(folder)
        self.hurry = False
        """Do not wait for the stream to name its run: the SDK's stream beside it has one."""
        self._settings, self._lock = settings, lock
        self._patient, self._parent = patient, parent
        self._reader = SpoolReader(folder, about, self.checkpoint, settings.max_line_bytes, HEAD_BYTES)
        self._normalise: Normaliser | None = None
        self._records: RecordEncoder | None = None
        self._encoder: StreamEncoder | None = None
        self._heard_at = time.monotonic()
        self._rests_until = 0.0
        self._refusal = ""
        self._ahead: RunIdFinder | None = None
        self._saved = self._unsaved = self.checkpoint
        self._saved_at = self._synced_at = 0.0
        self._counts = dict(self.checkpoint.counts)
        self._newest = self.checkpoint
        self._sampler = FrameSampler(settings.frames_per_second)
        self.ended = False
        """Every line was read, and no more lines will come."""

    @classmethod
    def claim(cls, settings: Settings, folder: Path, **options: object) -> Stream | None:
        """The stream, if it exists and no other process ships it."""
        about = About.read(folder)
        if about is None:
            return None
        lock = try_lock(folder / "ship.lock")
        if lock is None:
            return None
        return cls(settings, folder, about, lock, **options)  # type: ignore[arg-type]

    @property
    def stream_id(self) -> str:
        """The stream's id."""
        return self.about.stream_id

    @property
    def meta(self) -> bool:
        """Whether it is stepstream's own stream."""
        return self.about.kind == "meta"

    @property
    def context(self) -> Context:
        """What its lines have named so far."""
        return self._normalise.context if self._normalise else Context.from_json(self.checkpoint.context)

    @property
    def run_id(self) -> str | None:
        """The run of its next line, unless that names another; None: not decided yet."""
        return self.context.run_id or self.checkpoint.run_id

    @property
    def announced(self) -> str | None:
        """The run that `stepstream run` announced as started; None: none was announced."""
        return self.checkpoint.run_id if self.about.writer == "run" else None

    def unshipped(self) -> int:
        """Bytes that Kafka has not acknowledged."""
        total = -self.checkpoint.offset
        for first in segments(self.folder):
            if first >= self.checkpoint.segment:
                total += segment_path(self.folder, first).stat().st_size
        return max(total, 0)

    def oldest_unshipped(self) -> int:
        """When the oldest line came that Kafka has not acknowledged, µs since 1970; 0: there is none."""
        shipped = self.checkpoint
        for first in segments(self.folder):
            offset = shipped.offset if first == shipped.segment else 0
            if first >= shipped.segment and segment_path(self.folder, first).stat().st_size > offset:
                return arrived_at(self.folder, first, offset)
        return 0

    def writer_is_gone(self) -> bool:
        """No more lines will come."""
        return (self.folder / "done").exists() or not is_held(self.folder / "writer.lock")

    def fill(self, window: Window, records: RecordEncoder) -> None:
        """Add the records of the next lines to a window, and the pictures whose turn has come."""
        try:
            chunk = self._next(window.room)
        except OSError as error:  # other streams go on
            self._refused_by_disk(error)
            return
        if chunk is not None:
            self._encoder_with(records).lines(chunk, window, self._newest)
        late = self._sampler.late(now_us())
        if late:
            self._encoder_with(records).pictures(late, window)
        if chunk is not None or late:  # also where only a late picture was added
            window.checkpoints[self.stream_id] = self._snapshot()

    def fill_rest(self, window: Window, records: RecordEncoder) -> None:
        """Add the pictures that still wait for their turn, as no more lines come."""
        if rest := self._sampler.rest():
            self._encoder_with(records).pictures(rest, window)
        window.checkpoints[self.stream_id] = self._snapshot()

    def _encoder_with(self, records: RecordEncoder) -> StreamEncoder:
        """The stream's encoder; a new one for each connection, as that may have other schema ids."""
        assert self._normalise is not None
        if self._encoder is None or self._records is not records:
            longest = self._settings.max_line_bytes
            self._records = records
            self._encoder = StreamEncoder(self._normalise, self._sampler, self._counts, records, longest)
        return self._encoder

    def _next(self, most: int) -> Chunk | None:
        """The next lines, at most so many; None: there are none yet."""
        if most <= 0 or self.ended or time.monotonic() < self._rests_until:
            return None
        # A torn last line of our own streams, or of `watch`, was never complete.
        normalise, chunk = self._normalise or self._begin(final=False), None
        if normalise is not None:
            chunk = self._reader.read(most, final=False)
        if chunk is None and self.writer_is_gone():
            normalise = normalise or self._begin(final=True)
            if normalise is not None:
                chunk = self._reader.read(most, final=not (self.meta or self.about.writer == "watch"))
                self.ended = chunk is None
        if chunk is None:
            self._rest()
        else:
            self._heard_at = time.monotonic()
        return chunk

    def _refused_by_disk(self, error: OSError) -> None:
        """Its files cannot be read or written just now: try again later, and log each reason once."""
        self._rests_until = time.monotonic() + TROUBLE_SECONDS
        if str(error) != self._refusal:
            self._refusal = str(error)
            log.warning("the disk refuses a spool; trying again", folder=str(self.folder), reason=str(error))

    def wake(self) -> None:
        """There are new lines: read at the next turn."""
        self._rests_until = 0.0

    def _rest(self) -> None:
        """Poll a stream less often the longer it has no new lines."""
        now = time.monotonic()
        self._rests_until = now + min((now - self._heard_at) / 20, LONGEST_REST_SECONDS)

    def _snapshot(self) -> Checkpoint:
        """The checkpoint behind the lines read so far, to be saved once they are acknowledged."""
        reader = self._reader
        self._newest = Checkpoint(
            reader.segment,
            reader.offset,
            reader.line,
            self.checkpoint.run_id,
            self.context.to_json(),
            dict(self._counts),
        )
        return self._newest

    def acknowledge(self, checkpoint: Checkpoint) -> None:
        """Kafka has all lines before this checkpoint.

        Where pictures still wait for their turn, the checkpoint before them is saved: a restart makes them
        again.
        """
        self.checkpoint = checkpoint
        kept = self._unsaved = self._sampler.before() or checkpoint
        far = kept.segment != self._saved.segment or kept.line - self._saved.line >= SAVE_LINES
        if far or time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Save the checkpoint, where it is not saved yet, and delete the segments before it.

        If the disk refuses, a later checkpoint is saved: until then a restart repeats more.
        """
        kept, now = self._unsaved, time.monotonic()
        if kept is self._saved:
            return
        sync = now - self._synced_at >= SYNC_SECONDS
        try:
            self._save(kept, sync=sync)
        except OSError as error:
            self._refused_by_disk(error)
        else:
            self._saved_at, self._synced_at = now, now if sync else self._synced_at

    def _save(self, kept: Checkpoint, *, sync: bool) -> None:
        """On a full disk it is saved in the room reserved for it, once that makes a segment deletable."""
        moved, is_full = kept.segment != self._saved.segment, False
        try:
            kept.save(self.folder, sync=sync)
        except OSError as error:
            if not moved or error.errno not in DISK_FULL:
                raise
            kept.save_on_full_disk(self.folder)
            is_full = True
        self._saved = kept
        if moved:
            self._tidy(kept.segment, is_full=is_full)
        keep_room(self.folder)

    def release(self) -> None:
        """Release the lock, so that another process can ship it."""
        self.save()
        self._reader.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _tidy(self, current: int, *, is_full: bool) -> None:
        oldest = time.time() if is_full else _oldest_kept(self._settings)
        for first in segments(self.folder):
            path = segment_path(self.folder, first)
            if first < current and path.stat().st_mtime <= oldest:
                path.unlink(missing_ok=True)
                segment_path(self.folder, first, "times").unlink(missing_ok=True)

    def _begin(self, *, final: bool) -> Normaliser | None:
        """The normaliser; None until the run of the first lines is decided."""
        about = self.about
        if self.checkpoint.run_id is None:
            run_id = self._run_of_unnamed(final)
            if run_id is None:
                return None
            replace(self.checkpoint, run_id=run_id).save(self.folder, sync=True)
            self.checkpoint.run_id = run_id
        identity = Identity(about.stream_id, self.checkpoint.run_id, about.agent_id, sdk=about.sdk)
        self._normalise = Normaliser(identity, Context.from_json(self.checkpoint.context))
        return self._normalise

    def _run_of_unnamed(self, final: bool) -> str | None:
        about = self.about
        if about.run_id is not None:
            return about.run_id
        if self.meta:
            return self._run_of_parent()
        if self._ahead is None:
            self._ahead = RunIdFinder(self._settings, self.folder, about, patient=self._patient)
        found = self._ahead.decide(final or self.hurry)
        if found is not None:
            self._ahead.close()
        return found

    def _run_of_parent(self) -> str | None:
        """The run of a meta stream: the first run of its worker's stream."""
        parent = self._parent()
        if parent is not None:
            return parent.checkpoint.run_id
        folder = self.folder.with_name(self.stream_id.removesuffix(META_SUFFIX))
        if not folder.exists():
            return self.about.generated_run_id
        return Checkpoint.load(folder).run_id


def discard_old(settings: Settings) -> list[str]:
    """Delete streams that are complete, shipped and past their retention; returns their ids.

    What `run` has written of an end stays until the streams of its worker are complete, too.
    """
    oldest = _oldest_kept(settings)
    beside = settings.spool_dir.glob("*.*")
    open_below = {folder.name.partition(".")[0] for folder in beside if not (folder / "done").exists()}
    gone = []
    for done in settings.spool_dir.glob("*/done"):
        worker, _, beside_it = done.parent.name.partition(".")
        if done.stat().st_mtime > oldest or (f".{beside_it}" == META_SUFFIX and worker in open_below):
            continue
        stream = Stream.claim(settings, done.parent)
        if stream is None:
            continue
        if stream.unshipped() == 0:
            # The lines first: an interruption here leaves a shipped stream, not one that is shipped again.
            for first in segments(stream.folder):
                segment_path(stream.folder, first).unlink(missing_ok=True)
            shutil.rmtree(stream.folder, ignore_errors=True)
            gone.append(stream.stream_id)
        stream.release()
    return gone


def _oldest_kept(settings: Settings) -> float:
    """What is shipped and older is deleted: all of it where the disk has no room for another segment."""
    now = time.time()
    if shutil.disk_usage(settings.spool_dir).free < settings.spool_segment_bytes:
        return now
    return now - settings.spool_retention_hours * 3600


def life_ahead(settings: Settings, stream_id: str) -> dict[str, str]:
    """The life cycle of a stream's runs, with its unshipped lines taken into account."""
    folder = settings.spool_dir / stream_id
    about, checkpoint = About.read(folder), Checkpoint.load(folder)
    if about is None:
        return {}
    context = Context.from_json(checkpoint.context)
    run_id = checkpoint.run_id or about.run_id or about.generated_run_id
    normalise = Normaliser(Identity(stream_id, run_id, about.agent_id, sdk=about.sdk), context)
    reader = SpoolReader(folder, about, checkpoint, settings.max_line_bytes, HEAD_BYTES)
    while (chunk := reader.read(settings.window_lines, final=True)) is not None:
        for line in chunk.lines if isinstance(chunk.lines, list) else []:
            if _LIFE.search(line):
                normalise(line, 0, 0)
    reader.close()
    return context.runs


_LIFE = re.compile(rb"run_(?:started|completed|failed|cancelled)", re.I)
