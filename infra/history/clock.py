"""Event times as the databases give them, in µs since 1970."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = len("2026-11-24 08:00:00")


def micros(value: int | str) -> int:
    """PostgreSQL is asked for the number; SQLite keeps `2026-11-24 08:00:00.000000+00:00`."""
    if isinstance(value, int):
        return value
    return _second(value[:SECOND]) + int(value[SECOND + 1 : SECOND + 7])


@lru_cache(4096)
def _second(text: str) -> int:
    return (datetime.fromisoformat(f"{text}+00:00") - EPOCH) // timedelta(microseconds=1)
