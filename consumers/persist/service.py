"""Kafka to SQL, every record exactly once, whatever is killed.

The guarantee, in steps:

1. The next offset of each partition is stored in the database (`consumer_offsets`), beside the rows. On
   assignment, `persist` reads it and seeks there. Another topic id, or an offset above the log's end, means
   that the topic was deleted and created again: start at its beginning. An offset below the log's beginning
   is a gap: the message names the missing offsets, and only `on_gap=continue` skips them.
2. A batch is one transaction. It locks the offset rows of its partitions, in a fixed order, and compares them
   with the offsets at which the batch was read. A difference means that another process has written (this one
   was suspended, or the database was restored): those records are dropped and the partition is read again
   from the stored offset.
3. Rows are inserted while they are decoded; then the rollups of agents and runs; then the next offsets; then
   the commit. All of it, or nothing.
4. The primary key (run_id, stream_id, seq) alone says what is stored. Where a row exists already, the same
   records are inserted with ON CONFLICT DO NOTHING, and only the new ones count.
5. Bad data costs its own record. The record goes to the dlq topic and is acknowledged there before the
   commit. Its dead letter keeps the record's identity, so one that is sent twice is stored once.
6. An outage costs time. The batch and the group membership are kept, the partitions are paused, and the same
   batch is retried with jitter, without end. An unknown error stops the service; its transaction is rolled
   back, so nothing is lost.
7. When a partition is revoked, between batches or in an outage, its unwritten records are dropped. On SIGTERM
   the batch in progress is finished. What was not written is read again.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import structlog

from consumers.persist.batch import Decode, Outcome, Storer, store_rollups
from consumers.persist.dead_letters import DeadLetterWriter
from consumers.persist.sweep import (
    SWEEP_EVERY_S,
    Retention,
    SilenceWatch,
    index_old_runs,
)
from infra import metrics
from infra.backoff import pauses
from infra.kafka.dlq_producer import DlqProducer
from infra.kafka.group_consumer import GroupConsumer, Slice
from infra.metrics import Health
from infra.settings import Settings
from infra.sql import migrations
from infra.sql.engine import OutageError, named, reading
from infra.sql.offsets import stored_offsets
from infra.sql.rollouts import settle
from infra.sql.runs import lose_silent_runs
from infra.sql.writers import Position, Writer
from schemas.errors import BrokerError, DatabaseError, RegistryError, StepstreamError
from schemas.rights import RIGHTS
from schemas.topics import Kind, Partition, Watermarks

POLL_S = 0.1
"""How long a batch waits for records, in seconds: small transactions cost more than this delay."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
REPORT_EVERY_S = 10.0
LAG_EVERY_S = 1.0
TOPICS_EVERY_S = 15.0

log = structlog.get_logger(service="persist")

OUTAGES = (OutageError, BrokerError, RegistryError)


class GapError(StepstreamError):
    """Kafka no longer holds records that the database does not have."""


@dataclass(frozen=True)
class Resume:
    """The offset at which a partition continues, and why it is not the stored one."""

    offset: int
    remade: bool = False
    gap: tuple[int, int] | None = None
    """Missing offsets: from the first, up to but without the second."""


def resume_at(place: Position | None, topic_id: str | None, marks: Watermarks) -> Resume:
    """The offset at which a partition continues: step 1 of the guarantee."""
    if place is None:
        return Resume(marks.low)
    known = place.topic_id is not None and topic_id is not None
    if (known and place.topic_id != topic_id) or place.next_offset > marks.high:
        return Resume(marks.low, remade=True)
    if place.next_offset < marks.low:
        return Resume(marks.low, gap=(place.next_offset, marks.low))
    return Resume(place.next_offset)


