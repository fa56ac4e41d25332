"""Where a replay goes: another database."""

from __future__ import annotations

from dataclasses import dataclass, replace

from consumers.persist.batch import Outcome, Storer, store_rollups
from consumers.replay.sinks import Lookup
from consumers.replay.tape import Item
from infra.settings import Settings
from infra.sql import engine as sql
from infra.sql import migrations
from infra.sql.rollouts import settle
from infra.sql.writers import open_writer
from schemas.codec import Decoder
from schemas.errors import StepstreamError
from schemas.topics import STORED, Kind


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

    def value(self) -> bytes:
        return self.item.value

    def timestamp(self) -> tuple[int, int]:
        return 1, self.item.timestamp


class Database:
    """Another database: the rows that persist would have written. What is there already stays."""

    kinds: tuple[Kind, ...] = STORED

    def __init__(self, settings: Settings, url: str, lookup: Lookup, run_id: str) -> None:
        there = replace(settings, database_url=url)
        sql.make_folder(there)
        self._writer = open_writer(there)
        migrations.upgrade(self._writer.engine)
        self._storers = {kind: Storer(kind, Decoder(kind, lookup)) for kind in STORED}
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
            store_rollups(tx, done.fold)
        if done.refused:
            one = done.refused[0]
            where = f"offset {one.message.offset()} of {one.kind.value}"
            raise StepstreamError(f"The database refuses {where}: {one.error}")
        self.total.add(done)

    def close(self) -> None:
        """Give the connection back."""
        self._writer.close()
