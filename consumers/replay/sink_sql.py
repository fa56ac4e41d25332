"""Where a replay goes: another database."""

from __future__ import annotations

from dataclasses import dataclass, replace

from consumers.persist.batch import Outcome, Storer, store_rollups
from infra.history.items import Item, Records
from infra.settings import Settings
from infra.sql import engine as sql
from infra.sql import migrations
from infra.sql.rollouts import settle
from infra.sql.writers import open_writer
from schemas.codec import Record
from schemas.errors import StepstreamError, UsageError
from schemas.topics import Kind


@dataclass(frozen=True)
class _Message:
    """A record as Kafka's client gives it: what persist stores."""

    item: Item
    run_id: bytes

    def topic(self) -> str:
        return self.item.kind.value

    def partition(self) -> int:
        return self.item.partition

    def offset(self) -> int:
        return self.item.offset

    def key(self) -> bytes:
        return self.run_id

    def value(self) -> Item:
        return self.item

    def timestamp(self) -> tuple[int, int]:
        return 1, self.item.timestamp


def check_url(settings: Settings, url: str) -> None:
    """Raise where a URL is none for a copy.

    Raises:
        UsageError: it names no database, or the one that is read.
    """
    try:
        there, here = sql.url(replace(settings, database_url=url)), sql.url(settings)
    except UsageError as error:
        words = str(error).replace("STEPSTREAM_DATABASE_URL", f"--output sql:{url}")
        raise UsageError(words if url in words else f"--output sql:{url}: {words}") from None
    if there == here:
        raise UsageError(f"--output sql:{url} is the database that is read: name another one.")


class SqlSink:
    """Another database: the rows that persist would have written. What is there already stays.

    Args:
        settings: of the deployment.
        url: of the other database, whose tables are made.
        records: how items are read.
        run_id: the run.
    """

    def __init__(self, settings: Settings, url: str, records: Records, run_id: str) -> None:
        there = replace(settings, database_url=url)
        sql.make_folder(there)
        self._writer = open_writer(there)
        migrations.upgrade(self._writer.engine)

        def decode(item: Item) -> Record:
            return records(item)

        self._storers = {kind: Storer(kind, decode) for kind in Kind}
        self._key = run_id.encode()
        self.total = Outcome()

    def write(self, items: list[Item]) -> None:
        """Store records in one transaction.

        Raises:
            StepstreamError: the database refuses a record.
        """
        done = Outcome()
        with self._writer.transaction() as tx:
            for kind, storer in self._storers.items():
                if mine := [_Message(item, self._key) for item in items if item.kind is kind]:
                    # Also of a run that was deleted there: whoever replays it wants it back.
                    done.add(storer.store(tx, mine, {}))
            settle(tx.connection, done.rollouts)
            store_rollups(tx, done)
        if done.refused:
            one = done.refused[0]
            where = f"offset {one.message.offset()} of {one.kind.value}"
            raise StepstreamError(f"The database refuses {where}: {one.error}")
        self.total.add(done)

    def close(self) -> None:
        """Give the connection back."""
        self._writer.close()
