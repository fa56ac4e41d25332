"""What a person does on the pages: search, keys, links, tables, themes, small screens."""

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

AGENTS, EPISODES, LENGTH = 3, 30, 10
PROMPT = "What is the capital of Wyoming?\n" * 100


def lines() -> list[str]:
    """Three agents, thirty episodes each, a text as observation, a line of log, metrics."""
    out = [
        json.dumps({"type": "run_started", "config": {"env_id": "Text-v0", "lr": 0.1, "net": {"width": 64}}}),
        "a plain line <b>of log</b>",
    ]
    for number in range(AGENTS):
        for episode in range(EPISODES):
            who = {"agent_id": f"agent_{number}", "episode_index": episode}
            told = {"type": "step", "action": "Cheyenne", "observation": PROMPT}
            out += [
                json.dumps(who | told | {"step_index": step, "reward": episode + step / 100})
                for step in range(LENGTH)
            ]
            ended = {
                "total_reward": 10 * episode + 0.45,
                "steps": LENGTH,
                "seed": 1000 + episode,
                "mode": "train",
            }
            out.append(json.dumps({"type": "episode"} | who | ended))
    out += [json.dumps({"step": step, "loss/policy": 1 / (1 + step)}) for step in range(50)]
    return [*out, json.dumps({"type": "run_completed", "status": "completed"})]


@pytest.fixture(scope="session")
def told(stack: Stack) -> str:
    """A run that is over and in SQL."""
    run_id = f"told-{uuid.uuid4().hex[:8]}"
    stack.ingest(run_id, "\n".join(lines()))

    def stored() -> bool:
        shown = stack.cli("runs", "show", run_id, "--json").stdout
        return bool(json.loads(shown)["steps"] == AGENTS * EPISODES * LENGTH)

    wait_for(stored, 60)
    return run_id


def chosen(page: Page) -> str:
    """The text of the chosen tab."""
    return page.locator("[role=tab][aria-selected=true]").inner_text()


