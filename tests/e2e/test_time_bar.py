"""The time bar: where a viewer stands in a run, in a real browser, against the whole stack."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Stack
from tests.support.processes import wait_for

pytestmark = pytest.mark.browser

EPISODES, LENGTH = 6, 10
TRAINING = f"""
emit(type="run_started", agent_id="ada")
for episode in range(EPISODES):
    for step in range({LENGTH}):
        emit(type="step", agent_id="ada", episode_index=episode, step_index=step, reward=step, action=episode, td=episode * {LENGTH} + step,
             render_payload={{"mode": "rgb", "rgb": [[[40 * episode % 256, 20 * step, 200]] * 8] * 6}})
        time.sleep(PAUSE)
    emit(type="episode", agent_id="ada", episode_index=episode, total_reward=[3, 9, 1, 4, 5, 2][episode % 6], steps={LENGTH})
    if episode == 3:
        emit(type="checkpoint_saved", agent_id="ada", path="model.pt")
        print("{{broken", flush=True)
"""  # noqa: E501


def training(episodes: int = EPISODES, pause: float = 0.12) -> str:
    """A worker's program that acts more slowly than pictures are thinned."""
    return TRAINING.replace("EPISODES", str(episodes)).replace("PAUSE", str(pause))


@pytest.fixture
def trained(stack: Stack, run_id: str) -> str:
    """A run that has ended and is stored completely."""
    stack.run(run_id, training()).wait(60)
    wait_for(lambda: shown(stack, run_id) == EPISODES * LENGTH, 60, "the run is not stored")
    return run_id


def shown(stack: Stack, run_id: str) -> int:
    """How many steps of a run SQL has."""
    steps: int = json.loads(stack.cli("runs", "show", run_id, "--json").stdout)["steps"]
    return steps


@pytest.fixture
def look(open_page: Callable[..., Page]) -> Callable[[str], Page]:
    """Opens a page high enough to show its tables, as only visible parts are drawn."""
    return lambda path: open_page(path, viewport={"width": 1280, "height": 1700})


def bar(page: Page, state: str) -> None:
    """Expect the bar to show a state, in words and as an attribute."""
    expect(page.locator("[data-time-state]")).to_have_attribute("data-time-state", state)
    expect(page.locator(".time-word")).to_have_text(state.capitalize())


def at(page: Page, step: int, finished: int | None = None) -> None:
    """Expect the page to show this step of the run: number, episode, action, picture, table and curve."""
    episode, own = divmod(step, LENGTH)
    expect(page.locator("#now-title")).to_have_text(f"Step {own} of episode {episode}")
    expect(page.locator(".now .step")).to_have_text(f"Step{own}")
    expect(page.locator(".now .episode")).to_have_text(f"Episode{episode}")
    expect(page.locator("#now-action")).to_have_text(str(episode))
    expect(page.locator("#number-steps")).to_have_text(str(step + 1))
    page.wait_for_function(PIXEL, arg=[episode, own])
    newest = page.locator("#newest-steps .ag-row[row-index='0'] .ag-cell[col-id=step_index]")
    expect(newest).to_have_text(str(own))
    page.wait_for_function(
        "(n) => { const [line] = document.querySelector('#curve .js-plotly-plot')?.data || []; return (line?.x || []).length === n; }",  # noqa: E501
        arg=episode if finished is None else finished,
    )


PIXEL = """([episode, step]) => {
  const img = [...document.querySelectorAll(".frame img")].find((el) => el.checkVisibility());
  if (!img?.complete || !img.naturalWidth) return false;
  const other = document.querySelector("#frame .of").textContent.match(/^picture of step (\\d+)$/);
  const canvas = document.createElement("canvas"); // a slow machine sends fewer pictures
  canvas.getContext("2d").drawImage(img, 0, 0);
  const pixel = [...canvas.getContext("2d").getImageData(0, 0, 1, 1).data.slice(0, 3)];
  return String(pixel) === String([40 * episode % 256, 20 * (other ? Number(other[1]) : step), 200]);
}"""


DRAWN = """() => !document.querySelector(".place:empty") &&
  [...document.querySelectorAll(".dash-graph")].every(
  (el) => !el.checkVisibility() || el.querySelector(".main-svg"))"""


