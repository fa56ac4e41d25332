"""One stream on its way to Kafka: its reader, its normaliser and its place."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from infra.lock import is_held, try_lock
from infra.settings import Settings
from producers.forward.frame_sampler import FrameSampler
from producers.forward.run_id import RunIdFinder
from producers.lines.context import Context, Identity
from producers.lines.fast_step import Shortcut
from producers.lines.frames import Picture
from producers.lines.normalise import HEAD_BYTES, Event, Normaliser
from producers.spool.format import About, Checkpoint, segment_path, segments
from producers.spool.reader import Chunk, Long, SpoolReader
from schemas.codec import HEADER, MAGIC, Decoder, Encoder
from schemas.topics import META_SUFFIX, Kind

LONGEST_REST_SECONDS = 0.1
TROUBLE_SECONDS = 0.5
SYNC_SECONDS = 1.0
"""An old place after a power cut costs only work, so it goes to the platter this often."""

log = structlog.get_logger(part="forwarder")

Encoded = tuple[Kind, bytes, bytes, bytes, Event | None]
"""Kind, key and value of a record, its line, and where that did not go the short way, its event."""


class Stream:
    """A stream that this process ships: it holds its `ship.lock`.

    Args:
        patient: wait for a run's name until the stream ends, as it is a file that is there already.
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
        self.place = Checkpoint.load(folder)
        self.hurry = False
        """Do not wait for the stream to name its run: that of the SDK beside it is known."""
        self._settings, self._lock = settings, lock
        self._patient, self._parent = patient, parent
        self._reader = SpoolReader(folder, about, self.place, settings.max_line_bytes, HEAD_BYTES)
        self._normalise: Normaliser | None = None
        self._coder: Coder | None = None
        self._heard_at = time.monotonic()
        self._rests_until = 0.0
        self._trouble = ""
        self._ahead: RunIdFinder | None = None
        self._synced_at = 0.0
        self._counts = dict(self.place.counts)
        self._newest = self._kept = self.place
        self.thinner = FrameSampler(settings.frames_per_second)
        self.ended = False
        """Every line was read, and no more will come."""

    @classmethod
    def claim(cls, settings: Settings, folder: Path, **options: object) -> Stream | None:
        """The stream, if it is there and nobody else ships it."""
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
        """stepstream's own stream."""
        return self.about.kind == "meta"

    @property
    def context(self) -> Context:
        """What its lines named so far."""
        return self._normalise.context if self._normalise else Context.from_json(self.place.context)

    @property
    def run_id(self) -> str | None:
        """The run that its next line belongs to, unless it names another; None: not decided yet."""
        return self.context.run_id or self.place.run_id

    @property
    def announced(self) -> str | None:
        """The run that `run` says has started: that of lines before one was named. None: nobody said so."""
        return self.place.run_id if self.about.writer == "run" else None

    def unshipped(self) -> int:
        """Bytes that Kafka has not acknowledged."""
        total = -self.place.offset
        for first in segments(self.folder):
            if first >= self.place.segment:
                total += segment_path(self.folder, first).stat().st_size
        return max(total, 0)

    def writer_is_gone(self) -> bool:
        """No more lines will come."""
        return (self.folder / "done").exists() or not is_held(self.folder / "writer.lock")

    def count(self, name: str, more: int = 1) -> None:
        """Count a record more, or one less."""
        self._counts[name] = self._counts.get(name, 0) + more

    def read(self, most: int, coder: Coder) -> Iterator[Encoded] | None:
        """The records of the next lines, at most so many; None: there are none yet."""
        if self.ended or time.monotonic() < self._rests_until:
            return None
        # A torn last line of our own (`watch` writes such, too) was never complete.
        normalise, chunk = self._normalise or self._begin(final=False), None
        if normalise is not None:
            chunk = self._reader.read(most, final=False)
        if chunk is None and self.writer_is_gone():
            normalise = normalise or self._begin(final=True)
            if normalise is not None:
                chunk = self._reader.read(most, final=not (self.meta or self.about.writer == "watch"))
                self.ended = chunk is None
        if chunk is None or normalise is None:
            self._rest()
            return None
        self._heard_at = time.monotonic()
        if coder is not self._coder:
            self._coder = coder
            normalise.shortcut = Shortcut(normalise.identity, normalise.context, coder.steps_header)
        return self._encoded(normalise, chunk, coder)

    def trouble(self, error: OSError) -> None:
        """Its files cannot be read or written just now: that is tried again, and each reason is said once."""
        self._rests_until = time.monotonic() + TROUBLE_SECONDS
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("the disk refuses a spool; trying again", folder=str(self.folder), reason=str(error))

    def wake(self) -> None:
        """There are new lines: do not rest."""
        self._rests_until = 0.0

    def _rest(self) -> None:
        """Who has been silent for long is asked more rarely."""
        now = time.monotonic()
        self._rests_until = now + min((now - self._heard_at) / 20, LONGEST_REST_SECONDS)

    def refused(self, kind: Kind, value: bytes, line: bytes, message: str) -> Event:
        """The dead letter of a record that Kafka does not take; it counts as that."""
        self.count(kind.value, -1)
        self.count(Kind.DLQ.value)
        assert self._normalise is not None
        return self._normalise.letter(Decoder(kind)(value), line, "too_large", message)

    def snapshot(self) -> Checkpoint:
        """The place behind the lines read so far, to be saved once they are acknowledged."""
        reader = self._reader
        self._newest = Checkpoint(
            reader.segment,
            reader.offset,
            reader.line,
            self.place.run_id,
            self.context.to_json(),
            dict(self._counts),
        )
        return self._newest

    def offer(self, record: dict[str, Any], picture: Picture) -> tuple[dict[str, Any], Picture] | None:
        """A picture of the lines read since the last snapshot; one that is to be sent now, if any."""
        return self.thinner.offer(record, picture, self._newest)

    def acknowledge(self, place: Checkpoint) -> None:
        """Kafka has all lines before this place.

        Kept is the one before the pictures that still wait for their turn: a restart makes them again.
        One that the disk does not take goes there with a later one: until then a restart repeats more.
        """
        now = time.monotonic()
        sync = now - self._synced_at >= SYNC_SECONDS
        self.place = place
        before, self._kept = self._kept, self.thinner.before() or place
        try:
            self._kept.save(self.folder, sync=sync)
            self._synced_at = now if sync else self._synced_at
            if self._kept.segment != before.segment:
                self._tidy(self._kept.segment)
        except OSError as error:
            self.trouble(error)

    def release(self) -> None:
        """Let somebody else ship it."""
        self._reader.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _tidy(self, current: int) -> None:
        oldest = time.time() - self._settings.spool_retention_hours * 3600
        for first in segments(self.folder):
            path = segment_path(self.folder, first)
            if first < current and path.stat().st_mtime <= oldest:
                path.unlink(missing_ok=True)
                segment_path(self.folder, first, "times").unlink(missing_ok=True)

    def _begin(self, *, final: bool) -> Normaliser | None:
        """The normaliser, once it is decided which run the lines before a named one belong to."""
        about = self.about
        if self.place.run_id is None:
            run_id = self._run_of_unnamed(final)
            if run_id is None:
                return None
            replace(self.place, run_id=run_id).save(self.folder, sync=True)
            self.place.run_id = run_id
        identity = Identity(about.stream_id, self.place.run_id, about.agent_id, sdk=about.sdk)
        self._normalise = Normaliser(identity, Context.from_json(self.place.context))
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
        """A meta stream's lines are of the run that its worker's stream begins with."""
        parent = self._parent()
        if parent is not None:
            return parent.place.run_id
        folder = self.folder.with_name(self.stream_id.removesuffix(META_SUFFIX))
        if not folder.exists():
            return self.about.generated_run_id
        return Checkpoint.load(folder).run_id

    def _encoded(self, normalise: Normaliser, chunk: Chunk, coder: Coder) -> Iterator[Encoded]:
        counts, seq, shortcut = self._counts, chunk.first, normalise.shortcut
        assert shortcut is not None
        if isinstance(chunk.lines, Long):
            long, (_, arrived) = chunk.lines, chunk.times[0]
            limit = self._settings.max_line_bytes
            event = normalise.too_long(long.head, long.length, limit, seq, arrived)
            self.count(event.kind.value)
            yield coder(event, long.head)
            return
        for line, arrived in chunk.with_arrivals():
            try:
                value = shortcut(line, seq, arrived)
                if value is None:
                    records = _records(coder, normalise(line, seq, arrived), line)
            except Exception as error:  # whatever a line holds, it costs that line
                value, records = None, [coder(normalise.failed(line, error, seq, arrived), line)]
            if value is not None:
                counts["steps"] = counts.get("steps", 0) + 1
                yield Kind.STEPS, shortcut.key, value, line, None
            else:
                for record in records:
                    kind = record[0].value
                    counts[kind] = counts.get(kind, 0) + 1
                    yield record
            seq += 1


