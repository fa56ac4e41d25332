"""Runs compared, as a person does it: select two, look, choose another number."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Stack
from tests.support.processes import wait_for

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pair(stack: Stack) -> list[str]:
    """Two runs that differ in their learning rate alone."""
    prefix = f"pair-{uuid.uuid4().hex[:6]}"
    names = [f"{prefix}-{n}" for n in (1, 2)]
    for n, name in enumerate(names, 1):
        config = {"lr": n / 10, "gamma": 0.99}
        lines = [{"type": "run_started", "config": config}]
        lines += [{"step": step, "loss": 1.0 / step / n} for step in (1, 2)]
        lines += [
            {"type": "episode", "episode_index": i, "total_reward": i * n, "steps": 5} for i in range(20)
        ]
        stack.ingest(name, "\n".join(map(json.dumps, [*lines, {"type": "run_completed"}])))
    for name in names:
        wait_for(lambda name=name: shown(stack, name)["episodes"] == 20, 90)
    return names


def shown(stack: Stack, run_id: str) -> dict[str, int]:
    """A run's counts in SQL."""
    found: dict[str, int] = json.loads(stack.cli("runs", "show", run_id, "--json").stdout)
    return found


def test_two_runs_over_each_other(pair: list[str], open_page: Callable[..., Page]) -> None:
    """A line each, what differs in a table, and the choice in the address."""
    page = open_page(f"/compare?runs={','.join(pair)}&smooth=none")
    plot = page.locator("#compare-chart .js-plotly-plot")
    expect(plot.locator(".scatterlayer .trace")).to_have_count(2)
    assert plot.evaluate("(el) => el.data.map((line) => Math.max(...line.y))") == [19, 38]
    table = page.locator("#compare-table")
    expect(table.get_by_role("columnheader", name="lr")).to_be_visible()
    expect(table.get_by_role("columnheader", name="gamma")).to_have_count(0)
    page.get_by_label("Compare").select_option("loss")
    expect(page).to_have_url(re.compile("of=loss"))
    page.wait_for_function(
        "() => document.querySelector('#compare-chart .js-plotly-plot').data[0].y[0] === 1"
    )
    table.get_by_role("link", name=pair[0]).click()
    expect(page).to_have_url(re.compile(f"/runs/{pair[0]}"))


def test_the_list_of_runs_leads_there(pair: list[str], open_page: Callable[..., Page]) -> None:
    """Two rows selected have a button."""
    page = open_page(f"/?q={pair[0][:-2]}")
    boxes = page.locator("#runs .ag-selection-checkbox input")
    expect(boxes).to_have_count(2)
    for i in range(2):
        boxes.nth(i).check()
    page.get_by_role("link", name="Compare").click()
    expect(page).to_have_url(re.compile(r"/compare\?runs="))
    expect(page.locator("#compare-chart .trace")).to_have_count(2)
