"""The shell, its style and its script agree with each other."""

from __future__ import annotations

import re

import pytest

from dashboard.app import ASSETS, _index
from dashboard.sql import history

SHELL = (ASSETS / "shell.html").read_text(encoding="utf-8")
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in ASSETS.rglob("*.js")}


def ids_of(scripts: dict[str, str]) -> set[str]:
    """Every element that our JS asks for by a literal id."""
    return {found for text in scripts.values() for found in re.findall(r'byId\("([^"]+)"\)', text)}


def test_every_element_that_the_script_asks_for_is_there() -> None:
    """A renamed id fails here, not in a browser."""
    there = re.findall(r'\bid="([^"]+)"', SHELL)
    assert len(there) == len(set(there))
    assert ids_of(SCRIPTS) - set(there) == set()


def test_nothing_comes_from_another_host() -> None:
    """Fonts, styles and scripts are ours: the only addresses are names of XML namespaces."""
    for path in ASSETS.rglob("*.*"):
        addresses = re.findall(r"https?://[^\"'\s)]+", path.read_text(encoding="utf-8"))
        assert {address for address in addresses if "www.w3.org" not in address} == set(), path


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_script_reads_html(name: str) -> None:
    """What workers print only ever becomes text."""
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", SCRIPTS[name])


def test_the_index_names_every_module() -> None:
    """No module waits for another to be found."""
    index = _index("/static/x")
    for path in ASSETS.glob("js/**/*.js"):
        assert f'"/static/x/{path.relative_to(ASSETS).as_posix()}"' in index
    assert "{{" not in index


def test_tables_have_the_columns_that_people_know() -> None:
    """In this order, under these names."""
    assert [column["headerName"] for column in history.EPISODES] == [
        "Timestamp", "Worker", "Agent", "Episode", "Steps", "Total reward", "Terminated", "Truncated", "Seed",
        "Episode seed", "Mode", "Game", "Outcome",
    ]  # fmt: skip
    assert [column["headerName"] for column in history.STEPS] == [
        "Timestamp", "Agent", "Episode", "Step", "Episode seed", "Action", "Reward", "Terminated",
        "Truncated", "Observation", "Info",
    ]  # fmt: skip


def test_live_and_stored_tables_have_the_same_columns() -> None:
    """Newest and All are one table to the eye."""
    script = SCRIPTS["columns.js"]
    steps, episodes = script.split("export const EPISODES")
    names = [re.findall(r'\{ name: "([^"]+)"', part) for part in (steps, episodes)]
    assert names == [[column["headerName"] for column in kind] for kind in (history.STEPS, history.EPISODES)]


def test_only_community_features_of_the_grid() -> None:
    """The wheel also holds AG Grid Enterprise, which is not free."""
    for kind in history.KINDS:
        grid = history.grid(kind)
        assert not getattr(grid, "enableEnterpriseModules", False)
        assert grid.rowModelType == "infinite"
