"""Which files of tests may run side by side: `pytest -n 2` and more processes."""

from __future__ import annotations

import re
from functools import cache, cached_property
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).parents[2]


@cache
def marks(path: str) -> frozenset[str]:
    """The pytest marks that a file of tests names; `path` is from the top of the checkout."""
    return frozenset(re.findall(r"pytest\.mark\.(\w+)", (ROOT / path).read_text()))


class FilesSideBySide(LoadFileScheduling):  # type: ignore[misc]
    """Gives each file to one process, and all files with Docker or a browser to the same one.

    Docker changes the machine's networks, which aborts a page that is loading. Without Docker's files, those
    with a browser run side by side, too.
    """

    @cached_property
    def _alone(self) -> set[str]:
        files = {test.partition("::")[0] for test in self.collection}
        docker = {file for file in files if "docker" in marks(file)}
        return docker | {file for file in files if docker and "browser" in marks(file)}

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "alone" if file in self._alone else file
