"""The documentation site builds without a warning, lists each page and loads nothing from other hosts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from cli import reference

ROOT = Path(__file__).parents[3]
CONFIG = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = "https://github.com/stepstream/stepstream"
RESOURCE = re.compile(r'<(?:script|link|img|source|iframe|video|audio)\b[^>]*?\b(?:src|href)="([^"]+)"')
LINK = re.compile(r'<a\b[^>]*?\bhref="([^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site strictly, so that a broken link or anchor is an error."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "docs", folder / "docs")
    reference.write(folder / "docs" / "reference")
    (folder / "zensical.toml").write_text(
        (ROOT / "zensical.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def pages_of(nav: Any) -> Iterator[str]:
    """Return the files that the navigation names."""
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav.values() if isinstance(nav, dict) else nav:
            yield from pages_of(each)


def test_the_navigation_names_each_page_once() -> None:
    """The navigation names every page of the documentation once, and no other."""
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    there = written | {"reference/cli.md", "reference/settings.md"}
    named = list(pages_of(CONFIG["nav"]))
    assert sorted(named) == sorted(there)


def test_links_to_the_repository_name_files_that_exist() -> None:
    """A link to a file on GitHub names a file that exists in this checkout."""
    file = re.compile(re.escape(REPOSITORY) + r"/blob/main/([^)#\s]+)")
    named = [
        found for page in (ROOT / "docs").rglob("*.md") for found in file.findall(page.read_text("utf-8"))
    ]
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_no_page_asks_another_host(site: Path) -> None:
    """Every page loads its scripts, styles, fonts and pictures from the site itself."""
    home = urlsplit(CONFIG["site_url"]).netloc
    for page in site.rglob("*.html"):
        hosts = {urlsplit(found).netloc for found in RESOURCE.findall(page.read_text(encoding="utf-8"))}
        assert hosts <= {"", home}, page


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    """Every link has a target, also a link in HTML, which the builder does not check."""
    for page in site.rglob("index.html"):
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not parts.path:
                continue
            target = (page.parent / unquote(parts.path)).resolve()
            assert target.is_file() or (target / "index.html").is_file(), (page, link)
