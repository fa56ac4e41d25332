"""The page on OpenTelemetry maps its proposed names to columns that exist."""

from __future__ import annotations

import re

from schemas.tables import Base
from tests.support.quoted import DOCS


def test_every_column_exists() -> None:
    """Each row names a table and one of its columns; each proposed name begins with `rl.`."""
    text = (DOCS / "opentelemetry.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`rl\..*?) \| `(\w+)` \| `(\w+)`", text, re.M)
    assert len(rows) == text.count("\n| `rl.") > 15
    for _, table, column in rows:
        assert column in Base.metadata.tables[table].columns
