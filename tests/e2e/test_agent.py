"""What a person does with an agent's charts, numbers and dead letters."""

from __future__ import annotations

import csv
import json
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import Stack
from tests.support.processes import wait_for

pytestmark = pytest.mark.browser

EPISODES, LENGTH, BEST = 30, 6, 17
HOSTILE = "<img src=x onerror=alert(1)>"


def lines() -> str:
    """Thirty episodes, the best one in their middle; a hostile name; two lines that cannot be used."""
    out: list[object] = [{"type": "run_started", "config": {"env_id": "Lake-v1", "total_episodes": 60}}]
    for episode in range(EPISODES):
        who = {"agent_id": "ada", "episode_index": episode}
        for step in range(LENGTH):
            numbers = {"epsilon": 1 / (1 + episode), "loss": episode + step / 10, HOSTILE: 1.0}
            told = {"type": "step", "step_index": step, "reward": episode / 10, "action": f"a{step}"}
            out.append(who | told | numbers)
        value = 99.0 if episode == BEST else float(episode)
        out.append(
            who | {"type": "episode", "total_reward": value, "steps": LENGTH, "success": episode % 2 == 0}
        )
    out.append({"type": "step", "agent_id": "ada", "reward": HOSTILE})
    text = [json.dumps(line) for line in out]
    return "\n".join([*text, '{"type": "step", <b>', json.dumps({"type": "run_completed"})])


@pytest.fixture(scope="module")
def trained(stack: Stack) -> str:
    """A run that is over and in SQL."""
    run_id = f"agent-{uuid.uuid4().hex[:8]}"
    stack.ingest(run_id, lines())

    def stored() -> bool:
        told = json.loads(stack.cli("runs", "show", run_id, "--json").stdout)
        return bool(told["episodes"] == EPISODES and told["dead_letters"] == 2)

    wait_for(stored, 90)
    return run_id


def plot(page: Page, id: str) -> Locator:
    """Scroll a chart into view and wait until its lines are drawn."""
    found = page.locator(f"#{id} .js-plotly-plot")
    expect(found).to_be_attached()
    found.evaluate("el => el.scrollIntoView({block: 'center'})")
    expect(found.locator(".scatterlayer path").first).to_be_attached()
    return found


def test_the_page_answers_what_a_researcher_asks(trained: str, open_page: Callable[..., Page]) -> None:
    """The page names the best episode with its length, the success rate, the progress and unusable lines."""
    page = open_page(f"/runs/{trained}?agent=ada")
    expect(page.locator("#best")).to_have_text(f"best 99 in episode {BEST}, {LENGTH} steps")
    expect(page.locator("#number-success")).to_have_text("50 %")
    expect(page.locator("#number-progress")).to_have_text("50 %")
    expect(page.locator("#number-length")).to_have_text(str(LENGTH))
    expect(page.locator("#flow")).to_have_text("2 lines could not be used")
    page.locator("#best").click()
    expect(page.locator("#now-title")).to_have_text(f"Step 0 of episode {BEST}")


def test_an_episode_and_a_step_are_gone_to(trained: str, open_page: Callable[..., Page]) -> None:
    """The fields Episode and Step open a step; they show the address, also after a reload and going back."""
    page = open_page(f"/runs/{trained}?agent=ada")
    for name, value in (("Episode", "20"), ("Step", "4")):
        field = page.get_by_role("spinbutton", name=name, exact=True)
        field.fill(value)
        field.press("Enter")
    expect(page.locator("#now-title")).to_have_text("Step 4 of episode 20")
    expect(page.locator("#now-action")).to_have_text("a4")
    page.reload()
    expect(page.get_by_role("spinbutton", name="Episode", exact=True)).to_have_value("20")
    expect(page.get_by_role("spinbutton", name="Step", exact=True)).to_have_value("4")
    page.go_back()
    expect(page.get_by_role("spinbutton", name="Step", exact=True)).to_have_value("")


