"""Public bug reports: the page of a run opens, whatever the run holds and whatever its name is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from schemas.values import LONGEST_ID
from tests.e2e.conftest import Stack
from tests.support.processes import wait_for

pytestmark = pytest.mark.browser

REPORTS = Path(__file__).parents[1] / "data" / "reports"
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
LINES = {path.stem: path.read_text() for path in sorted((REPORTS / "21-chart-hang").glob("*.jsonl"))} | {
    "far": FAR
}


@pytest.mark.parametrize("name", LINES)
def test_a_page_with_extreme_numbers_answers(
    stack: Stack, open_page: Callable[..., Page], run_id: str, name: str
) -> None:
    """A page with extreme numbers shows the agent's tab, logs no error and still answers."""
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


def test_each_run_opens_whatever_it_is_called(stack: Stack, open_page: Callable[..., Page]) -> None:
    """Every run opens from the list, also `.` and `..`, which a browser takes for folders."""
    text = (REPORTS / "26-run-ids" / "ids.jsonl").read_text(encoding="utf-8")
    named = {json.loads(line)["run_id"] for line in text.splitlines()}
    names = {name for name in named if 0 < len(name) <= LONGEST_ID}
    stack.ingest("unnamed", text)
    wait_for(lambda: names <= {run["run_id"] for run in listed(stack)}, 60)
    page = open_page("/")
    for name in sorted(names):
        page.goto(stack.url + "/")
        shown = " ".join(name.split())  # as a browser shows it
        page.locator("#runs a").get_by_text(shown, exact=True).first.click()
        expect(page.get_by_role("heading", name=shown, exact=True, level=1)).to_be_visible()


def listed(stack: Stack) -> list[dict[str, object]]:
    """The runs in SQL."""
    found: list[dict[str, object]] = json.loads(stack.cli("runs", "list", "--json").stdout)
    return found