class Persist:
    """The service. `run` returns when `stop` is set.

    Args:
        settings: addresses and limits.
        writer: the database.
        decode: how the values of a kind are read.
        letters: how dead letters are written.
    """

    def __init__(
        self,
        settings: Settings,
        writer: Writer,
        decode: Callable[[Kind], Decode],
        letters: Callable[[], DeadLetterWriter],
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._kinds = {kind.topic(settings.topic_prefix): kind for kind in Kind}
        self._runs_topic = Kind.RUNS.topic(settings.topic_prefix)
        self._storers = {kind: Storer(kind, decode(kind)) for kind in Kind}
        self._letters = cache(letters)
        self._letterbox = DlqProducer(settings)
        self._consumer = self._subscribed()
        self._topic_ids: dict[str, str] = {}
        self._report = Report()
        self.waits = metrics.NOT_YET
        """What the database, or the registry, is waited for; empty: nothing."""
        self.health = Health(
            "persist", {"kafka": lambda: self._consumer.watch.reason, "sql": lambda: self.waits}
        )
        self._silence = SilenceWatch(settings.lost_seconds)
        self._topics_due, self._sweep_due = Due(TOPICS_EVERY_S), Due(SWEEP_EVERY_S)
        self._lag_due = Due(LAG_EVERY_S)

    def run(self, stop: threading.Event) -> None:
        """Store batches until `stop` is set. Waits while the database is away, also at the start.

        Raises:
            RevisionError: the tables are of another version.
            GapError: records are missing from Kafka, and `on_gap` is `stop`.
            StepstreamError, Exception: an error that only a person can correct; nothing is lost.
        """
        try:
            self._retried(partial(migrations.check, self._writer.engine), stop)
            Retention(self._writer.engine, self._settings.retention_days).start(stop)
            index_old_runs(self._writer.engine, stop)
            while not stop.is_set():
                self.turn(stop)
        finally:
            self.close()

    def turn(self, stop: threading.Event) -> int:
        """Seek in new partitions, store one batch, do what is due; returns the number of new rows."""
        self.health.beat()
        self._retried(self._place, stop)
        slices = self._consumer.poll(self._settings.batch_records, POLL_S)
        stored: int = self._retried(partial(self._store, slices), stop) or 0 if slices else 0
        self._look_after()
        return stored

    def close(self) -> None:
        """Leave the group, and the database."""
        self._consumer.close()
        self._writer.close()

    def _retried(self, act: Callable[[], Any], stop: threading.Event) -> Any:
        """Call `act`; retry with back-off while a server is away. None: `stop` was set first."""
        for pause in pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S):
            if stop.is_set():
                break
            self.health.beat()
            try:
                done = act()
                self.waits = ""
                return done
            except OUTAGES as error:
                self.waits = named(error, self._writer.engine, RIGHTS["persist"])
                log.warning("waiting", reason=self.waits, again_in_s=round(pause, 1))
                self._consumer.wait(pause, stop)
        return None

    def _store(self, slices: Sequence[Slice]) -> int:
        """One batch in one transaction: steps 2 to 5. Returns how many rows are new."""
        positions = self._consumer.positions
        batch = {item.partition: item for item in slices if positions.get(item.partition) == item.first}
        if not batch:
            return 0
        done, began = Outcome(), time.monotonic()
        with self._writer.transaction() as tx:
            stored = tx.places(list(batch))
            mine = {
                partition: item
                for partition, item in batch.items()
                if partition in stored and stored[partition].next_offset == item.first
            }
            deleted = tx.deleted_runs()
            for kind, messages in self._by_kind(mine.values()):
                stored_now = self._storers[kind].store(tx, messages, deleted)
                for refused in stored_now.refused:  # acknowledged while the rest is stored
                    self._letterbox.post(self._letters()(refused))
                done.add(stored_now)
            settle(tx.connection, done.rollouts)
            store_rollups(tx, done)
            next_offsets = {partition: item.next_offset for partition, item in mine.items()}
            tx.advance(next_offsets)
            self._letterbox.wait()
        self._consumer.advance(next_offsets)
        if moved := batch.keys() - mine.keys():
            log.warning(
                "another process has written; reading again from the stored offset", partitions=_names(moved)
            )
            self._consumer.unplace(moved)
        self._report.add(done)
        runs = [item.messages for item in mine.values() if item.partition.topic == self._runs_topic]
        metrics.heartbeats("persist", (each.timestamp()[1] for messages in runs for each in messages))
        _measure(done, time.monotonic() - began)
        return done.stored

    def _by_kind(self, slices: Any) -> list[tuple[Kind, list[Any]]]:
        found: dict[Kind, list[Any]] = {}
        for item in slices:
            found.setdefault(self._kinds[item.partition.topic], []).extend(item.messages)
        return list(found.items())

    def _place(self) -> None:
        """Seek in partitions that are new to this process: step 1."""
        if not self._consumer.unplaced:
            return
        present = self._find_remade_topics()  # the other partitions of such a topic may seem to be in place
        unplaced = sorted(item for item in self._consumer.unplaced if item.topic in present)
        if not unplaced:
            return
        watermarks = self._consumer.watermarks(unplaced)
        for partition, resume in self._settled(watermarks).items():
            if partition in self._consumer.unplaced:
                self._consumer.place(partition, resume.offset)

    def _settled(self, watermarks: dict[Partition, Watermarks]) -> dict[Partition, Resume]:
        """The offset at which each continues, read and written in one transaction."""
        with self._writer.transaction() as tx:
            places = tx.places(list(watermarks))
            resumes = {
                partition: resume_at(places.get(partition), self._topic_ids[partition.topic], marks)
                for partition, marks in watermarks.items()
            }
            self._judge(resumes)
            for partition, resume in resumes.items():
                place = Position(resume.offset, self._topic_ids[partition.topic])
                if places.get(partition) != place:
                    tx.set_place(partition, place)
        return resumes

    def _judge(self, resumes: dict[Partition, Resume]) -> None:
        """Log recreated topics and missing offsets.

        Raises:
            GapError: offsets are missing, and `on_gap` is `stop`.
        """
        if remade := [partition for partition, resume in resumes.items() if resume.remade]:
            log.warning("topic was created again: reading from its beginning", partitions=_names(remade))
        gaps = {
            partition: resume.gap
            for partition, resume in resumes.items()
            if resume.gap and self._kinds[partition.topic] is not Kind.FRAMES  # SQL only points at them
        }
        if not gaps:
            return
        told = ", ".join(
            f"{partition.topic}-{partition.number} offsets {start} to {end - 1}"
            for partition, (start, end) in sorted(gaps.items())
        )
        if self._settings.on_gap == "stop":
            raise GapError(
                f"Kafka no longer holds what the database lacks: {told}. Those records are lost; to go on "
                "without them, start once with STEPSTREAM_ON_GAP=continue."
            )
        log.warning("records are gone from Kafka, and were never stored", lost=told)

    def _look_after(self) -> None:
        """Do what is due between batches; a server that does not answer is tried again next time."""
        if self._report.due():
            log.info("stored", **self._report.take())
        if self._lag_due():
            self._consumer.report_lag()
        try:
            if self._topics_due():
                self._find_remade_topics()
            if self._sweep_due() and Partition(self._runs_topic, 0) in self._consumer.positions:
                self._find_silent_runs()
        except (BrokerError, DatabaseError) as error:
            log.debug("not now", reason=str(error))

    def _find_remade_topics(self) -> dict[str, str]:
        """Join anew where a topic's id has changed: it was deleted and created again, and Kafka's client may
        hold on to the one that is gone.

        Returns:
            The id of each topic that exists.
        """
        now = self._consumer.topic_ids()
        changed = {topic for topic, known in self._topic_ids.items() if now.get(topic, known) != known}
        self._topic_ids |= now
        if changed:
            log.warning("topic was created again: joining the group anew", topics=sorted(changed))
            self._consumer.close()
            self._consumer = self._subscribed()
        return now

    def _subscribed(self) -> GroupConsumer:
        return GroupConsumer(self._settings, "persist", list(self._kinds))

    def _find_silent_runs(self) -> None:
        """Mark silent runs as lost. The process with partition 0 of the runs topic does it for the group."""
        engine = self._writer.engine
        with reading(engine) as connection:
            stored = stored_offsets(connection, self._kinds)
        if (since := self._silence.silent_since(stored)) and (lost := lose_silent_runs(engine, since)):
            log.warning("lost: silent for too long", runs=lost)
        now = datetime.now(UTC)
        self._silence.look(now, {place: end.high for place, end in self._consumer.watermarks(stored).items()})


