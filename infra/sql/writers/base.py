"""What every writer does: write rows, rollups and next offsets in one transaction.

A row is a list in the order of its table's columns (`COLUMNS`), its event_time in µs since 1970, UTC.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, bindparam, func, select, text, tuple_, update

from infra.sql import engine as sql
from schemas.tables import EVENT_TABLES, ConsumerOffset, DeadLetter, DeletedRun
from schemas.topics import Partition

Row = list[Any]
Key = tuple[str, str, int]
"""run_id, stream_id, seq."""

COLUMNS = {
    name: tuple(column.name for column in table.columns if column.name != "redriven_at")
    for name, table in EVENT_TABLES.items()
}
TIME_COLUMN = 5
"""Index of event_time in every table."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Position(NamedTuple):
    """The next offset of a partition, and Kafka's id of the topic."""

    next_offset: int
    topic_id: str | None


class Inserted(NamedTuple):
    """What `insert_new` did."""

    new: set[Key]
    contradicted: set[Key]
    """Rows that exist with another event_time: two workers share a stream_id."""


_ADVANCE = (
    update(ConsumerOffset)
    .where(ConsumerOffset.topic == bindparam("t"), ConsumerOffset.topic_partition == bindparam("p"))
    .values(next_offset=bindparam("o"))
)

_WAIT_AGAIN = (
    update(DeadLetter)
    .where(
        DeadLetter.run_id == bindparam("r"),
        DeadLetter.stream_id == bindparam("s"),
        DeadLetter.seq == bindparam("n"),
        DeadLetter.redriven_at < bindparam("at"),
    )
    .values(redriven_at=None)
)

_SET_PLACE = text(
    "INSERT INTO consumer_offsets (topic, topic_partition, next_offset, topic_id) "
    "VALUES (:topic, :number, :next_offset, :topic_id) ON CONFLICT (topic, topic_partition) "
    "DO UPDATE SET next_offset = excluded.next_offset, topic_id = excluded.topic_id"
)


class Transaction(ABC):
    """One open transaction. Raises OutageError, ConflictError, BadDataError, or the driver's own error."""

    def __init__(self, connection: Connection, writer: Writer) -> None:
        self.connection = connection
        self._writer = writer

    def places(self, partitions: Sequence[Partition]) -> dict[Partition, Position]:
        """The next offsets of these partitions, without those never read. Locks their rows, in a fixed order,
        until the transaction ends."""
        table = ConsumerOffset
        query = (
            select(table.topic, table.topic_partition, table.next_offset, table.topic_id)
            .where(tuple_(table.topic, table.topic_partition).in_(sorted(partitions)))
            .order_by(table.topic, table.topic_partition)
            .with_for_update()
        )
        rows = self.connection.execute(query)
        return {
            Partition(topic, number): Position(offset, topic_id) for topic, number, offset, topic_id in rows
        }

    def set_place(self, partition: Partition, place: Position) -> None:
        """Set the next offset of a partition, whatever it was."""
        row = {"topic": partition.topic, "number": partition.number, **place._asdict()}
        self.connection.execute(_SET_PLACE, row)

    def advance(self, next_offsets: Mapping[Partition, int]) -> None:
        """Set the next offsets. No-op if another process has written the batch."""
        if not next_offsets:
            return
        self.connection.execute(
            _ADVANCE,
            [
                {"t": topic, "p": number, "o": offset}
                for (topic, number), offset in sorted(next_offsets.items())
            ],
        )

    def deleted_runs(self) -> Mapping[str, int]:
        """Runs that were deleted, and when (µs since 1970). Call it after `places`: a deletion waits
        for those locks."""
        return self._writer.deleted.read(self.connection)

    @abstractmethod
    def insert(self, table: str, rows: Iterable[Row]) -> int:
        """Insert all rows or none, by the fastest method; returns how many.

        Raises:
            ConflictError: one exists already.
            BadDataError: the database refuses one; `row` says which, where that is known.
        """

    @abstractmethod
    def insert_new(self, table: str, rows: Sequence[Row]) -> Inserted:
        """Insert the rows that do not exist yet, all or none.

        Raises:
            BadDataError: the database refuses one; `row` says which, where that is known.
        """

    def wait_again(self, key: Key, at: int) -> bool:
        """Whether a letter that came again (Kafka's time, µs) was redriven before: it waits again."""
        where = {"r": key[0], "s": key[1], "n": key[2], "at": moment(at)}
        return bool(self.connection.execute(_WAIT_AGAIN, where).rowcount)

    @abstractmethod
    def upsert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add a batch's changes to the rows of `runs`, `agents` or `seek_points`, in order."""


class Writer(ABC):
    """Writes into one database over one connection, which is opened again after an outage."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.deleted = _DeletedRuns()
        self._connection: Connection | None = None

    @abstractmethod
    def _begin(self, connection: Connection) -> Transaction:
        """Wrap a connection whose transaction has begun."""

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction; commits at the end, rolls back on any error.

        Raises:
            OutageError: the database is away, or asks to try again. Whether a commit that was cut off
                took place is told by the offsets: read them again.
        """
        try:
            connection = self._connection = self._connection or self.engine.connect()
            with connection.begin():
                yield self._begin(connection)
        except sql.DRIVER_ERRORS as error:
            self.close()
            raise (sql.triaged(error) or error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection; the next transaction opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


class _DeletedRuns:
    """The deleted runs, read again only when they have changed."""

    def __init__(self) -> None:
        self._state: tuple[int, Any] = (0, None)
        self._runs: dict[str, int] = {}

    def read(self, connection: Connection) -> Mapping[str, int]:
        count, newest = connection.execute(select(func.count(), func.max(DeletedRun.deleted_at))).one()
        if (count, newest) != self._state:
            found = connection.execute(select(DeletedRun.run_id, DeletedRun.deleted_at))
            self._runs = {run_id: (at - EPOCH) // timedelta(microseconds=1) for run_id, at in found}
            self._state = (count, newest)
        return self._runs


def moment(microseconds: int | None) -> datetime | None:
    """A datetime of µs since 1970, which must be within the years 1 to 9999."""
    return None if microseconds is None else EPOCH + timedelta(microseconds=microseconds)