def test_a_moment_of_the_address_is_shown_to_whoever_opens_it(
    look: Callable[[str], Page], trained: str
) -> None:
    """A position in the address opens the same frame, table, curve and counters; old addresses work, too."""
    page = look(f"/runs/{trained}?agent=ada")
    bar(page, "live")
    for words, step in (
        ("step:23", 23),
        ("beginning", 0),
        ("episode:2", 20),
        ("episode:2%2B3", 23),
        ("best", 10),
        ("worst-1", 19),
        ("latest", 50),
    ):
        page = look(f"/runs/{trained}?agent=ada&at={words}")
        bar(page, "paused")
        at(page, step)
    page = look(f"/runs/{trained}?agent=ada&episode=3&step=4&rows=newest")
    at(page, 34)
    page = look(f"/runs/{trained}?agent=ada&at=step:999")
    expect(page.locator(".time-said")).to_contain_text("steps 0 to 59")


def press(page: Page, *keys: str) -> None:
    """Press keys while no element has the focus."""
    page.evaluate("document.activeElement?.blur()")
    for key in keys:
        page.keyboard.press(key)


def test_keys_walk_by_step_and_episode_and_back_to_live(look: Callable[[str], Page], trained: str) -> None:
    """Arrow keys move by a step, with Shift by an episode; Home goes to the start, End back to live."""
    page = look(f"/runs/{trained}?agent=ada&at=step:23")
    at(page, 23)
    press(page, "ArrowRight")
    at(page, 24)
    press(page, "ArrowLeft")
    at(page, 23)
    press(page, "Shift+ArrowRight")
    at(page, 30)
    press(page, "Shift+ArrowLeft")
    at(page, 20)
    press(page, "ArrowLeft")
    at(page, 19)  # over the end of an episode
    press(page, "Shift+ArrowLeft")
    at(page, 10)
    press(page, "Home")
    at(page, 0)
    expect(page).to_have_url(re.compile(r"at=step%3A0"))
    press(page, "5")
    expect(page.locator(".time-options [aria-pressed=true]")).to_have_text("2×")
    press(page, "End")
    bar(page, "live")
    expect(page.locator("#now-title")).to_have_text("Newest step")
    expect(page).not_to_have_url(re.compile(r"at="))
    press(page, "?")
    expect(page.locator("#keys-dialog")).to_contain_text("Begin and end of the loop")


def test_keys_walk_by_training_step(stack: Stack, look: Callable[[str], Page], run_id: str) -> None:
    """Control with an arrow goes to the next training step of a model, or back; the bar counts in them."""
    source = """
        import stepstream
        for sample in range(6):
            step = 10 * (sample // 2)
            stepstream.log_rollout("2+2?", "4", rewards=1, sample=sample, step=step, agent_id="ada")
            time.sleep(0.05)
        """
    stack.run(run_id, source).wait(60)
    wait_for(lambda: shown(stack, run_id) == 6, 60, "the run is not stored")
    page = look(f"/runs/{run_id}?agent=ada&at=step:0")
    bar(page, "paused")
    for key, episode in (("Right", 2), ("Right", 4), ("Left", 2)):
        press(page, f"Control+Arrow{key}")
        expect(page.locator(".now .episode")).to_have_text(f"Episode{episode}")
    page.locator("#time-axis").select_option("training")
    expect(page.locator(".time-where")).to_have_text("Training step 10")


def test_it_plays_pauses_and_comes_to_the_end(look: Callable[[str], Page], trained: str) -> None:
    """Space plays from the current step at the chosen speed; playing pauses at the end of the run."""
    page = look(f"/runs/{trained}?agent=ada&at=step:30&speed=0.5")
    at(page, 30)
    press(page, "Space")
    bar(page, "replay")
    expect(page.locator(".time-where")).to_have_text(re.compile(r"Step 3[2-9]"))
    press(page, "Space")
    bar(page, "paused")
    step = int((page.locator(".time-where").text_content() or "").removeprefix("Step "))
    assert 30 < step < 60
    at(page, step)
    press(page, "9", "Space")
    expect(page.locator(".time-where")).to_have_text("Step 59")
    bar(page, "paused")
    at(page, 59, finished=EPISODES)


