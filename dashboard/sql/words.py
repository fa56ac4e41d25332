"""A search's words for the index over transcripts: all of them must be there. Pure.

weather Bergen      both words; the last one may be the beginning of a word
"the answer is"     these words in a row
"""

from __future__ import annotations

import re

_PARTS = re.compile(r'"([^"]*)"?|([^\s"]+)')
_WORDS = re.compile(r"[^\W_]+")


def phrases(text: str) -> list[list[str]]:
    """Words that must stand in a row. Signs part words, as they do in the index."""
    found = [_WORDS.findall(quoted or plain) for quoted, plain in _PARTS.findall(text)]
    return [words for words in found if words]


def is_open(text: str) -> bool:
    """Whether the last word may go on: not behind a quotation mark or a blank."""
    return bool(re.search(r"[^\W_]$", text)) and text.count('"') % 2 == 0


def of_sqlite(text: str) -> str:
    """A query of FTS5."""
    made = [f'"{" ".join(words)}"' for words in phrases(text)]
    return " ".join(made) + ("*" if made and is_open(text) else "") or '""'


def of_postgres(text: str) -> str:
    """A tsquery."""
    made = [" <-> ".join(words) for words in phrases(text)]
    return " & ".join(made) + (":*" if made and is_open(text) else "")
