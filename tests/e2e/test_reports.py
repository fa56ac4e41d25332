"""Numbers of public bug reports that made a page hang: whatever a run holds, its page opens and answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Stack
from tests.support.processes import wait_for

pytestmark = pytest.mark.browser

REPORTS = Path(__file__).parents[1] / "data" / "reports" / "21-chart-hang"
FAR = "\n".join(
    json.dumps(line)
    for line in (
        *(
            {"type": "episode", "episode": 2**53 + n, "return": 1e17 + 16 * n, "length": 5}
            for n in (-1, 0, 1)
        ),
        *({"step": 2**63 - n, "loss": 2**53 + n} for n in (3, 2, 1)),
        {"type": "step", "episode": 2**63 - 1, "step": 2**63 - 1, "reward": -1e308, "action": 2**64},
    )
)
LINES = {path.stem: path.read_text() for path in sorted(REPORTS.glob("*.jsonl"))} | {"far": FAR}


@pytest.mark.parametrize("name", LINES)
def test_a_page_with_extreme_numbers_answers(
    stack: Stack, open_page: Callable[..., Page], run_id: str, name: str
) -> None:
    """The agent's tab is there, the page has no error, and a link still leads on."""
    stack.ingest(run_id, LINES[name])
    count = len(LINES[name].splitlines())

    def stored() -> bool:
        told = json.loads(stack.cli("runs", "show", run_id, "--json").stdout)
        return sum(told[kind] for kind in ("steps", "episodes", "metrics")) == count

    wait_for(stored, 60)
    page = open_page(f"/runs/{run_id}?agent=default")
    expect(page.get_by_text("Live-default-Training", exact=True).first).to_be_visible()
    page.wait_for_timeout(1500)  # charts are drawn after the text
    assert page.evaluate("1 + 1") == 2
    page.goto(stack.url + "/")
    expect(page.get_by_text(run_id).first).to_be_visible()
