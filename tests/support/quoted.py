"""The sentences that pages under docs/security quote; tests compare the real messages with them."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_ROW = re.compile(r"^\| (.+?) \| (.+) \|$", re.M)


def quoted(page: str, head: str = "cause") -> dict[str, re.Pattern[str]]:
    """Cause → pattern of its sentence, in which `…` stands for a value.

    Args:
        page: below docs, without its ending.
        head: of the table's first column.
    """
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    table = text.partition(f"| {head} | sentence |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = dict(_ROW.findall(table + "\n"))
    assert rows, f"{page}.md has no table of {head!r}"
    return {cause: _pattern(sentence) for cause, sentence in rows.items()}


def _pattern(sentence: str) -> re.Pattern[str]:
    return re.compile(".*?".join(map(re.escape, sentence.split("…"))), re.S)