def test_keys_move_through_agents_and_the_back_button_returns(
    told: str, open_page: Callable[..., Page]
) -> None:
    """The keys j, k, arrows, Home and End choose an agent; going back from another panel shows it again."""
    page = open_page(f"/runs/{told}")
    first = page.get_by_role("tab", name="Live-agent_0-Training", exact=True)
    expect(first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("j")
    expect(page.get_by_role("tab", name="Live-agent_1-Training", exact=True)).to_have_attribute(
        "tabindex", "0"
    )
    page.keyboard.press("k")
    first.focus()
    page.keyboard.press("ArrowDown")
    assert chosen(page) == "Live-agent_1-Training"
    page.keyboard.press("End")  # an agent that only logs metrics stands last
    assert chosen(page) == "Live-default-Training"
    assert page.evaluate("document.activeElement.innerText") == "Live-default-Training"
    page.keyboard.press("Home")
    assert chosen(page) == "Live-agent_0-Training"
    page.get_by_role("link", name="Config", exact=True).click()
    expect(page.locator("#config")).to_contain_text("net.width")
    page.go_back()
    expect(page.locator("#agent")).to_be_visible()


def test_an_episode_opens_from_its_row_and_has_an_address(told: str, open_page: Callable[..., Page]) -> None:
    """A click on an episode shows its steps and rewards; its address alone shows them again."""
    page = open_page(f"/runs/{told}?agent=agent_1&table=episodes")
    page.locator(".table-card").scroll_into_view_if_needed()
    page.locator("#every-episodes .ag-cell[col-id=episode_index]", has_text="29").first.click()
    expect(page.locator("#episode-chip")).to_contain_text("Episode 29")
    page.goto(page.url)
    expect(page.locator("#reward-title")).to_have_text("episode 29")
    cells = page.locator("#every-steps .ag-center-cols-container .ag-cell[col-id=step_index]")
    expect(cells).to_have_text([str(step) for step in range(LENGTH)])
    page.locator("#episode-chip").click()
    expect(page.locator("#episode-chip")).to_be_hidden()


def test_the_layout_is_asked_for_once_while_scripts_are_read(
    told: str, open_page: Callable[..., Page]
) -> None:
    """What Dash asks for when its scripts have run is on its way before, and is not asked for twice."""
    page = open_page(f"/runs/{told}")
    expect(page.locator("#main")).to_contain_text("agent_0")
    requests = "performance.getEntriesByType('resource')"
    asked = page.evaluate(f"{requests}.map((one) => [new URL(one.name).pathname, one.initiatorType])")
    for path in ("/_dash-layout", "/_dash-dependencies"):
        assert [kind for name, kind in asked if name == path] == ["link"]


def test_nothing_is_loaded_that_no_page_uses(told: str, open_page: Callable[..., Page]) -> None:
    """Charts and tables, for which Dash has coroutines, are drawn without its polyfill and its socket."""
    page = open_page(f"/runs/{told}?agent=agent_0&table=episodes")
    expect(page.locator(".js-plotly-plot .scatterlayer .trace").first).to_be_attached()
    expect(page.locator("#every-episodes .ag-row").first).to_be_attached()
    scripts = page.evaluate("[...document.scripts].map((one) => one.src)")
    assert any("dash_renderer" in src for src in scripts)
    assert not any("polyfill" in src for src in scripts)
    assert "websocket" not in json.loads(page.locator("#_dash-config").text_content() or "")


def test_long_texts_are_readable_in_full(told: str, open_page: Callable[..., Page]) -> None:
    """A language model's turn is cut in the table and whole in the dialog."""
    page = open_page(f"/runs/{told}?rows=newest")
    page.locator(".table-card").scroll_into_view_if_needed()
    page.locator("#newest-steps .ag-cell[col-id=observation]").first.click()
    expect(page.locator("#text-body")).to_have_text(PROMPT)


def test_a_step_of_the_table_is_shown_until_the_newest_is_wanted(
    told: str, open_page: Callable[..., Page]
) -> None:
    """A click on a step shows it in place of the newest one; one button returns to live."""
    page = open_page(f"/runs/{told}?agent=agent_0&episode=3")
    page.locator(".table-card").scroll_into_view_if_needed()
    page.locator("#every-steps .ag-row[row-index='7'] .ag-cell[col-id=step_index]").click()
    expect(page.locator("#now-title")).to_have_text("Step 7 of episode 3")
    expect(page.locator("#now-reward")).to_have_text("3.07")
    page.get_by_role("button", name="Back to live").click()
    expect(page.locator("#now-title")).to_have_text("Newest step")
    expect(page.locator("#now-episode")).to_have_text("29")


def test_the_tables_are_copied_and_downloaded(
    told: str, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    """CSV holds every row of the agent, in order."""
    page = open_page(f"/runs/{told}?agent=agent_2")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    download.value.save_as(tmp_path / "steps.csv")
    rows = list(csv.DictReader((tmp_path / "steps.csv").open(encoding="utf-8", newline="")))
    assert [(int(row["episode_index"]), int(row["step_index"])) for row in rows] == [
        (episode, step) for episode in range(EPISODES) for step in range(LENGTH)
    ]
    assert {row["agent_id"] for row in rows} == {"agent_2"}


def test_runs_are_filtered_sorted_and_linked(told: str, open_page: Callable[..., Page]) -> None:
    """`/` goes to the filter; filter, status and order stand in the address."""
    page = open_page("/")
    expect(page.get_by_role("link", name=told)).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type(told)
    page.get_by_role("button", name=re.compile("^Completed")).click()
    page.get_by_role("button", name="Steps", exact=True).click()
    for word in (f"q={told}", "status=completed", "sort=-Steps"):
        assert word in page.url
    page.reload()
    expect(page.locator(".runs-grid .ag-center-cols-container .ag-row")).to_have_count(1)
    expect(page.locator(".sort[data-by=desc]")).to_have_text("Steps")


def test_what_was_typed_stays_on_its_page(told: str, open_page: Callable[..., Page]) -> None:
    """A link that is followed before the filter was applied leads to an address without it; back has it."""
    page = open_page("/")
    link = page.get_by_role("link", name=told)
    at = link.bounding_box()
    page.locator("#search-q").click()
    page.keyboard.type("told")
    page.mouse.click(at["x"] + 5, at["y"] + 5)
    expect(page.locator("#main")).to_contain_text("agent_0")
    page.wait_for_timeout(300)
    assert "q=" not in page.url
    page.go_back()
    expect(page.locator("#search-q")).to_have_value("told")


def test_metrics_and_log_of_a_run(told: str, open_page: Callable[..., Page]) -> None:
    """Each metric is a chart; the log shows lines that are no event, as text."""
    page = open_page(f"/runs/{told}?panel=metrics")
    chart = page.locator(".metric", has_text="policy")
    expect(chart.locator(".trace")).to_have_count(1)
    assert chart.locator(".js-plotly-plot").evaluate("(el) => el.data[0].y.length") == 50
    page.get_by_role("link", name="Log", exact=True).click()
    expect(page.locator("#log")).to_contain_text("a plain line <b>of log</b>")


def test_hundreds_of_agents_are_a_list_to_search(stack: Stack, open_page: Callable[..., Page]) -> None:
    """With three hundred agents the search narrows the tabs, and the chosen tab is scrolled into view."""
    run_id = f"many-{uuid.uuid4().hex[:8]}"
    many = [{"type": "step", "agent_id": f"w{i}", "step_index": 0, "reward": i} for i in range(300)]
    stack.ingest(run_id, "\n".join(map(json.dumps, many)))
    page = open_page(f"/runs/{run_id}?agent=w250")
    expect(page.locator(".agents-head")).to_contain_text("300")
    expect(page.get_by_role("tab", name="Live-w250-Training", exact=True)).to_be_in_viewport()
    page.keyboard.press("/")
    page.keyboard.type("w29")
    expect(page.get_by_role("tab")).to_have_count(11)
    page.get_by_role("tab", name="Live-w299-Training", exact=True).click()
    expect(page.locator("#now-reward")).to_have_text("299")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_are_readable(
    told: str, open_page: Callable[..., Page], scheme: str
) -> None:
    """Every text on the page has a contrast of at least 4.5 to what is behind it (WCAG AA)."""
    page = open_page(f"/runs/{told}?rows=newest", color_scheme=scheme)
    expect(page.locator("html")).to_have_attribute("data-bs-theme", scheme)
    page.locator(".table-card").scroll_into_view_if_needed()
    expect(page.locator("#newest-steps .ag-row").nth(2)).to_be_visible()
    assert page.evaluate(CONTRAST) == []


CONTRAST = """() => {
  const parse = (c) => { const [r, g, b, a = 1] = c.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; })
    .reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const ground = (el) => {
    let layers = [], node = el;
    for (; node; node = node.parentElement) { const c = parse(getComputedStyle(node).backgroundColor); layers.push(c); if (c[3] === 1) break; }
    return layers.reverse().reduce((under, [r, g, b, a]) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a)), [255, 255, 255]);
  };
  const bad = [];
  for (const el of document.querySelectorAll("body *")) {
    const own = [...el.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !el.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || el.closest("[aria-hidden=true]")) continue;
    const svg = el instanceof SVGElement, ink = parse(getComputedStyle(el)[svg ? "fill" : "color"]), paper = ground(el);
    const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) bad.push([el.tagName, el.className, el.textContent.slice(0, 30), (a + .05) / (b + .05)]);
  }
  return bad;
}"""  # noqa: E501 - a formula reads better in one piece


def test_a_phone_shows_everything_in_one_column(told: str, open_page: Callable[..., Page]) -> None:
    """No page is wider than a phone."""
    for path in ("/", f"/runs/{told}", f"/runs/{told}?panel=metrics", f"/runs/{told}?panel=log"):
        page = open_page(path, viewport={"width": 390, "height": 844})
        expect(page.locator("main .card:visible, main .metrics:visible").first).to_be_visible()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_settings_of_the_page_are_kept(told: str, open_page: Callable[..., Page]) -> None:
    """This browser keeps the theme and the number of rows that were set, also after a reload."""
    page = open_page(f"/runs/{told}", color_scheme="light")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Theme").select_option("dark")
    page.get_by_label("Rows kept").select_option("50")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.get_by_role("button", name="Newest").click()
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    page.get_by_role("button", name="Copy TSV").click()
    page.wait_for_function("() => window.copied")
    assert len(page.evaluate("window.copied").splitlines()) == 51


def test_without_motion_nothing_moves(told: str, open_page: Callable[..., Page]) -> None:
    """prefers-reduced-motion switches every animation off."""
    page = open_page(f"/runs/{told}", reduced_motion="reduce")
    expect(page.locator("#run-name")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0
