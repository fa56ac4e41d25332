"""The reference pages contain every setting, command and column of the code."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from cli.main import COMMANDS
from cli.reference import commands_page, settings_page
from infra.settings import TABLES, Settings
from schemas.tables import Base, own_columns

DOCS = Path(__file__).parents[3] / "docs"


def test_each_setting_has_a_row_with_what_it_may_be() -> None:
    """Each setting has a row with the choices or the range that its type allows."""
    rows = [line for line in settings_page().splitlines() if line.startswith("| `STEPSTREAM_")]
    assert len(rows) == len(fields(Settings)) - len(TABLES)  # tables pass through to Kafka and have no row
    page = "\n".join(rows)
    assert "| always or interval or never |" in page
    assert "| `5000` | a whole number from 1 to 1,000,000,000 |" in page
    assert "True" not in page


def test_each_command_has_the_text_of_its_help() -> None:
    """The page has a section for each command and subcommand."""
    page = commands_page()
    for name in COMMANDS:
        assert f"\n## stepstream {name}\n" in page
    assert "\n### stepstream runs export\n" in page
    assert page.count("```text") * 2 == page.count("```")


@pytest.mark.parametrize(
    "name", ["steps", "episodes", "metrics", "run_events", "logs", "dead_letters", "runs", "agents"]
)
def test_the_page_of_the_tables_names_their_columns(name: str) -> None:
    """The page names the columns that each table has of its own, in the table's order."""
    lines = (DOCS / "sql.md").read_text().splitlines()
    (*_, row) = (line for line in lines if line.startswith(f"| `{name}` |"))
    table = Base.metadata.tables[name]
    place = {"run_id", "agent_id", "topic", "topic_partition", "topic_offset"}
    found = row.partition("; one that")[0].partition("|")[2].replace("`", " ").replace(",", " ").split()[2:]
    assert [word for word in found if word in table.c] == [
        column for column in own_columns(table) if column not in place
    ]