def test_a_range_is_played_again_and_again(look: Callable[[str], Page], trained: str) -> None:
    """The keys [ and ] set a range, which stands in the address and is played repeatedly until removed."""
    page = look(f"/runs/{trained}?agent=ada&at=step:20&speed=10")
    at(page, 20)
    press(page, "[")
    expect(page).to_have_url(re.compile(r"loop=step%3A20\.\.end"))
    page.goto(page.url.replace("at=step%3A20", "at=step%3A26").replace("at=step:20", "at=step:26"))
    at(page, 26)
    press(page, "]")
    expect(page).to_have_url(re.compile(r"loop=step%3A20\.\.step%3A26"))
    page.evaluate(
        """() => { window.seen = new Set(); new MutationObserver(() => window.seen.add(document.querySelector(".time-where").textContent))
             .observe(document.querySelector(".time-where"), { childList: true, characterData: true, subtree: true }); }"""  # noqa: E501
    )
    press(page, "Space")
    page.wait_for_function("() => window.seen.has('Step 20') && window.seen.size > 2")
    bar(page, "replay")
    assert page.evaluate("[...window.seen].every((words) => /^Step 2[0-9]$/.test(words))")
    page.get_by_role("button", name="Loop ✕").click()
    expect(page.locator(".time-where")).to_have_text("Step 59")
    bar(page, "paused")