class Coder:
    """Encodes records of every kind, with the ids that a registry gave.

    Args:
        ids: schema id of each kind.
    """

    def __init__(self, ids: dict[Kind, int]) -> None:
        self._encoders = {kind: Encoder(kind, number) for kind, number in ids.items()}
        self.steps_header = HEADER.pack(MAGIC, ids[Kind.STEPS])

    def __call__(self, event: Event, line: bytes) -> Encoded:
        """An event as it is sent."""
        kind, record = event.kind, event.record
        return kind, record["run_id"].encode(), self._encoders[kind](record), line, event


def _records(coder: Coder, event: Event, line: bytes) -> list[Encoded]:
    """The record of a line, and those that it holds beside it."""
    return [coder(event, line), *(coder(Event(kind, record), line) for kind, record in event.beside)]


def discard_old(settings: Settings) -> list[str]:
    """Delete streams that are complete and shipped, once their retention is over; which they were."""
    oldest = time.time() - settings.spool_retention_hours * 3600
    gone = []
    for done in settings.spool_dir.glob("*/done"):
        if done.stat().st_mtime > oldest:
            continue
        source = Stream.claim(settings, done.parent)
        if source is None:
            continue
        if source.unshipped() == 0:
            # The lines first: whoever is interrupted here leaves a stream that is shipped, not one to ship.
            for first in segments(source.folder):
                segment_path(source.folder, first).unlink(missing_ok=True)
            shutil.rmtree(source.folder, ignore_errors=True)
            gone.append(source.stream_id)
        source.release()
    return gone


def life_ahead(settings: Settings, stream_id: str) -> dict[str, str]:
    """What the lines of a stream that are not shipped yet say about the life cycle of runs."""
    folder = settings.spool_dir / stream_id
    about, place = About.read(folder), Checkpoint.load(folder)
    if about is None:
        return {}
    context = Context.from_json(place.context)
    run_id = place.run_id or about.run_id or about.generated_run_id
    normalise = Normaliser(Identity(stream_id, run_id, about.agent_id, sdk=about.sdk), context)
    reader = SpoolReader(folder, about, place, settings.max_line_bytes, HEAD_BYTES)
    while (chunk := reader.read(settings.window_lines, final=True)) is not None:
        for line in chunk.lines if isinstance(chunk.lines, list) else []:
            if _LIFE.search(line):
                normalise(line, 0, 0)
    reader.close()
    return context.runs


_LIFE = re.compile(rb"run_(?:started|completed|failed|cancelled)", re.I)
