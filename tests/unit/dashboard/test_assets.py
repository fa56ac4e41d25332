"""The scripts beside Dash are few, our own, and know no panel."""

from __future__ import annotations

import re

import pytest

from dashboard.app import ASSETS, _index

OWN = [path for path in ASSETS.iterdir() if path.suffix in {".js", ".css", ".html", ".svg"}]
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in OWN if path.suffix == ".js"}


def test_nothing_comes_from_another_host() -> None:
    """Fonts, styles and scripts are ours: the only addresses are names of XML namespaces."""
    for path in OWN:
        addresses = re.findall(r"https?://[^\"'\s)]+", path.read_text(encoding="utf-8"))
        assert {address for address in addresses if "www.w3.org" not in address} == set(), path


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_script_reads_html(name: str) -> None:
    """No script of ours reads or writes HTML, so that workers' words only become text."""
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", SCRIPTS[name])


def test_there_is_little_script() -> None:
    """The scripts have at most 350 lines, and `live.js` knows no panel."""
    assert sum(len(text.splitlines()) for text in SCRIPTS.values()) <= 350
    assert not re.search(r"curve|reward|counter|metric|episode", SCRIPTS["live.js"])


def test_no_module_is_long() -> None:
    """A module of the dashboard has at most 350 lines."""
    modules = ASSETS.parent.rglob("*.py")
    assert not [path.name for path in modules if len(path.read_text(encoding="utf-8").splitlines()) > 350]


def test_no_script_hides_in_python() -> None:
    """No Python file holds JavaScript: callbacks in the browser are functions of the assets."""
    assert not [p.name for p in ASSETS.parent.rglob("*.py") if "=>" in p.read_text(encoding="utf-8")]


def test_no_rule_looks_down_the_page() -> None:
    """`:has()` is asked of each matching element whenever a node is put in: only formulas have it."""
    theme = (ASSETS / "theme.css").read_text(encoding="utf-8")
    asked = re.findall(r"[^\s,>+~]*:has\(", theme)
    assert asked
    assert all(rule.startswith(".formula") for rule in asked)


def test_vendored_files_name_no_source() -> None:
    """Vendored files name no source map, because a browser would fetch it."""
    for path in (ASSETS / "vendor").glob("*.min.*"):
        assert "sourceMappingURL" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("plugins", [False, True])
def test_the_index_is_whole(plugins: bool) -> None:
    """The index has no open placeholder; with users' panels it leaves Plotly's whole bundle to Dash."""
    index = _index("/static/x", whole_plotly=plugins)
    assert "{{" not in index
    assert ("plotly-basic" in index) != plugins
