"""A person compares runs: selects two, looks at them, chooses another number."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

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


def test_two_runs_side_by_side_have_their_pictures(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """Each side shows the picture of its step; where none was sent, it says so."""
    names = [f"{run_id}-{side}" for side in ("drawn", "blind")]
    picture = {"mode": "rgb", "rgb": [[[40, 50, 200]] * 8] * 6}
    for name in names:
        drawn = {"render_payload": picture} if name.endswith("drawn") else {}
        lines = [{"type": "step", "episode_index": 0, "step_index": i, "reward": 1} | drawn for i in range(3)]
        stack.ingest(name, "\n".join(map(json.dumps, [*lines, {"type": "run_completed"}])))
    wait_for(lambda: all(shown(stack, name)["steps"] == 3 for name in names), 90)
    page = open_page(f"/compare?runs={','.join(names)}&align=step&along=0")
    expect(page.locator("#beside-left .frame img")).to_be_visible()
    expect(page.locator("#beside-right .frame")).to_have_text(re.compile("[Nn]o picture"))


def test_two_runs_over_each_other(pair: list[str], open_page: Callable[..., Page]) -> None:
    """The chart has one line for each run, the table shows what differs, and the choice is in the address."""
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
    """Two selected rows of the list of runs show a link that opens their comparison."""
    page = open_page(f"/?q={pair[0][:-2]}")
    boxes = page.locator("#runs .ag-selection-checkbox input")
    expect(boxes).to_have_count(2)
    for i in range(2):
        boxes.nth(i).check()
    page.get_by_role("link", name="Compare").click()
    expect(page).to_have_url(re.compile(r"/compare\?runs="))
    expect(page.locator("#compare-chart .trace")).to_have_count(2)


@pytest.fixture(scope="module")
def seeds(stack: Stack) -> list[str]:
    """Two settings of three seeds each."""
    prefix = f"seeds-{uuid.uuid4().hex[:6]}"
    names = []
    for lr in (0.1, 0.2):
        for seed in range(3):
            names.append(f"{prefix}-{lr}-{seed}")
            lines = [{"type": "run_started", "config": {"lr": lr, "seed": seed, "env": {"size": 4}}}]
            lines += [
                {"type": "episode", "episode_index": i, "total_reward": i * lr + seed, "steps": 5}
                for i in range(20)
            ]
            stack.ingest(names[-1], "\n".join(map(json.dumps, [*lines, {"type": "run_completed"}])))
    for name in names:
        wait_for(lambda name=name: shown(stack, name)["episodes"] == 20, 90)
    return names


def test_seeds_are_one_line(seeds: list[str], open_page: Callable[..., Page]) -> None:
    """Seeds of one setting share a line and a band, and are counted; without groups each run has a line."""
    page = open_page(f"/compare?runs={','.join(seeds)}&smooth=none")
    plot = page.locator("#compare-chart .js-plotly-plot")
    expect(plot.locator(".scatterlayer .trace")).to_have_count(4)
    lines = plot.evaluate("(el) => el.data.map((one) => [one.fill || '', one.y[one.y.length - 1]])")
    assert lines[0] == ["", pytest.approx(19 * 0.1 + 1)]
    assert lines[1] == ["", pytest.approx(19 * 0.2 + 1)]
    assert [fill for fill, _ in lines[2:]] == ["toself", "toself"]
    expect(plot).to_contain_text("interquartile mean, 95 % bootstrap interval")
    table = page.locator("#compare-table")
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(table.locator("tbody tr").first).to_contain_text("lr=0.1")
    expect(table.locator("tbody tr").first.locator("td").nth(2)).to_have_text("3")
    table.locator("summary").first.click()
    expect(table.get_by_role("link", name=seeds[0])).to_be_visible()
    page.get_by_label("Groups").select_option("seed")
    page.get_by_label("Groups").select_option("none")
    expect(page).to_have_url(re.compile("group=none"))
    expect(plot.locator(".scatterlayer .trace")).to_have_count(6)


@pytest.fixture(scope="module")
def walks(stack: Stack) -> list[str]:
    """Two runs of episodes of four steps; the second begins two tasks later, and has two episodes more."""
    prefix = f"walks-{uuid.uuid4().hex[:6]}"
    names = [f"{prefix}-{n}" for n in (1, 2)]
    for n, name in enumerate(names):
        lines = []
        for episode in range(5 + 2 * n):
            for step in range(4):
                told = {"task": episode + 2 * n} if step == 0 else {"at": step}
                lines.append({"type": "step", "episode": episode, "step": step, "reward": n + 1, "obs": told})
            lines.append(
                {"type": "episode", "episode_index": episode, "total_reward": 4 * (n + 1), "steps": 4}
            )
        stack.ingest(name, "\n".join(map(json.dumps, lines)))
    for n, name in enumerate(names):
        wait_for(lambda name=name, n=n: shown(stack, name)["episodes"] == 5 + 2 * n, 90)
    return names


def fact(page: Page, side: str, name: str) -> Locator:
    """The element that shows one side's value of this name."""
    return page.locator(f"#beside-{side} dl > div", has=page.get_by_text(name, exact=True)).locator("dd")


