"""The page on scale shows the table of the model, and the model obeys the rules of a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scale import PARTS, Assumptions, plan, table

PAGE = Path(__file__).parents[3] / "docs" / "scale.md"


def test_the_page_has_the_table_of_the_model() -> None:
    """The page has the table that `python -m benchmarks.scale` prints."""
    assert f"<!-- table -->\n\n{table()}" in PAGE.read_text()


@pytest.mark.parametrize("rate", [1_000, 50_000, 1_000_000])
def test_a_larger_rate_never_needs_less(rate: float) -> None:
    """A larger load never needs fewer parts, and no part is planned beyond its capacity."""
    small, large, told = plan(rate), plan(2 * rate), Assumptions()
    assert all(large.cores[part] >= small.cores[part] for part in PARTS)
    assert large.cells >= small.cells
    assert large.month > small.month
    assert small.cores["postgresql"] / small.cells <= told.postgresql_cores + 1
    assert small.partitions * small.cells >= small.processes["persist"]
    for part in ("persist", "live"):
        assert small.cores[part] <= small.processes[part] + small.cells
