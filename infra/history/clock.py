"""Event times as the databases give them, in µs since 1970."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from schemas.positions import EPOCH

MINUTE, SECOND = len("2026-11-24 08:00"), len("2026-11-24 08:00:00")


def micros(values: Sequence[Any]) -> Sequence[int]:
    """PostgreSQL is asked for the numbers; SQLite keeps `2026-11-24 08:00:00.000000+00:00`.

    Times that follow each other often share their second, so it is read once.
    """
    found, second, begin = [], "", 0
    for value in values:
        if value.__class__ is int:
            return values  # then all are
        if value[:SECOND] != second:
            second = value[:SECOND]
            begin = _minute(second[:MINUTE]) + int(second[MINUTE + 1 :]) * 1_000_000
        found.append(begin + int(value[SECOND + 1 : SECOND + 7]))
    return found


@lru_cache(4096)
def _minute(text: str) -> int:
    return (datetime.fromisoformat(f"{text}+00:00") - EPOCH) // timedelta(microseconds=1)