def test_two_side_by_side(walks: list[str], open_page: Callable[..., Page]) -> None:
    """One slider moves both sides; the right one can be later; past its end a side names its range."""
    page = open_page(f"/compare?runs={','.join(walks)}&align=step&along=9")
    for side in ("left", "right"):
        expect(fact(page, side, "Step")).to_have_text("9")
        expect(fact(page, side, "Episode")).to_have_text("2")
    expect(fact(page, "left", "Reward")).to_have_text("1")
    expect(fact(page, "right", "Reward")).to_have_text("2")
    page.locator("#beside-along").fill("12")
    expect(page).to_have_url(re.compile("along=12"))
    expect(fact(page, "left", "Step")).to_have_text("12")
    page.get_by_label("Right is later by").fill("4")
    page.get_by_label("Right is later by").press("Tab")
    expect(fact(page, "right", "Step")).to_have_text("16")
    expect(fact(page, "right", "Newest return")).to_have_text("8")
    page.locator("#beside-along").fill("22")
    expect(page.locator("#beside-left")).to_contain_text("steps 0 to 19")


def test_the_same_task_in_both(walks: list[str], open_page: Callable[..., Page]) -> None:
    """Both sides show episodes with the same first observation, or, by choice, with the same number."""
    page = open_page(f"/compare?runs={','.join(walks)}&align=task")
    expect(fact(page, "left", "Episode")).to_have_text("2")
    expect(fact(page, "right", "Episode")).to_have_text("0")
    page.locator("#beside-along").fill("1")
    expect(fact(page, "left", "Episode")).to_have_text("3")
    expect(fact(page, "right", "Episode")).to_have_text("1")
    page.locator("#choose-align").select_option("episode")
    expect(fact(page, "right", "Episode")).to_have_text("1")
    expect(fact(page, "left", "Episode")).to_have_text("1")


def test_language_models_by_their_training_steps(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """Runs with rollouts have the mean reward of each training step on an axis of their own."""
    names = [f"{run_id}-{n}" for n in (1, 2)]
    for n, name in enumerate(names, 1):
        source = f"""
            import stepstream
            for sample in range(6):
                step, place = divmod(sample, 2)
                rewards = {n} * (step + place)
                stepstream.log_rollout("2+2?", "4", rewards=rewards, group="a", sample=place, step=10 * step)
            """
        stack.run(name, source).wait(60)
    for name in names:
        wait_for(lambda name=name: shown(stack, name)["episodes"] == 6, 90)
    page = open_page(f"/compare?runs={','.join(names)}&smooth=none")
    page.locator("#compare-x").select_option("training")
    expect(page).to_have_url(re.compile("x=training"))
    plot = page.locator("#compare-chart .js-plotly-plot")
    expect(plot).to_contain_text("Training step")
    lines = plot.evaluate("(el) => el.data.map((one) => [one.x, one.y])")
    assert lines == [[[0, 10, 20], [0.5, 1.5, 2.5]], [[0, 10, 20], [1, 3, 5]]]
    page.get_by_label("Smoothing").select_option("mean:10")
    expect(plot).to_contain_text("mean of 10")


def test_a_click_is_the_moment_of_a_side(walks: list[str], open_page: Callable[..., Page]) -> None:
    """A click on the left line moves both sides, on the right line only that side; a name opens its run."""
    page = open_page(f"/compare?runs={','.join(walks)}&smooth=none")
    expect(page.get_by_role("definition").filter(has_text="step:")).to_have_count(2)  # both sides are there
    click(page, 0, 3)
    expect(page).to_have_url(re.compile("along=3"))
    for side in ("left", "right"):
        expect(fact(page, side, "Episode")).to_have_text("3")
    click(page, 1, 5)
    expect(page).to_have_url(re.compile("shift=2"))
    expect(fact(page, "right", "Episode")).to_have_text("5")
    expect(fact(page, "left", "Position")).to_have_text("step:15")
    page.locator("#beside-left h3 a").click()
    expect(page).to_have_url(re.compile(rf"/runs/{walks[0]}\?.*at=step(:|%3A)15"))
    expect(page.locator('[data-time-state="paused"]')).to_be_visible()


def test_choices_go_back_with_the_address(walks: list[str], open_page: Callable[..., Page]) -> None:
    """The browser's back button undoes a choice, also when the address before it named no choice."""
    page = open_page(f"/compare?runs={','.join(walks)}&smooth=none")
    expect(page.locator("#choose-align")).to_have_value("episode")
    for choice, value, before in (("choose-align", "step", "episode"), ("compare-group", "none", "seed")):
        page.locator(f"#{choice}").select_option(value)
        expect(page).to_have_url(re.compile(f"={value}"))
        page.go_back()
        expect(page.locator(f"#{choice}")).to_have_value(before)


def click(page: Page, line: int, point: int) -> None:
    """Click a point of a run's line in the chart."""
    plot = page.locator("#compare-chart .js-plotly-plot")
    expect(plot.locator(".scatterlayer .trace")).to_have_count(2)
    at = plot.evaluate(
        """(el, [line, point]) => {
          const box = el.getBoundingClientRect(), { xaxis, yaxis } = el._fullLayout, { x, y } = el.data[line];
          return [box.x + xaxis._offset + xaxis.l2p(x[point]), box.y + yaxis._offset + yaxis.l2p(y[point])];
        }""",
        [line, point],
    )
    page.mouse.move(*at)
    expect(plot.locator(".hoverlayer *").first).to_be_attached()  # Plotly's click is on what it points to
    page.mouse.click(*at)
