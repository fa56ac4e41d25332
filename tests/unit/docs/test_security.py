"""The pages on logins and rights print the rights that `doctor` checks and that services are tested with."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from schemas.rights import RIGHTS, Rights
from schemas.topics import Kind
from tests.support.quoted import DOCS

ROOT = DOCS.parent
SERVICES = yaml.safe_load((ROOT / "infra/deploy/compose/compose.yaml").read_text())["services"]
PAGES = sorted((DOCS / "security").glob("*.md"))


def table() -> str:
    """Return the table of the rights of each service."""
    rows = ["| service | Kafka: topics | group | PostgreSQL | Redis |", "|---|---|---|---|---|"]
    rows += [f"| {name} | {_topics(rights)} | {_others(rights)} |" for name, rights in RIGHTS.items()]
    return "\n".join(rows)


def _by_operations(rights: Rights) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for kind in Kind:
        if operations := rights.topics.get(kind):
            found.setdefault(tuple(sorted(operations)), []).append(kind.value)
    return found


def _topics(rights: Rights) -> str:
    every = len(Kind)
    return "; ".join(
        f"{', '.join(operations)} on {'all' if len(kinds) == every else ', '.join(kinds)}"
        for operations, kinds in _by_operations(rights).items()
    )


def _others(rights: Rights) -> str:
    sql = ", ".join([*rights.tables, *(["TEMPORARY"] if rights.temporary else [])])
    redis = " ".join(f"+{command}" for command in rights.redis)
    group = f"READ stepstream.{rights.group}" if rights.group else ""
    return f"{group} | {sql} | {f'`{redis}`' if redis else ''}"


def kafka_acls() -> str:
    """Return the commands that grant the Kafka rights, one for each set of operations of a service."""
    lines = ['allow="kafka-acls.sh --bootstrap-server kafka-1:9092 --add --allow-principal"']
    for name, rights in RIGHTS.items():
        for operations, kinds in _by_operations(rights).items():
            names = [f"--operation {one.title().replace('_', '')}" for one in operations]
            topics = [f"--topic telemetry.{kind}" for kind in kinds]
            rows = [topics[at : at + 3] for at in range(0, len(topics), 3)]
            parts = [" ".join(["$allow", f"User:{name}", *names]), *("  " + " ".join(row) for row in rows)]
            lines.append(" \\\n".join(parts))
        if rights.group:
            lines.append(f"$allow User:{name} --operation Read --group stepstream.{rights.group}")
    return _block("sh", lines)


def grants() -> str:
    """Return the SQL grants of each service but the admin, who owns the database."""
    lines = ["REVOKE ALL ON DATABASE stepstream FROM PUBLIC;"]
    found = {name: rights for name, rights in RIGHTS.items() if rights.tables and name != "admin"}
    for name, rights in found.items():
        database = "CONNECT, TEMPORARY" if rights.temporary else "CONNECT"
        lines.append(f"GRANT {database} ON DATABASE stepstream TO {name};")
        lines.append(f"GRANT {', '.join(rights.tables)} ON ALL TABLES IN SCHEMA public TO {name};")
    for name, rights in found.items():
        later = f"GRANT {', '.join(rights.tables)} ON TABLES TO {name};"
        lines.append(f"ALTER DEFAULT PRIVILEGES FOR ROLE admin {later}")
    return _block("sql", lines)


def redis_users() -> str:
    """Return a Redis user for each service that uses Redis."""
    return _block(
        "",
        [
            f"ACL SETUSER {name} on >… ~stepstream:* " + " ".join(f"+{command}" for command in rights.redis)
            for name, rights in RIGHTS.items()
            if rights.redis
        ],
    )


def _block(language: str, lines: list[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


@pytest.mark.parametrize(
    ("page", "marker", "made"),
    [
        ("security", "rights", table),
        ("security", "acls", kafka_acls),
        ("security/postgresql", "grants", grants),
        ("security/redis", "acls", redis_users),
    ],
)
def test_the_page_has_the_rights_of_the_table(page: str, marker: str, made: Callable[[], str]) -> None:
    """Each page quotes the rights in `schemas.rights`; if this fails, paste the text that it shows."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert f"<!-- {marker} -->\n\n{made()}\n" in text, made()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_has_settings_a_compose_file_and_failures(path: Path) -> None:
    """Each page of a login mechanism has all sections, and its compose file names existing services."""
    text = path.read_text(encoding="utf-8")
    for head in ("Settings", "In compose", "What each failure says"):
        assert f"\n## {head}\n" in text
    for block in re.findall(r"```yaml\n(.*?)```", text, re.S):
        assert set(yaml.safe_load(block)["services"]) <= set(SERVICES)
