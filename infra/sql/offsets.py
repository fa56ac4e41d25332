"""How far persist has stored each partition."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from schemas.tables import ConsumerOffset
from schemas.topics import Partition


def stored_offsets(connection: Connection, topics: Iterable[str]) -> dict[Partition, int]:
    """The stored next offset of every partition of these topics."""
    table = ConsumerOffset
    query = select(table.topic, table.topic_partition, table.next_offset).where(table.topic.in_(topics))
    return {Partition(topic, number): offset for topic, number, offset in connection.execute(query)}
