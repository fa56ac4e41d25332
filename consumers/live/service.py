"""The live path: Kafka's newest records into Redis, for the dashboard.

The guarantee, in steps:

1. The live processes of a group share the partitions. The script that writes records to Redis also writes the
   next offset of their partition, so a restart neither skips nor doubles a step.
2. Without a position, or with one that Kafka no longer holds, it begins a little before the end, so that
   pages have content at once.
3. If it lags by more than `live_max_lag_seconds`, it jumps to that place, and counts the skipped records:
   a live page must not show a backlog.
4. The script writes only if the buffer id and the positions are those that the process knows. If Redis was
   flushed, or another process has written, the state is dropped and it begins again at 2.
5. While Redis is away, it waits, and then begins again at 1.

It serves the page only: `persist` writes every record to SQL, independently of this service.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import msgspec
import structlog

from consumers.live.state import LiveState
from infra import metrics
from infra.kafka.tail_consumer import Message, Tail
from infra.metrics import Health
from infra.redis.client import sentence
from infra.redis.live_store import AWAY, Command, LiveStore
from infra.settings import Settings
from schemas.codec import Decoder
from schemas.errors import BrokerError, SchemaError
from schemas.live import LiveProcess
from schemas.topics import Kind, Partition, Watermarks

TAIL = {
    Kind.STEPS: 20_000,
    Kind.EPISODES: 10_000,
    Kind.METRICS: 5_000,
    Kind.RUNS: 20_000,
    Kind.LOGS: 2_000,
    Kind.FRAMES: 200,
    Kind.DLQ: 500,
}
"""Kind → records at a partition's end with which it begins."""

RECORDS = 2_000
"""Records of one poll, at most."""
BETWEEN_WRITES_S = 0.003
"""Seconds between two writes to Redis: records in between are packed together."""
IDLE_S = 0.25
LOOK_S = 1.0
"""How often an idle process checks whether Redis was flushed."""
AWAY_S = 0.5
SAY_EVERY_S = 10.0
SERVICE_KEPT_S = 60 * 60

log = structlog.get_logger(service="live")


class Restart(Exception):  # noqa: N818 - no error: what was known no longer holds
    """Redis was flushed, or another process has written: drop the state."""


