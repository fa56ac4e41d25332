"""What a person does with a run's charts, and with the table of runs."""

from __future__ import annotations

import csv
import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Stack
from tests.support.processes import wait_for

pytestmark = pytest.mark.browser

POINTS = 3000
HOSTILE = "<img src=x onerror=alert(1)>"


def lines(name: str, seed: int) -> list[str]:
    """A run with metrics of two groups and a hostile name, and with a return per episode."""
    config = {"env_id": "Lake-v0", "seed": seed, "lr": 0.1}
    out = [json.dumps({"type": "run_started", "name": name, "project": "charts", "config": config})]
    for step in range(POINTS):
        values = {"train/loss": 1 / (1 + step), "eval/score": float(step % 10), HOSTILE: 1.0}
        out.append(json.dumps({"step": step, **values}))
    out += [
        json.dumps({"type": "episode", "episode_index": n, "total_reward": float(n), "steps": 5})
        for n in range(30)
    ]
    return [*out, json.dumps({"type": "run_completed", "status": "completed"})]


@pytest.fixture(scope="module")
def charted(stack: Stack) -> str:
    """A run in SQL; another one of the project began before it."""
    run_id = f"charts-{uuid.uuid4().hex[:8]}"
    for n, name in enumerate((f"{run_id}-before", run_id)):
        stack.ingest(name, "\n".join(lines(name, n)))
        wait_for(lambda name=name: shown(stack, name)["metrics"] == POINTS, 90)
    return run_id


def shown(stack: Stack, run_id: str) -> dict[str, int]:
    """A run's counts in SQL."""
    found: dict[str, int] = json.loads(stack.cli("runs", "show", run_id, "--json").stdout)
    return found


def test_a_zoom_is_in_the_address_and_of_all_charts(charted: str, open_page: Callable[..., Page]) -> None:
    """The address zooms all charts to one range with every point; a double click removes the zoom."""
    page = open_page(f"/runs/{charted}?panel=metrics&zoom=100,199")
    for title in ("loss", "score"):
        plot = page.locator(".metric").filter(has_text=title).locator(".js-plotly-plot")
        expect(plot).to_be_attached()
        plot.evaluate("(el) => el.scrollIntoView()")  # what is out of sight is not drawn
        expect(plot.locator(".scatterlayer path").first).to_be_attached()
        assert plot.evaluate("(el) => el.data[0].x.length") == 100
        assert plot.evaluate("(el) => el.layout.xaxis.range") == [100, 199]
    area = page.locator(".metric .nsewdrag").first
    area.hover()
    area.dblclick()
    expect(page).not_to_have_url(re.compile("zoom="))


def test_names_are_groups_and_text(charted: str, open_page: Callable[..., Page]) -> None:
    """The part of a name before the slash is its group; markup in a name is shown as text."""
    page = open_page(f"/runs/{charted}?panel=metrics")
    for name in ("train", "eval", "Metrics", "Episodes"):
        expect(page.get_by_role("heading", name=name, exact=True, level=2)).to_be_visible()
    expect(page.get_by_role("heading", name=HOSTILE, exact=True)).to_be_attached()
    assert page.locator("img[src=x]").count() == 0


def test_charts_are_found_pinned_hidden_and_remembered(charted: str, open_page: Callable[..., Page]) -> None:
    """Pins, hidden charts, smoothing and scale come from the address and are kept for the next run."""
    page = open_page(f"/runs/{charted}?panel=metrics&pin=eval/score&hide=train/loss&smooth=ema:0.9&log=1")
    expect(page.get_by_role("heading", name="Pinned", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="loss", exact=True)).to_have_count(0)
    expect(page.locator(".gtitle", has_text="exponential 0.9").first).to_be_attached()
    page.wait_for_function("() => (localStorage.getItem('kept') || '').includes('smooth')")
    page.goto(page.url.partition("?")[0] + "-before?panel=metrics")
    expect(page).to_have_url(re.compile(r"smooth=ema.*log=1"))
    expect(page.get_by_role("heading", name="Pinned", exact=True)).to_be_visible()
    page.get_by_role("button", name="Show 1 hidden").click()
    expect(page.get_by_role("heading", name="loss", exact=True)).to_be_attached()
    page.keyboard.press("/")
    page.keyboard.type("score")
    expect(page.locator(".metric")).to_have_count(1)


def test_every_point_of_a_chart_is_downloaded(
    charted: str, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    """CSV holds all points, not only the drawn ones; a chart is saved as PNG."""
    page = open_page(f"/runs/{charted}?panel=metrics&metric=train/loss")
    expect(page.locator(".metric .scatterlayer path").first).to_be_attached()
    page.locator(".metric").hover()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    download.value.save_as(tmp_path / "loss.csv")
    rows = list(csv.DictReader((tmp_path / "loss.csv").open(encoding="utf-8", newline="")))
    assert [int(row["global_step"]) for row in rows] == list(range(POINTS))
    assert float(rows[9]["train/loss"]) == pytest.approx(0.1)
    with page.expect_download() as image:
        page.locator(".modebar-btn").first.click()
    assert image.value.suggested_filename == "train_loss.png"


def test_full_screen_has_an_address_and_escape_leaves_it(
    charted: str, open_page: Callable[..., Page]
) -> None:
    """The address opens one chart in the whole window; Escape closes it."""
    page = open_page(f"/runs/{charted}?panel=metrics&full=train/loss")
    expect(page.locator(".metric.full")).to_be_visible()
    box = page.locator(".metric.full").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (1280, 720)
    page.keyboard.press("Escape")
    expect(page.locator(".metric.full")).to_have_count(0)


def test_the_config_stands_beside_that_of_the_run_before(
    charted: str, open_page: Callable[..., Page]
) -> None:
    """The page marks the keys of the configuration whose values differ from the run before."""
    page = open_page(f"/runs/{charted}?panel=config")
    expect(page.locator("#config .changed th")).to_have_text("seed")
    expect(page.locator("#config thead")).to_contain_text(f"{charted}-before")


def test_the_log_says_where_stderr_would_be(charted: str, open_page: Callable[..., Page]) -> None:
    """The log of a run without stderr says how stderr is recorded."""
    page = open_page(f"/runs/{charted}?panel=log")
    expect(page.get_by_text("This run has no stderr here")).to_be_visible()


def test_runs_are_grouped_chosen_and_kept_as_a_view(charted: str, open_page: Callable[..., Page]) -> None:
    """The list of runs groups by a configuration key, shows chosen columns, compares two and saves views."""
    page = open_page(f"/?q={charted}&group=config.seed&column=name&column=config.lr")
    rows = page.locator(".runs-grid .ag-center-cols-container .ag-row")
    expect(rows).to_have_count(4)
    expect(page.locator(".group-row")).to_have_count(2)
    expect(page.locator(".ag-header-cell-text, .sort").filter(has_text="lr")).to_have_count(1)
    boxes = page.locator(".ag-row:not(.group-row) .ag-checkbox-input")
    boxes.nth(0).click()
    boxes.nth(1).click()
    expect(page.get_by_role("link", name="Compare")).to_have_attribute("href", re.compile(f"{charted}.*,.*"))
    page.locator("summary", has_text="Views").click()
    page.get_by_placeholder("Name of this view").fill("by seed")
    page.get_by_role("button", name="Save this view").click()
    expect(page.get_by_role("link", name="by seed")).to_have_attribute(
        "href", re.compile("group=config.seed")
    )