def _measure(done: Outcome, seconds: float) -> None:
    """What became of a batch, for Prometheus."""
    counts = {
        "stored": done.stored,
        "repeated": done.repeated,
        "of_deleted_run": done.of_deleted_runs,
        "refused": len(done.refused),
    }
    for outcome, count in counts.items():
        metrics.RECORDS.labels("persist", outcome).inc(count)
    for refused in done.refused:
        reason = "unreadable" if refused.record is None else "refused"
        metrics.DEAD_LETTERS.labels("persist", reason).inc()
    metrics.BATCH_SECONDS.labels("persist").observe(seconds)
    metrics.BATCH_RECORDS.labels("persist").observe(sum(counts.values()))


class Due:
    """True once every `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._since = seconds, time.monotonic()

    def __call__(self) -> bool:
        """Whether it is due; if so, the time starts again."""
        due = time.monotonic() - self._since >= self._seconds
        if due:
            self._since = time.monotonic()
        return due


class Report:
    """Counts since the last log line."""

    def __init__(self) -> None:
        self._due = Due(REPORT_EVERY_S)
        self._counts: Counter[str] = Counter()

    def add(self, done: Outcome) -> None:
        """Add a batch."""
        self._counts += Counter(
            stored=done.stored,
            repeated=done.repeated,
            refused=len(done.refused),
            of_deleted_runs=done.of_deleted_runs,
            contradicted=done.contradicted,
        )

    def due(self) -> bool:
        """Whether there are counts, and a line is due."""
        return bool(self._counts) and self._due()

    def take(self) -> dict[str, int]:
        """The counts that are not 0; they start again from 0."""
        counts, self._counts = dict(self._counts), Counter()
        return counts


def _names(partitions: Any) -> str:
    return ", ".join(f"{partition.topic}-{partition.number}" for partition in sorted(partitions))