def test_wrong_places_are_said_and_lead_nowhere(trained: str, open_page: Callable[..., Page]) -> None:
    """A step or an episode that is not there leaves the page where it is; a sentence says so meanwhile."""
    page = open_page(f"/runs/{trained}?agent=ada&episode=20")
    expect(page.locator("#now-title")).to_have_text("Step 0 of episode 20")

    def go(name: str, value: str) -> None:
        field = page.get_by_role("spinbutton", name=name, exact=True)
        field.fill(value)
        field.press("Enter")

    for wrong, words in (
        (str(LENGTH), f"Episode 20 has no step {LENGTH}."),
        ("2.5", "'20/2.5' is no whole number from 0"),
    ):
        go("Step", wrong)
        expect(page.get_by_text(words)).to_be_visible()
        expect(page.locator("#now-title")).to_have_text("Step 0 of episode 20")
    go("Step", "4")
    expect(page.locator("#now-title")).to_have_text("Step 4 of episode 20")
    page.goto(page.url.partition("?")[0] + "?agent=ada")
    go("Episode", "500")
    expect(page.get_by_text("Nothing of the run lies at episode:500")).to_be_visible()
    go("Episode", "")
    expect(page.get_by_text("Nothing of the run lies at episode:500")).to_be_hidden()
    go("Step", "7")
    expect(page.get_by_text("A step is of an episode")).to_be_visible()


def test_charts_of_numbers_are_chosen_by_chips(trained: str, open_page: Callable[..., Page]) -> None:
    """Pressing a chip adds a chart and puts it in the address; markup in a name is shown as text."""
    page = open_page(f"/runs/{trained}?agent=ada&metric=loss")
    chart = plot(page, "metric-0")
    assert chart.evaluate("el => el.data[0].y.length") == EPISODES * LENGTH
    chip = page.locator("#metric-chips").get_by_role("button", name=HOSTILE, exact=True)
    chip.click()
    expect(chip).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#metric-1 h3")).to_have_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0
    expect(page).to_have_url(re.compile("metric=loss&metric=%3Cimg|metric=loss&metric=%3C"))


def test_charts_are_drawn_as_the_address_wants(trained: str, open_page: Callable[..., Page]) -> None:
    """The address sets a chart's axis, smoothing and scale; the inputs show them; the browser keeps them."""
    page = open_page(f"/runs/{trained}?agent=ada&x=step&smooth=ema:0.9&log=1&metric=loss")
    chart = plot(page, "curve")
    expect(chart.locator(".gtitle", has_text="exponential 0.9")).to_be_attached()
    assert chart.evaluate("el => [el.data[0].x[0], el.layout.yaxis.type]") == [LENGTH, "log"]
    expect(page.get_by_label("X axis")).to_have_value("step")
    page.get_by_label("X axis").select_option("relative")
    expect(page).to_have_url(re.compile("x=relative"))
    page.wait_for_function(
        "() => document.querySelector('#curve .js-plotly-plot')?.layout.title.text.includes(' over time')"
    )
    page.goto(page.url.partition("?")[0] + "?agent=ada")
    expect(page).to_have_url(re.compile("x=relative.*smooth=ema"))
    expect(page.get_by_label("Smoothing")).to_have_value("ema:0.9")
    page.get_by_label("Smoothing").select_option("default")
    page.get_by_label("X axis").select_option("default")
    expect(plot(page, "curve").locator(".gtitle", has_text="mean of 100")).to_be_attached()


def test_a_click_opens_an_episode_and_a_double_click_does_not(
    trained: str, open_page: Callable[..., Page]
) -> None:
    """A click opens the episode under the pointer; a double click only shows all of a zoomed chart again."""
    for _ in range(3):  # where a machine is so busy that two clicks are far apart, they are two
        page = open_page(f"/runs/{trained}?agent=ada&zoom=episode:5,25")
        chart = plot(page, "curve")
        assert chart.evaluate("el => el.layout.xaxis.range") == [5, 25]
        area = chart.locator(".nsewdrag").first
        area.dblclick()
        with suppress(AssertionError):
            expect(page).not_to_have_url(re.compile("zoom="), timeout=10_000)
            page.wait_for_timeout(1000)
            if "episode=" not in page.url:
                break
    expect(page).not_to_have_url(re.compile("zoom=|episode="))
    box = area.bounding_box()
    assert box is not None
    for further in (0, 20, 40):  # a redraw between the pointer's move and the click forgets the point
        area.click(position={"x": box["width"] / 2 + further, "y": box["height"] / 2})
        with suppress(AssertionError):
            expect(page).to_have_url(re.compile(r"episode=\d+"), timeout=10_000)
            break
    expect(page).to_have_url(re.compile(r"episode=\d+"))
    page.go_back()
    expect(page).not_to_have_url(re.compile("episode="))


