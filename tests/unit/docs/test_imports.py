"""No module imports itself by way of others, also within a folder, where import-linter does not look."""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp
import pytest

SERVER = ("schemas", "infra", "producers", "consumers", "dashboard", "cli")


@pytest.mark.parametrize("packages", [SERVER, ("stepstream",)], ids=["server", "sdk"])
def test_there_is_no_import_cycle(packages: tuple[str, ...]) -> None:
    """Modules can be put in an order in which each comes after those that it imports."""
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=True)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 20
    TopologicalSorter(imports).prepare()  # a CycleError names the modules
