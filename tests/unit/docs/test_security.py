"""The page of logins and rights prints the table that `doctor` asks for and that services are tested with."""

from __future__ import annotations

from pathlib import Path

from schemas.rights import RIGHTS, Rights
from schemas.topics import Kind

PAGE = Path(__file__).parents[3] / "docs/security.md"


def rendered() -> str:
    """The table, for people."""
    rows = ["| service | Kafka: topics | group | PostgreSQL | Redis |", "|---|---|---|---|---|"]
    rows += [f"| {name} | {_topics(rights)} | {_others(rights)} |" for name, rights in RIGHTS.items()]
    return "\n".join(rows)


def _topics(rights: Rights) -> str:
    by_operations: dict[str, list[str]] = {}
    for kind in Kind:
        if operations := rights.topics.get(kind):
            by_operations.setdefault(", ".join(sorted(operations)), []).append(kind.value)
    every = len(Kind)
    return "; ".join(
        f"{operations} on {'all' if len(kinds) == every else ', '.join(kinds)}"
        for operations, kinds in by_operations.items()
    )


def _others(rights: Rights) -> str:
    sql = ", ".join([*rights.tables, *(["TEMPORARY"] if rights.temporary else [])])
    redis = " ".join(f"+{command}" for command in rights.redis)
    group = f"READ stepstream.{rights.group}" if rights.group else ""
    return f"{group} | {sql} | {f'`{redis}`' if redis else ''}"


def test_the_page_has_the_table_of_rights() -> None:
    """Run with `rendered()` in hand where it changed."""
    assert f"<!-- rights -->\n\n{rendered()}\n" in PAGE.read_text(encoding="utf-8"), rendered()
