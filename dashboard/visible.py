"""Shows invisible characters in the text of models and workers. Pure.

Signs that turn the direction of writing, have no width, or steer a terminal are shown by their code.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from dash import html
from dash.development.base_component import Component

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 but tab and newline: terminals obey them
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def pieces(text: str) -> Iterator[str | Component]:
    """The text, each hidden sign as an element of its own."""
    at = 0
    for found in _HIDDEN.finditer(text):
        if found.start() > at:
            yield text[at : found.start()]
        sign = found[0]
        name = unicodedata.name(sign, "control character").lower()
        yield html.Span(code(sign), title=name, className="hidden-sign")
        at = found.end()
    if at < len(text):
        yield text[at:]


def has_hidden(text: str) -> bool:
    """Whether any of its signs is hidden."""
    return _HIDDEN.search(text) is not None


def plain(text: str) -> str:
    """The same as a text alone, for a cell of a table."""
    return _HIDDEN.sub(lambda found: f"⟨{code(found[0])}⟩", text)


def escaped(text: str) -> str:
    """JSON text with hidden signs as JSON's escapes: the same value, seen whole. Its newlines stay."""
    return _HIDDEN.sub(lambda found: _escape(found[0]), text)


def code(sign: str) -> str:
    """A sign's code point."""
    return f"U+{ord(sign):04X}"


def _escape(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
