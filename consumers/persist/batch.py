"""Stores one batch in one transaction: the fast method first, then more careful ones. Always atomic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec import structs

from infra.sql.engine import BadDataError, ConflictError
from infra.sql.rollouts import Touched
from infra.sql.writers import Row, Transaction
from infra.sql.writers.check import Check
from schemas.errors import SchemaError
from schemas.fold import Fold, Record, columns
from schemas.rollouts import GroupKey
from schemas.seek_points import SeekPoints
from schemas.topics import LINES, Kind
from schemas.values import LATEST_US

Decode = Callable[[Any], Record]

CAREFUL_BATCHES = 10
"""After a conflict this many batches are stored carefully: a repeated window is a few batches long."""


class Message(Protocol):
    """A record as Kafka's client gives it."""

    def topic(self) -> str: ...  # noqa: D102
    def partition(self) -> int: ...  # noqa: D102
    def offset(self) -> int: ...  # noqa: D102
    def key(self) -> bytes | None: ...  # noqa: D102
    def value(self) -> Any: ...  # noqa: D102
    def timestamp(self) -> tuple[int, int]: ...  # noqa: D102


@dataclass(frozen=True)
class Refused:
    """A record that cannot be stored, and why. `record` is None where its bytes cannot be read."""

    kind: Kind
    message: Any
    record: Record | None
    error: Exception


@dataclass
class Outcome:
    """What became of a batch's records."""

    fold: Fold = field(default_factory=Fold)
    seek: SeekPoints = field(default_factory=SeekPoints)
    stored: int = 0
    repeated: int = 0
    of_deleted_runs: int = 0
    refused: list[Refused] = field(default_factory=list)
    contradicted: int = 0
    rollouts: list[Touched] = field(default_factory=list)
    """The groups of the rollouts among them, possibly some more."""

    def add(self, other: Outcome) -> None:
        """Add another outcome."""
        self.fold.merge(other.fold)
        self.seek.merge(other.seek)
        self.stored += other.stored
        self.repeated += other.repeated
        self.of_deleted_runs += other.of_deleted_runs
        self.refused += other.refused
        self.contradicted += other.contradicted
        self.rollouts += other.rollouts


class Storer:
    """Stores the records of one kind. Remembers whether the last batches had conflicts."""

    def __init__(self, kind: Kind, decode: Decode) -> None:
        self.kind = kind
        self._table = kind.table
        self._decode = decode
        self._check = Check(kind.table)
        self._row_of = _ROWS.get(kind, _row)
        self._careful = 0

    def store(self, tx: Transaction, messages: Sequence[Message], deleted: Mapping[str, int]) -> Outcome:
        """Insert the records that are new, without those that cannot be read or are refused."""
        careful, self._careful = self._careful > 0, max(self._careful - 1, 0)
        quick = None if careful else self._store_quickly(tx, messages, deleted)
        return quick or self._store_carefully(tx, messages, deleted)

    def _store_quickly(
        self, tx: Transaction, messages: Sequence[Message], deleted: Mapping[str, int]
    ) -> Outcome | None:
        """Insert all of them; None: a row exists already or is refused."""
        outcome = Outcome()
        try:
            outcome.stored = tx.insert(self._table, self._decoded(messages, deleted, outcome))
        except ConflictError:
            self._careful = CAREFUL_BATCHES
        except BadDataError:
            pass
        else:
            return outcome
        return None

    def _store_carefully(
        self, tx: Transaction, messages: Sequence[Message], deleted: Mapping[str, int]
    ) -> Outcome:
        outcome = Outcome()
        records: list[tuple[Record, int, Any]] = []
        rows = list(self._decoded(messages, deleted, outcome, keep=records))
        # The folds hold all records: count only the new ones.
        outcome.fold, outcome.seek = Fold(), SeekPoints()
        self._insert_new(tx, rows, records, outcome)
        return outcome

    def _decoded(
        self,
        messages: Sequence[Message],
        deleted: Mapping[str, int],
        outcome: Outcome,
        keep: list[tuple[Record, int, Any]] | None = None,
    ) -> Iterator[Row]:
        """Rows, made while the database reads them; records that cannot be rows are put aside."""
        kind, decode, check, row_of = self.kind, self._decode, self._check, self._row_of
        add, index, is_line = outcome.fold.add, outcome.seek.add, kind in LINES
        for message in messages:
            record = None
            try:
                record = decode(message.value() or b"")
                row = row_of(record, message)
                check(row)
            except (SchemaError, BadDataError) as error:
                outcome.refused.append(Refused(kind, message, record, error))
                continue
            at = message.timestamp()[1] * 1000
            at = at if 0 <= at <= LATEST_US else 0
            if deleted and at <= deleted.get(record["run_id"], -1):
                outcome.of_deleted_runs += 1  # a newer record belongs to the run started again
                continue
            if kind is Kind.ROLLOUTS:
                outcome.rollouts.append(_touched(record))
            add(kind, record, at)
            if is_line:
                index(kind, row)
            if keep is not None:
                keep.append((record, at, message))
            yield row

    def _insert_new(
        self, tx: Transaction, rows: list[Row], records: list[tuple[Record, int, Any]], outcome: Outcome
    ) -> None:
        """Insert the new ones of these; a row that the database refuses is found and goes to `refused`."""
        if not rows:
            return
        try:
            inserted = tx.insert_new(self._table, rows)
        except BadDataError as error:
            if len(rows) == 1:
                record, _, message = records[0]
                outcome.refused.append(Refused(self.kind, message, record, error))
                return
            for part in _around(error.row, len(rows)):
                self._insert_new(tx, rows[part], records[part], outcome)
            return
        new = set(inserted.new)
        for (record, at, _), row in zip(records, rows, strict=True):
            key = (record["run_id"], record["stream_id"], record["seq"])
            if key in new:
                new.discard(key)  # a batch may hold the same key twice
                outcome.fold.add(self.kind, record, at)
                if self.kind in LINES:
                    outcome.seek.add(self.kind, row)
                outcome.stored += 1
            else:
                outcome.repeated += 1
                if self.kind is Kind.DLQ and tx.wait_again(key, at):
                    outcome.fold.add(self.kind, record, at)  # its redrive had taken it off the count
        outcome.contradicted += len(inserted.contradicted)


