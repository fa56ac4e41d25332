"""The streams of a run in a table, found by stepping from one to the next in the primary key."""

from __future__ import annotations

from sqlalchemy import Connection, Table, func, select

Ends = list[tuple[str, int]]
"""Streams of a run in a table, each with its last `seq`."""


def stream_ends(connection: Connection, table: Table, run_id: str) -> Ends:
    """Every stream that has rows; reads only the last row of each."""
    mine = table.c.run_id == run_id
    streams = select(func.min(table.c.stream_id).label("id")).where(mine).cte("streams", recursive=True)
    further = select(func.min(table.c.stream_id)).where(mine, table.c.stream_id > streams.c.id)
    streams = streams.union_all(
        select(further.correlate(streams).scalar_subquery()).where(streams.c.id.is_not(None))
    )
    last = select(func.max(table.c.seq)).where(mine, table.c.stream_id == streams.c.id)
    found = select(streams.c.id, last.correlate(streams).scalar_subquery()).where(streams.c.id.is_not(None))
    return [(stream_id, seq) for stream_id, seq in connection.execute(found)]
