"""Walking through an episode of the past, picture by picture."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Stack

pytestmark = pytest.mark.browser

EPISODES, LENGTH = 3, 4
TRAINING = f"""
for episode in range({EPISODES}):
    for step in range({LENGTH}):
        emit(type="step", agent_id="ada", episode_index=episode, step_index=step, reward=step, action=step,
             render_payload={{"mode": "rgb", "rgb": [[[40 * episode, 50 * step, 200]] * 8] * 6}})
        time.sleep(0.15)  # slower than pictures are thinned
    emit(type="episode", agent_id="ada", episode_index=episode, total_reward=episode, steps={LENGTH})
"""
PIXEL = """(wanted) => {
  const img = [...document.querySelectorAll(".frame img")].find((el) => el.checkVisibility());
  if (!img?.complete || !img.naturalWidth) return false;
  const canvas = document.createElement("canvas");
  canvas.getContext("2d").drawImage(img, 0, 0);
  return String([...canvas.getContext("2d").getImageData(0, 0, 1, 1).data.slice(0, 3)]) === wanted;
}"""


def shows(page: Page, episode: int, step: int) -> None:
    """Expect the step with its own picture, drawn without smoothing."""
    expect(page.locator("#now-title")).to_have_text(f"Step {step} of episode {episode}")
    expect(page.locator("#now-action")).to_have_text(str(step))
    page.wait_for_function(PIXEL, arg=f"{40 * episode},{50 * step},200")
    expect(page.locator("#frame img")).to_have_css("image-rendering", "pixelated")
    expect(page.locator("#frame .of")).to_have_text("")


def test_an_episode_is_walked_picture_by_picture(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """Rows, keys, buttons and the address open a step with its picture; one button returns to live."""
    stack.run(run_id, TRAINING).wait(60)
    page = open_page(f"/runs/{run_id}?agent=ada&table=episodes")
    expect(page.locator("#count-stored")).to_have_attribute("data-value", str(EPISODES * LENGTH))
    page.wait_for_function(PIXEL, arg=f"{40 * (EPISODES - 1)},{50 * (LENGTH - 1)},200")
    page.locator(".table-card").scroll_into_view_if_needed()
    page.locator("#every-episodes .ag-cell[col-id=episode_index]", has_text="1").click()
    shows(page, 1, 0)
    page.locator("#now-title").click()
    for step in range(1, LENGTH):
        page.keyboard.press("ArrowRight")
        shows(page, 1, step)
    page.keyboard.press("ArrowRight")  # into the next episode
    shows(page, 2, 0)
    page.get_by_role("button", name="Step before").click()
    shows(page, 1, LENGTH - 1)
    page.get_by_role("button", name="Step before").click()
    shows(page, 1, LENGTH - 2)
    page.locator(".table-card").scroll_into_view_if_needed()
    first = page.locator("#every-steps .ag-row[row-index='0']")
    expect(first.locator("[col-id=episode_index]")).to_have_text("1")  # the rows follow a moment later
    first.locator("[col-id=step_index]").click()
    shows(page, 1, 0)
    page.keyboard.press("ArrowDown")
    shows(page, 1, 1)
    page.reload()
    shows(page, 1, 1)
    page.go_back()
    shows(page, 1, LENGTH - 2)
    page.get_by_role("button", name="Back to live").click()
    expect(page.locator("#now-title")).to_have_text("Newest step")
    page.wait_for_function(PIXEL, arg=f"{40 * (EPISODES - 1)},{50 * (LENGTH - 1)},200")


def test_a_step_without_a_picture_shows_its_neighbours_and_says_so(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """A step without a picture shows a near one and names its step; without any, one sentence says so."""
    seldom = "if step == 2 and episode != 1: line['render_payload'] = picture"
    source = f"""
    for episode in range(3):
        for step in range({LENGTH}):
            line = dict(type="step", agent_id="ada", episode_index=episode, step_index=step, reward=step)
            picture = {{"mode": "rgb", "rgb": [[[40 * episode, 50 * step, 200]] * 8] * 6}}
            {seldom}
            emit(**line)
            time.sleep(0.15)
    """
    stack.run(run_id, source).wait(60)
    page = open_page(f"/runs/{run_id}?agent=ada&episode=2")
    expect(page.locator("#now-title")).to_have_text("Step 0 of episode 2")
    page.wait_for_function(PIXEL, arg="80,100,200")
    expect(page.locator("#frame .of")).to_have_text("picture of step 2")
    page.goto(page.url.replace("episode=2", "episode=1"))
    expect(page.locator("#frame")).to_have_text("No picture was sent near this step.")
    page.get_by_role("button", name="Back to live").click()
    page.wait_for_function(PIXEL, arg="80,100,200")
    expect(page.locator("#frame .of")).to_have_text("")


def test_a_past_step_stays_while_training_goes_on(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """A past step stays on the page while new steps arrive, and the button counts them."""
    worker = stack.run(run_id, TRAINING.replace(f"range({EPISODES})", "range(40)"))
    page = open_page(f"/runs/{run_id}?agent=ada")
    expect(page.locator("#now-episode")).to_have_text(re.compile(r"[1-9]"))
    page.goto(f"{page.url}&episode=0")
    shows(page, 0, 0)
    expect(page.get_by_role("button", name=re.compile(r"Back to live · \d\d+ new steps"))).to_be_visible()
    shows(page, 0, 0)
    worker.terminate()
    worker.wait(30)


def test_an_episode_that_is_yet_to_come_is_shown_when_it_is_there(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """A page that is opened at a later episode says so, and shows the episode once it is there."""
    go = stack.folder / f"{run_id}.go"
    waits = f"import pathlib\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.1)\n"
    worker = stack.run(run_id, TRAINING + waits + TRAINING.replace(f"range({EPISODES})", f"[{EPISODES}]"))
    page = open_page(f"/runs/{run_id}?agent=ada&episode={EPISODES}")
    expect(page.locator(".time-said")).to_contain_text(f"Nothing of the run lies at episode:{EPISODES}")
    go.touch()
    expect(page.locator("#now-title")).to_have_text(f"Step 0 of episode {EPISODES}")
    worker.wait(30)
