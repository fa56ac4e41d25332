"""Event times as the databases give them, in µs since 1970."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = len("2026-11-24 08:00")


def micros(value: int | str) -> int:
    """PostgreSQL is asked for the number; SQLite keeps `2026-11-24 08:00:00.000000+00:00`."""
    if isinstance(value, int):
        return value
    return _minute(value[:MINUTE]) + int(value[17:19] + value[20:26])


@lru_cache(4096)
def _minute(text: str) -> int:
    return (datetime.fromisoformat(f"{text}+00:00") - EPOCH) // timedelta(microseconds=1)