def store_rollups(tx: Transaction, done: Outcome) -> None:
    """Agents, runs, seek points, each in the order of their keys: two processes never wait for each other."""
    fold, points = done.fold, done.seek.points
    tx.upsert("agents", [columns(fold.agents[key]) for key in sorted(fold.agents)])
    runs = [columns(fold.runs[run_id]) for run_id in sorted(fold.runs)]
    tx.upsert("runs", [{**run, "last_seen_at": run["last_seen_at"] or None} for run in runs])
    tx.upsert("seek_points", [structs.asdict(points[key]) for key in sorted(points)])


def _touched(record: Record) -> Touched:
    group = GroupKey(record["split"], record["training_step"], record["group_id"])
    return Touched(record["run_id"], group, record["sample_key"], record["scope"])


def _around(row: int | None, count: int) -> list[slice]:
    """Parts to insert separately: before, at and behind the bad row; halves where it is unknown."""
    if row is None or not 0 <= row < count:
        return [slice(0, count // 2), slice(count // 2, count)]
    return [
        part for part in (slice(0, row), slice(row, row + 1), slice(row + 1, count)) if part.start < part.stop
    ]


def _row(record: Record, message: Any) -> Row:
    return [*record.values(), message.partition(), message.offset()]


_LETTER_COLUMNS = ("run_id", "stream_id", "seq", "agent_id", "worker_id", "event_time",
                   "reason", "field", "message", "raw", "producer_version", "topic")  # fmt: skip


def _letter_row(record: Record, message: Any) -> Row:
    """A consumer's letter keeps the partition and offset of the refused record; a worker's has its own."""
    row = [record[name] for name in _LETTER_COLUMNS]
    if record["topic"] is None:
        return [*row, message.partition(), message.offset()]
    return [*row, record["topic_partition"], record["topic_offset"]]


_POINTER_COLUMNS = ("run_id", "stream_id", "seq", "agent_id", "worker_id", "event_time",
                    "episode_index", "step_index", "media_type")  # fmt: skip


def _pointer_row(record: Record, message: Any) -> Row:
    """A picture's row has only its place on Kafka."""
    return [*(record[name] for name in _POINTER_COLUMNS), message.partition(), message.offset()]


_ROWS = {Kind.DLQ: _letter_row, Kind.FRAMES: _pointer_row}
"""Kinds whose rows differ from their records."""