def drag(page: Page, id: str) -> None:
    """Drag over the middle of a chart."""
    area = plot(page, id).locator(".nsewdrag").first
    area.hover()  # when it stands still: what comes above it moves it
    box = area.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=5)
    page.mouse.up()


def test_a_drag_zooms_and_the_back_button_undoes_it(trained: str, open_page: Callable[..., Page]) -> None:
    """Dragging over a chart puts the chosen range and its axis in the address; going back removes it."""
    page = open_page(f"/runs/{trained}?agent=ada")
    drag(page, "curve")
    expect(page).to_have_url(re.compile("zoom=episode"))
    page.go_back()
    expect(page).not_to_have_url(re.compile("zoom="))


def test_a_zoom_is_not_lost_where_another_chart_is_drawn(
    trained: str, open_page: Callable[..., Page]
) -> None:
    """A zoom comes to the address also where another chart calls Python before the answer is there."""
    page = open_page(f"/runs/{trained}?agent=ada")
    plot(page, "reward")
    page.evaluate("""() => {
      const { fetch } = window;
      const late = (...of) => new Promise((done) => setTimeout(() => done(fetch(...of)), 1000));
      window.fetch = (...of) => (String(of[0]).includes("_dash-update-component") ? late : fetch)(...of);
      document.querySelector("#curve .js-plotly-plot").on("plotly_relayout", () => setTimeout(() =>
        Plotly.relayout(document.querySelector("#reward .js-plotly-plot"), { autosize: true }), 100));
    }""")
    drag(page, "curve")
    expect(page).to_have_url(re.compile("zoom=episode"))


