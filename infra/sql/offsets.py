"""How far persist has stored each partition."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, select

from infra.sql.engine import reading
from schemas.tables import ConsumerOffset
from schemas.topics import Partition


def stored_offsets(engine: Engine, topics: Sequence[str]) -> dict[Partition, int]:
    """The stored next offset of every partition of these topics."""
    table = ConsumerOffset
    query = select(table.topic, table.topic_partition, table.next_offset).where(table.topic.in_(topics))
    with reading(engine) as connection:
        return {Partition(topic, number): offset for topic, number, offset in connection.execute(query)}
