"""Kafka's own bytes and times of records that SQL has rows of, as far as Kafka still holds them."""

from __future__ import annotations

from collections.abc import Iterable

from infra.history.items import SQL_COLUMNS, Item
from infra.kafka.log_reader import Entry, LogReader
from infra.settings import Settings
from schemas.topics import Kind, Watermarks


class RawLog:
    """Looks records of one run up by their offsets.

    Raises:
        BrokerError: Kafka does not answer.
    """

    def __init__(self, settings: Settings, run_id: str) -> None:
        self._reader = LogReader(settings, SQL_COLUMNS, run_id)

    def close(self) -> None:
        """Leave."""
        self._reader.close()

    def fill(self, items: list[Item]) -> list[Item]:
        """The same records, with Kafka's bytes where it has them."""
        entries: dict[tuple[Kind, int, int], Entry] = {}
        if part := self._part(items):
            for batch in self._reader.present(part):
                entries |= {(entry.kind, entry.partition, entry.offset): entry for entry in batch}
        return [self._filled(item, entries.get((item.kind, item.partition, item.offset))) for item in items]

    def _part(self, items: Iterable[Item]) -> dict[tuple[Kind, int], Watermarks]:
        offsets: dict[tuple[Kind, int], list[int]] = {}
        for item in items:
            if not isinstance(item.load, bytes):
                offsets.setdefault((item.kind, item.partition), []).append(item.offset)
        part = {}
        for place, wanted in offsets.items():
            held = self._reader.watermarks.get(place, Watermarks(0, 0))
            low, high = max(min(wanted), held.low), min(max(wanted) + 1, held.high)
            if low < high:
                part[place] = Watermarks(low, high)
        return part

    def _filled(self, item: Item, entry: Entry | None) -> Item:
        if entry is None or isinstance(item.load, bytes):
            return item
        return item._replace(timestamp=entry.timestamp, load=entry.value)
