"""Panels of users, in a browser: the three examples of the documentation, live."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from infra.embedded import process
from tests.e2e.conftest import NOISE, Stack

pytestmark = pytest.mark.browser

EXAMPLES = Path(__file__).parents[2] / "examples" / "panels"
PANELS = "histogram:Histogram,actions:Actions,visited:Visited"
WORKER = """
for episode in range(1_000_000):
    for step in range(10):
        emit(type="step", agent_id="<b>a</b>", episode_index=episode, step_index=step, observation=step % 8,
             action=["left", "<i>right</i>"][step % 2], reward=1.0, td_error=step / 10)
        time.sleep(0.02)
"""
BROKEN = """
from dashboard.panel import Panel
class Raises(Panel):
    title, every = "Raises", 0.5
    def layout(self): return self.card()
    def take(self, news): raise ValueError("<img src=x> at every step")
    def draw(self): return {}
"""
APPENDS = """
from dash import Patch
from dashboard import charts
from dashboard.panel import Panel
class Appends(Panel):
    title, every = "Appends", 0.2
    count = 0
    def layout(self): return self.card(charts.graph("appended"))
    def take(self, news): self.dirty = True
    def draw(self):
        self.count += 1
        if self.count % 4 != 3:
            return {"appended": charts.drawn(([0, self.count], [1, 2]))}
        patch = Patch()
        patch["data"][0]["x"].append(self.count + 1)
        patch["data"][0]["y"].append(3)
        return {"appended": {"figure": patch}}
"""


@pytest.fixture(scope="module")
def examples(stack: Stack) -> Iterator[str]:
    """Address of a dashboard with the examples."""
    env = {"STEPSTREAM_DASHBOARD_PANELS": PANELS, "PYTHONPATH": str(EXAMPLES)}
    with stack.other_dashboard("examples", **env) as url:
        yield url


@pytest.fixture(scope="module")
def trained(stack: Stack) -> Iterator[str]:
    """A run whose worker acts until the tests end."""
    worker = stack.run("panels-run", WORKER)
    yield "panels-run"
    process.end(worker)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that may log no error."""
    complaints: list[str] = []
    made = browser.new_page(viewport={"width": 1280, "height": 900})
    made.on("console", lambda said: said.type == "error" and complaints.append(said.text))
    made.on("pageerror", lambda error: complaints.append(str(error)))
    yield made
    made.close()
    assert [text for text in complaints if NOISE not in text] == []


def drawn(page: Page, id: str, bars: int) -> None:
    """Scroll a chart into view and expect so many bars."""
    plot = page.locator(f"#{id} .main-svg").first
    expect(plot).to_be_attached()
    plot.evaluate("el => el.scrollIntoView()")
    expect(page.locator(f"#{id} .bars .point")).to_have_count(bars)


def test_the_examples_are_live_on_an_agents_page(examples: str, trained: str, page: Page) -> None:
    """Each example draws what the agent does and shows a worker's words as text."""
    page.goto(f"{examples}/runs/{trained}", timeout=60_000)
    for title in ("Distribution", "Actions, newest 2,000 steps", "Visited states"):
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    drawn(page, "distribution", 30)
    drawn(page, "action-counts", 2)
    expect(page.locator("#action-counts .xtick").filter(has_text="<i>right</i>")).to_have_count(1)
    assert page.locator("#action-counts i").count() == 0
    drawn(page, "visited-states", 8)
    seen = page.locator("[data-live='visited.seen']")
    expect(seen).not_to_have_text(seen.inner_text())


def test_an_option_of_a_panel_is_in_the_address(examples: str, trained: str, page: Page) -> None:
    """The option of a panel that a viewer sets is put in the address."""
    page.goto(f"{examples}/runs/{trained}", timeout=60_000)
    drawn(page, "distribution", 30)
    field = page.get_by_role("textbox", name="Number")
    field.fill("nobody")
    field.press("Enter")
    expect(page).to_have_url(re.compile(r"histogram\.metric=nobody"))


def test_a_panel_that_cannot_be_used_is_named(stack: Stack, trained: str, tmp_path: Path, page: Page) -> None:
    """The page names a module that cannot be imported and a panel that raises; all else goes on."""
    (tmp_path / "broken.py").write_text(BROKEN)
    env = {"STEPSTREAM_DASHBOARD_PANELS": "broken:Raises,nowhere:Panel", "PYTHONPATH": str(tmp_path)}
    with stack.other_dashboard("broken", **env) as url:
        page.goto(f"{url}/runs/{trained}", timeout=60_000)
        failures = page.locator(".panel-failure")
        expect(failures.filter(has_text="nowhere:Panel")).to_be_visible()
        expect(failures.filter(has_text="<img src=x> at every step")).to_be_visible()
        assert page.locator("img[src=x]").count() == 0
        expect(page.locator("#run-status")).to_have_text("running")
        page.goto("about:blank")  # an open page would log an error when its server ends
    assert "nowhere" in (stack.folder / "broken.log").read_text()


def test_a_panel_may_append_to_what_it_has_set(
    stack: Stack, trained: str, tmp_path: Path, page: Page
) -> None:
    """A Patch that appends finds the values that were set before it, whichever way they came."""
    (tmp_path / "appends.py").write_text(APPENDS)
    env = {"STEPSTREAM_DASHBOARD_PANELS": "appends:Appends", "PYTHONPATH": str(tmp_path)}
    with stack.other_dashboard("appends", **env) as url:
        page.goto(f"{url}/runs/{trained}", timeout=60_000)
        expect(page.locator("#appended .js-plotly-plot")).to_be_attached()
        for _ in range(3):
            found = page.wait_for_function(
                """() => {
                    const plot = document.querySelector("#appended .js-plotly-plot"), [line] = plot.data;
                    plot.scrollIntoView({ block: "center" });
                    return line.y.length === 3 && line.x[1] !== window.before && [line.x, line.y];
                }"""
            ).json_value()
            assert found == [[0, found[0][2] - 2, found[0][2]], [1, 2, 3]]
            page.evaluate("(x) => (window.before = x)", found[0][1])
        page.goto("about:blank")
