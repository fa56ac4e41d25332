"""Values that every database takes: the bounds of ids and times, and clean text."""

from __future__ import annotations

import re

EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999, in µs since 1970."""

LONGEST_ID = 300
"""Characters of the id of a run, stream, agent or worker: two ids fit into an index entry of
PostgreSQL (2,704 bytes)."""

_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """A text that every database takes: NUL and lone surrogates become U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)