def test_a_chart_fills_the_window_and_is_downloaded(
    trained: str, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    """The address opens a chart in full screen, Escape closes it; CSV has every point, PNG the picture."""
    page = open_page(f"/runs/{trained}?agent=ada&full=episodes:episode_return")
    expect(page.locator(".metric.full")).to_be_visible()
    box = page.locator(".metric.full").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (1280, 720)
    with page.expect_download() as download:
        page.locator(".metric.full").get_by_role("link", name="CSV").click()
    download.value.save_as(tmp_path / "returns.csv")
    rows = list(csv.DictReader((tmp_path / "returns.csv").open(encoding="utf-8", newline="")))
    assert [float(row["episode_return"]) for row in rows][BEST] == 99.0
    assert len(rows) == EPISODES
    with page.expect_download() as image:
        page.locator(".metric.full").hover()
        page.locator(".metric.full .modebar-btn").first.click()
    assert image.value.suggested_filename == "episode_return.png"
    page.keyboard.press("Escape")
    expect(page.locator(".metric.full")).to_have_count(0)


def test_own_numbers_stand_among_the_big_ones(trained: str, open_page: Callable[..., Page]) -> None:
    """A number that the viewer adds stands in the address and is kept for the next run in this browser."""
    page = open_page(f"/runs/{trained}?agent=ada")
    page.locator(".own-numbers summary").click()
    page.get_by_label("loss", exact=True).check()
    expect(page).to_have_url(re.compile("number=loss"))
    own = page.locator(".own-number", has_text="loss")
    expect(own.locator("dd")).to_have_text("29.5")
    page.goto(page.url.partition("?")[0] + "?agent=ada")
    expect(page).to_have_url(re.compile("number=loss"))
    expect(own.locator("dd")).to_have_text("29.5")


def test_columns_that_are_empty_for_the_whole_run_are_hidden(
    trained: str, open_page: Callable[..., Page]
) -> None:
    """The table of steps hides info and observation when no step has them."""
    page = open_page(f"/runs/{trained}?agent=ada&table=steps")
    page.locator(".table-card").scroll_into_view_if_needed()
    heads = page.locator("#every-steps .ag-header-cell")
    expect(heads.filter(has_text="Action")).to_have_count(1)
    expect(heads.filter(has_text="Observation")).to_have_count(0)
    expect(heads.filter(has_text="Info")).to_have_count(0)


def test_dead_letters_are_a_click_away(trained: str, open_page: Callable[..., Page]) -> None:
    """The tab of dead letters shows their lines as text, filters by reason and names `dlq redrive`."""
    page = open_page(f"/runs/{trained}?agent=ada")
    page.get_by_role("link", name="2 lines could not be used").click()
    rows = page.locator("#letters .ag-center-cols-container .ag-row")
    expect(rows).to_have_count(2)
    expect(page.get_by_text(f"stepstream dlq redrive {trained}", exact=True)).to_be_visible()
    page.locator("#letters .ag-cell[col-id=raw]", has_text="<b>").click()
    expect(page.locator("#text-body")).to_have_text('{"type": "step", <b>')
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.locator("#letter-reasons button").first.click()
    expect(page).to_have_url(re.compile("reason="))
    expect(rows).to_have_count(1)
    assert page.locator("img[src=x]").count() == 0


def test_a_run_without_letters_has_no_such_tab(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """A run without dead letters has no such tab, and that tab's address says so."""
    stack.ingest(run_id, json.dumps({"type": "step", "reward": 1}))
    page = open_page(f"/runs/{run_id}")
    expect(page.locator("#flow")).to_contain_text("stored")
    expect(page.get_by_role("link", name="Dead letters")).to_be_hidden()
    page.goto(f"{page.url.partition('?')[0]}?panel=dead-letters")
    expect(page.get_by_text("Every line of this run could be used.")).to_be_visible()


def test_a_run_of_metrics_alone_opens_on_its_charts(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """A run of metrics alone opens on their charts, below the newest value of the first few."""
    stack.ingest(run_id, "\n".join(json.dumps({"step": n, "train/loss": 1 / (1 + n)}) for n in range(40)))
    page = open_page(f"/runs/{run_id}")
    expect(page.locator(".own-number", has_text="train/loss").locator("dd")).to_have_text("0.025")
    chart = plot(page, "metric-0")
    assert chart.evaluate("el => el.data[0].y.length") == 40
    expect(page.locator("#curve")).to_be_hidden()
    expect(page.locator("#number-steps")).to_be_hidden()


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"mode": "grid", "grid": ["SF", "HG"], "agent_position": [0, 1]}, ".cells .here"),
        ({"mode": "ansi", "text": "\u001b[31mred\u001b[0m <b>"}, "#frame pre"),
        ({"mode": "rgb", "rgb": [[[200, 0, 0]] * 4] * 4}, "#frame img[src^='data:image']"),
    ],
)
def test_the_newest_picture_of_each_kind(
    stack: Stack, open_page: Callable[..., Page], run_id: str, payload: dict[str, object], shown: str
) -> None:
    """The page shows the newest picture as a grid of cells, as a terminal's text or as an image."""
    told = {"type": "step", "agent_id": "ada", "reward": 1, "step_index": 0, "render_payload": payload}
    stack.run(run_id, f"emit(**{told!r})").wait(60)
    page = open_page(f"/runs/{run_id}?agent=ada")
    expect(page.locator(shown).first).to_be_visible()
    assert page.locator("#frame b").count() == 0


def test_title_and_icon_say_the_status(trained: str, open_page: Callable[..., Page]) -> None:
    """The page's title and icon show the run's status."""
    page = open_page(f"/runs/{trained}?agent=ada")
    expect(page).to_have_title(re.compile(rf"^✓ ada · .*{trained}"))
    icon = page.locator("link[rel=icon]")
    expect(icon).to_have_attribute("href", re.compile(r"^data:image/svg\+xml"))