PLACES = """
window.places = {};
const look = () => {
  for (const of of ["time-track", "stage"]) {
    const found = document.querySelector('.run[data-state="known"] .' + of);
    if (found && document.querySelector(".agent[data-seq]")) (places[of] ||= new Set()).add(Math.round(found.getBoundingClientRect().y));
  }
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""  # noqa: E501


def test_nothing_moves_when_the_rest_comes(browser: Browser, stack: Stack, trained: str) -> None:
    """Tabs, charts and tables come after the numbers, and move nothing that somebody has begun to use."""
    with browser.new_context() as context:
        page = context.new_page()
        page.add_init_script(PLACES)
        page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
        page.goto(f"{stack.url}/runs/{trained}?agent=ada")
        page.wait_for_function(DRAWN)
        page.wait_for_selector(".agent-tab")
        page.wait_for_selector(".table-card .ag-row")
        seen = page.evaluate("Object.fromEntries(Object.entries(places).map(([of, at]) => [of, [...at]]))")
        assert {of: len(at) for of, at in seen.items()} == {"time-track": 1, "stage": 1}, seen


def test_dragging_moves_everything(look: Callable[[str], Page], trained: str) -> None:
    """Dragging moves the page to the pointer without a callback; a click on a mark opens its moment."""
    page = look(f"/runs/{trained}?agent=ada")
    page.wait_for_function("() => document.getElementById('time-slider')?.max > 1")  # the run's length
    box = page.locator(".time-track").bounding_box()
    assert box is not None
    callbacks: list[str] = []
    y = box["y"] + 30
    page.mouse.move(box["x"] + box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, y, steps=5)
    at(page, 47)
    page.wait_for_function(DRAWN)  # a chart that is drawn the first time calls back with its size
    page.wait_for_timeout(1000)
    page.on("request", lambda request: "_dash-update" in request.url and callbacks.append(request.url))
    for share in (0.9, 0.5, 41 / 59):
        page.mouse.move(box["x"] + box["width"] * share, y, steps=5)
    page.mouse.up()
    bar(page, "paused")
    at(page, 41)
    assert callbacks == []
    expect(page.locator(".time-back")).to_have_text("Back to live · 18 new steps")
    for name, step in (("best", 10), ("worst", 20)):
        page.locator(f".time-mark.{name}").click()
        at(page, step)
    assert page.locator(".time-mark.checkpoint_saved").get_attribute("title") == "Checkpoint"
    expect(page.locator(".time-mark.dead")).to_have_attribute("title", re.compile("Dead letter"))
    page.locator(".time-mark.checkpoint_saved").click()
    at(page, 39, finished=4)
    assert page.locator(".time-pictures").bounding_box() is not None
    page.locator("#time-axis").select_option("episode")
    expect(page.locator(".time-where")).to_have_text("Episode 3")
    page.locator("#time-axis").select_option("offset")
    expect(page.locator(".time-where")).to_have_text(re.compile(r"^Offset \d+"))
    page.locator("#time-axis").select_option("time")
    expect(page.locator(".time-where")).to_contain_text("UTC")


def test_while_it_trains_the_past_stays_and_live_waits(
    stack: Stack, look: Callable[[str], Page], run_id: str
) -> None:
    """While a run trains, a moment stays; the way back counts new steps and leads to the newest."""
    worker = stack.run(run_id, training(400))
    page = look(f"/runs/{run_id}?agent=ada")
    expect(page.locator("#now-episode")).to_have_text(re.compile(r"[2-9]"))
    press(page, "Space")
    bar(page, "paused")
    where = page.locator(".time-where").text_content()
    expect(page.locator(".time-back")).to_have_text(re.compile(r"· [1-9]\d* new steps"))
    assert page.locator(".time-where").text_content() == where
    page.locator(".time-back").click()
    bar(page, "live")
    page.locator("#time-behind").select_option("2")
    seen = int(page.locator("#agent").get_attribute("data-seq") or 0)
    page.wait_for_function("seen => document.getElementById('agent').dataset.seq > seen + 6", arg=seen)
    page.locator("#time-zoom").select_option("10")
    page.wait_for_function("() => Number(document.querySelectorAll('.time-ends span')[0].textContent) > 0")
    low = int(page.locator(".time-ends span").first.text_content() or 0)
    page.wait_for_function(
        "(low) => Number(document.querySelectorAll('.time-ends span')[0].textContent) > low", arg=low
    )
    bar(page, "live")
    worker.terminate()
    worker.wait(30)


def test_a_viewer_follows_another_and_has_a_clock_of_his_own(
    look: Callable[[str], Page], trained: str
) -> None:
    """A page opened by a follow link moves with another page until its own viewer moves it."""
    leader = look(f"/runs/{trained}?agent=ada&at=step:11")
    at(leader, 11)
    other = look(f"/runs/{trained}?agent=ada&at=step:50")
    at(other, 50)
    leader.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    leader.click("#copy-link")
    leader.wait_for_function("() => window.copied")
    assert leader.evaluate("window.copied").endswith("at=step:11")
    leader.click("#copy-follow")
    leader.wait_for_function("() => window.copied.includes('follow=')")
    follower = look(leader.evaluate("window.copied.slice(location.origin.length)"))
    at(follower, 11)
    press(leader, "ArrowRight")
    at(follower, 12)
    leader.click("#copy-link")
    leader.wait_for_function("() => decodeURIComponent(window.copied).endsWith('at=step:12')")
    at(other, 50)
    press(follower, "Shift+ArrowRight")
    at(follower, 20)
    press(leader, "ArrowRight")
    at(leader, 13)
    at(follower, 20)


def test_who_follows_pauses_where_the_other_does(look: Callable[[str], Page], trained: str) -> None:
    """An episode that is opened during a replay pauses it, for those who follow, too."""
    leader = look(f"/runs/{trained}?agent=ada&at=step:11&speed=0.1")
    at(leader, 11)
    leader.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    leader.click("#copy-follow")
    leader.wait_for_function("() => window.copied?.includes('follow=')")
    follower = look(leader.evaluate("window.copied.slice(location.origin.length)"))
    at(follower, 11)
    press(leader, "Space")
    bar(leader, "replay")
    bar(follower, "replay")
    leader.evaluate("stepstream.patch('at=&episode=1&step=')")  # as a row of the table of episodes does
    bar(leader, "paused")
    bar(follower, "paused")
    expect(follower.locator("#now-title")).to_have_text(leader.locator("#now-title").text_content() or "")


def test_viewers_of_the_same_page_part_when_one_stops_the_time(
    stack: Stack, look: Callable[[str], Page], run_id: str
) -> None:
    """Of two who look at the same run one pauses, the other stays live; a follow link is its viewer's."""
    stack.run(
        run_id,
        """
        for i in range(600):
            emit(type="step", agent_id="ada", episode_index=i // 20, step_index=i % 20, reward=1.0)
            time.sleep(0.1)
        """,
    )
    first = look(f"/runs/{run_id}?agent=ada")
    bar(first, "live")
    second = look(f"/runs/{run_id}?agent=ada")
    bar(second, "live")
    expect(second.locator("#reward .scatterlayer path").first).to_be_attached()
    first.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    press(second, "Space")
    bar(second, "paused")
    stands = second.locator("#now-title").text_content() or ""
    bar(first, "live")
    first.click("#copy-follow")
    first.wait_for_function("() => window.copied?.includes('follow=')")
    follower = look(first.evaluate("window.copied.slice(location.origin.length)"))
    bar(follower, "live")
    press(first, "Space")
    bar(first, "paused")
    bar(follower, "paused")
    expect(follower.locator("#now-title")).to_have_text(first.locator("#now-title").text_content() or "")
    expect(second.locator("#now-title")).to_have_text(stands)
    press(second, "End")
    bar(second, "live")