class Live:
    """The service.

    Args:
        settings: addresses, buffer sizes, the lag that is too much.
        store: the connection to Redis.
        tail: the partitions.
        decode: a decoder of each kind.
    """

    def __init__(
        self, settings: Settings, store: LiveStore, tail: Tail, decode: Callable[[Kind], Decoder]
    ) -> None:
        self._settings = settings
        self._store = store
        self._tail = tail
        self._kinds = {kind.topic(settings.topic_prefix): kind for kind in TAIL}
        self._decoders = {kind: decode(kind) for kind in TAIL}
        self._id = os.urandom(4).hex()
        self._skipped = 0
        self._lags_at, self._lags = 0.0, dict[int, int]()
        self._looked_at = self._wrote_at = self._served_at = self._deleted_at = 0.0
        self._said_at = -SAY_EVERY_S
        self._stored: dict[Partition, int] = {}
        self._state = self._empty()
        self._away = metrics.NOT_YET
        self.health = Health("live", {"kafka": lambda: tail.watch.reason, "redis": lambda: self._away})

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set."""
        while not stop.is_set():
            self.health.beat()
            try:
                self._once()
                self._away = ""
            except Restart as reason:
                log.warning("begins anew", reason=str(reason))
                self._drop()
            except AWAY as error:
                self._away = sentence(error, self._settings)
                self._say("waits for Redis", self._away)
                self._drop()
                stop.wait(AWAY_S)
            except BrokerError as error:
                if not self._tail.unplaced:
                    raise
                self._say("Kafka does not answer: waits", str(error))
                stop.wait(AWAY_S)
        self._tail.close()

    def _say(self, what: str, reason: str) -> None:
        if time.monotonic() - self._said_at > SAY_EVERY_S:
            self._said_at = time.monotonic()
            log.warning(what, reason=reason)

    def _once(self) -> None:
        gather = max(0.0, self._wrote_at + BETWEEN_WRITES_S - time.monotonic())
        messages = self._tail.poll(RECORDS, IDLE_S, gather)
        if self._tail.lost_any:  # other processes write those partitions now
            self._tail.lost_any = False
            self._forget()
        if self._tail.unplaced:
            self._place(sorted(self._tail.unplaced))
        if time.monotonic() - self._deleted_at > LOOK_S:
            self._forget_deleted()
        self._take(self._behind(messages))
        if messages or self._state.dirty:
            self._write()
            runs = Kind.RUNS.topic(self._settings.topic_prefix)
            metrics.heartbeats("live", (each.timestamp()[1] for each in messages if each.topic() == runs))
        elif time.monotonic() - self._looked_at > LOOK_S:
            self._look()

    def _empty(self) -> LiveState:
        megabytes = self._settings.live_buffer_mb
        return LiveState(self._store.keys, self._settings.live_buffer_steps, megabytes * 1024 * 1024)

    def _forget(self) -> None:
        self._state = self._empty()
        self._stored = {p: at for p, at in self._stored.items() if p in self._tail.positions}

    def _drop(self) -> None:
        self._state, self._stored = self._empty(), {}
        self._tail.unplace()

    def _place(self, wanted: list[Partition]) -> None:
        """Set the position of partitions: the one in Redis, else a little before the end."""
        held = self._store.begin()
        watermarks = self._tail.watermarks(wanted)
        starts = {
            partition: start(held.get(name_of(partition)), watermarks[partition], self._tail_of(partition))
            for partition in wanted
        }
        self._store.place({name_of(partition): offset for partition, offset in starts.items()})
        self._tail.place(starts)
        self._stored |= starts
        waiting = sum(watermarks[partition].high - at for partition, at in starts.items())
        log.info("reads", partitions=len(starts), records_behind=waiting)

    def _tail_of(self, partition: Partition) -> int:
        return TAIL[self._kinds[partition.topic]]

    def _behind(self, messages: list[Message]) -> list[Message]:
        """Jump ahead in partitions that lag too far; returns the other partitions' messages."""
        oldest: dict[Partition, Message] = {}
        for message in messages:
            oldest.setdefault(partition_of(message), message)
        limit = time.time() - self._settings.live_max_lag_seconds
        jumps = {}
        for partition, message in oldest.items():
            if message.timestamp()[1] / 1000 >= limit:
                continue
            far = self._tail.lag(partition) - self._tail_of(partition)
            if far > 0:
                jumps[partition] = self._tail.positions[partition] + far
        if not jumps:
            return messages
        skipped = sum(offset - (oldest[partition].offset() or 0) for partition, offset in jumps.items())
        self._skipped += skipped
        metrics.SKIPPED.inc(skipped)
        self._tail.place(jumps)
        log.warning("too far behind: jumps to the newest", skipped=skipped)
        return [message for message in messages if partition_of(message) not in jumps]

    def _take(self, messages: list[Message]) -> None:
        unreadable = 0
        for message in messages:
            kind = self._kinds[message.topic() or ""]
            value = message.value() or b""
            try:
                record = self._decoders[kind](value)
                self._state.add(kind, record, message.timestamp()[1], len(value), message.partition() or 0)
            except SchemaError:
                unreadable += 1  # persist makes a dead letter of it
            except Exception:  # one bad record must not hold up the others
                log.exception("a record cannot be shown", topic=message.topic(), offset=message.offset())
        metrics.RECORDS.labels("live", "shown").inc(len(messages) - unreadable)
        if unreadable:
            metrics.RECORDS.labels("live", "unreadable").inc(unreadable)
            log.warning("records that cannot be read", count=unreadable)

    def _write(self) -> None:
        self._restore()
        now = time.monotonic()
        lags = self._lag(now)
        commands = self._state.commands(now, time.time_ns() // 1000, lags)
        if now - self._served_at > IDLE_S:
            commands += self._service_row(now, sum(lags.values()))
        moved = {
            partition: at
            for partition, at in self._tail.positions.items()
            if at != self._stored.get(partition)
        }
        before = {name_of(partition): self._stored[partition] for partition in moved}
        after = {name_of(partition): at for partition, at in moved.items()}
        if not self._store.write(before, after, commands):
            raise Restart("Redis was flushed, or another process has these partitions")
        metrics.BATCH_SECONDS.labels("live").observe(time.monotonic() - now)
        self._stored |= moved
        self._wrote_at = self._looked_at = now

    def _restore(self) -> None:
        """Restore from Redis the runs and agents that are new to this process."""
        state = self._state
        for run_id, held in self._store.runs(list(state.unknown_runs)).items():
            state.restore_run(run_id, held)
        for key, held_of_agent in self._store.agents(list(state.unknown_agents)).items():
            state.restore_agent(key, held_of_agent)

    def _lag(self, now: float) -> dict[int, int]:
        """Partition of the steps topic → records that wait on Kafka."""
        if now - self._lags_at > IDLE_S:
            steps = Kind.STEPS.topic(self._settings.topic_prefix)
            mine = [partition for partition in self._tail.positions if partition.topic == steps]
            self._lags_at, self._lags = now, {p.number: self._tail.lag(p) for p in mine}
            metrics.LAG_RECORDS.labels("live", steps).set(sum(self._lags.values()))
        return self._lags

    def _service_row(self, now: float, lag: int) -> list[Command]:
        self._served_at = now
        skipped, self._skipped = self._skipped, 0
        at, key = time.time_ns() // 1_000_000, self._store.keys.service
        mine = msgspec.json.encode(LiveProcess(at, lag, round(self._state.rate.take(now), 1)))
        return [
            ("HSET", key, f"process:{self._id}", mine),
            ("HINCRBY", key, "skipped", skipped),
            ("EXPIRE", key, SERVICE_KEPT_S),
        ]

    def _forget_deleted(self) -> None:
        self._deleted_at = time.monotonic()
        for run_id in self._store.deleted():
            self._state.forget(run_id)
            log.info("forgets a deleted run", run=run_id)

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        if self._stored and not self._store.known():
            raise Restart("Redis was flushed")


def start(held: int | None, marks: Watermarks, tail: int) -> int:
    """The offset to start at: the stored position if Kafka still has it, else a little before the end."""
    if held is not None and marks.low <= held <= marks.high:
        return held
    return max(marks.low, marks.high - tail)


def name_of(partition: Partition) -> str:
    """A partition's field among the positions."""
    return f"{partition.topic}:{partition.number}"


def partition_of(message: Message) -> Partition:
    """The partition of a message."""
    return Partition(message.topic() or "", message.partition() or 0)
