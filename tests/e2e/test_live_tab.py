"""A browser shows what a real worker sends."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import Stack
from tests.support.processes import wait_for

pytestmark = pytest.mark.browser

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a'; DROP TABLE steps; --",
    'quo"te & amp;',
    "a/b?c=d#e",
    "дом 日本",
]
TRAINING = """
emit(type="run_started", config={"env_id": "FrozenLake-v1", "algorithm": "q-learning", "seed": 7})
for episode in range(8):
    total = 0.0
    for step in range(5):
        reward = round(episode / 8 + step / 100, 4)
        total += reward
        emit(type="step", agent_id="ada", episode_index=episode, step_index=step, action=step % 4,
             reward=reward, terminated=step == 4, truncated=False, observation={"state": step},
             epsilon=1 - episode / 8)
        time.sleep(0.02)
    emit(type="episode", agent_id="ada", episode_index=episode, total_reward=round(total, 4), steps=5,
         terminated=True, truncated=False, seed=100 + episode)
print("a line that is no event", flush=True)
emit(type="run_completed", status="completed")
"""


POINTS = """() => {
  const { data } = document.querySelector("#curve .js-plotly-plot");
  return [data[0].y.length, data[0].y.at(-1)];
}"""


def in_order(cells: Locator) -> list[str]:
    """Texts of a grid's cells from top to bottom."""
    return [
        cell.inner_text() for cell in sorted(cells.all(), key=lambda one: (one.bounding_box() or {})["y"])
    ]


def test_a_tab_is_born_by_itself_and_ends_with_the_numbers_of_sql(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """A page that was opened before its run shows the run by itself and ends with the numbers of SQL."""
    page = open_page(f"/runs/{run_id}")
    expect(page.get_by_text("No run has this id")).to_be_visible()
    page.wait_for_timeout(3000)  # the time bar has said where it stands
    expect(page.get_by_text("No run has this id")).to_be_visible()
    expect(page.locator(".known")).to_be_hidden()
    worker = stack.run(run_id, TRAINING)
    expect(page.get_by_role("tab", name="Live-ada-Training", exact=True)).to_be_visible()
    expect(page.get_by_text("Live-ada-Training", exact=True)).to_be_visible()
    assert worker.wait(60) == 0
    expect(page.locator("#run-status")).to_have_text("completed")
    expect(page.locator("#count-seen")).to_have_attribute("data-value", "40")
    expect(page.locator("#count-stored")).to_have_attribute("data-value", "40")
    expect(page.locator("#count-shown")).to_have_attribute("data-value", "40")
    expect(page.locator("#count-thinned")).to_have_attribute("data-value", "0")
    expect(page.locator("#count-missed")).to_have_attribute("data-value", "0")
    with sqlite3.connect(stack.folder / "stepstream.db") as sql:
        steps = sql.execute("SELECT count(*) FROM steps WHERE run_id = ?", [run_id]).fetchone()
        returns = sql.execute(
            "SELECT episode_return FROM episodes WHERE run_id = ? ORDER BY episode_index DESC", [run_id]
        ).fetchall()
    assert steps == (40,)
    page.get_by_role("button", name="Episodes").click()
    page.get_by_role("button", name="Newest").click()
    shown = page.locator("#newest-episodes .ag-center-cols-container .ag-cell[col-id=episode_return]")
    expect(shown).to_have_count(8)
    assert [float(text) for text in in_order(shown)] == [round(value, 4) for (value,) in returns]
    expect(page.locator("#flow-dead")).to_have_attribute("data-value", "0")
    expect(page.locator("#flow-sql")).to_have_attribute("data-value", "51")  # 40 + 8 + 2 + one line of log


def test_the_list_of_runs_links_to_the_tab(stack: Stack, open_page: Callable[..., Page], run_id: str) -> None:
    """A run appears in the open list by itself, with a link to its agent."""
    page = open_page("/")
    stack.run(run_id, TRAINING).wait(60)
    row = page.locator(".ag-row", has_text=run_id)
    expect(row.get_by_text("Live-ada-Training", exact=True)).to_be_visible()
    expect(row.locator(".status")).to_have_text("completed")
    row.get_by_text("Live-ada-Training", exact=True).click()
    expect(page.get_by_role("tab", name="Live-ada-Training", exact=True)).to_have_attribute(
        "aria-selected", "true"
    )
    page.go_back()
    expect(page.locator("#home-title")).to_be_visible()


def test_hostile_ids_are_text(stack: Stack, open_page: Callable[..., Page], run_id: str) -> None:
    """The page shows hostile names of runs and agents letter for letter, and their tabs work."""
    run = f"{HOSTILE[0]} {run_id}"
    lines = [
        {"type": "step", "agent_id": agent, "episode_index": 0, "step_index": i, "reward": i, "action": agent,
         "observation": agent, "info": {agent: agent}}
        for agent in HOSTILE
        for i in range(2)
    ]  # fmt: skip
    stack.ingest(run, "\n".join(map(json.dumps, lines)))
    page = open_page(f"/runs/{quote(run, safe='')}")
    for agent in HOSTILE:
        tab = page.get_by_role("tab", name=f"Live-{agent}-Training", exact=True)
        expect(tab).to_be_visible()
        assert tab.inner_text() == f"Live-{agent}-Training"
        tab.click()
        expect(page.locator("#now-action")).to_have_text(agent)
        expect(page.locator("#count-stored")).to_have_attribute("data-value", "2")
    page.reload()
    expect(page.get_by_role("tab", name=f"Live-{HOSTILE[-1]}-Training", exact=True)).to_have_attribute(
        "aria-selected", "true"
    )


def test_the_page_goes_on_after_the_server_restarted(
    stack: Stack, open_page: Callable[..., Page], run_id: str, forgiven: list[str]
) -> None:
    """A page says that it is stale while the server restarts, reconnects, and shows each step once."""
    forgiven += ["WebSocket connection", "ERR_CONNECTION_REFUSED", "the server did not respond"]
    worker = stack.run(
        run_id,
        """
        for i in range(150):
            emit(type="step", agent_id="ada", episode_index=0, step_index=i, reward=i)
            time.sleep(0.1)
        """,
    )
    page = open_page(f"/runs/{run_id}?agent=ada")
    wait_for(lambda: int(page.locator("#agent").get_attribute("data-seq") or 0) > 10, 60)
    stack.stop("dashboard")
    expect(page.locator("#stale")).to_be_visible()
    expect(page.locator("#stale")).to_contain_text("Reconnecting, last data")
    stack.start_dashboard()
    expect(page.locator("#stale")).to_be_hidden()
    worker.wait(60)
    expect(page.locator("#agent")).to_have_attribute("data-seq", "150")
    page.get_by_role("button", name="Newest").click()
    page.wait_for_function("() => dash_ag_grid.getApi('newest-steps').getDisplayedRowCount() === 150")
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    page.get_by_role("button", name="Copy TSV").click()
    page.wait_for_function("() => window.copied")
    rows = page.evaluate("window.copied").splitlines()[1:]
    assert [int(row.split("\t")[3]) for row in rows] == list(range(149, -1, -1))


def test_redis_flushed_the_same_page_comes_from_sql(
    stack: Stack, open_page: Callable[..., Page], run_id: str, valkey: str
) -> None:
    """A run that Redis no longer knows is shown from SQL: tab, curve, tables, counters."""
    import redis

    stack.run(run_id, TRAINING).wait(60)
    wait_for(lambda: "completed" in stack.cli("runs", "show", run_id).stdout, 60)
    client = redis.Redis.from_url(valkey)
    mine = list(client.scan_iter(f"{stack.env['STEPSTREAM_REDIS_PREFIX']}run:{run_id}*", 1000))
    client.delete(*mine)
    page = open_page(f"/runs/{run_id}")
    expect(page.get_by_role("tab", name="Live-ada-Training", exact=True)).to_be_visible()
    expect(page.locator("#count-seen")).to_have_attribute("data-value", "40")
    expect(page.locator("#curve .trace")).to_have_count(2)
    assert page.evaluate(POINTS) == [8, 4.475]
    page.locator("#every-steps").scroll_into_view_if_needed()
    expect(page.locator("#every-steps .ag-center-cols-container .ag-row").first).to_be_visible()


def test_a_failed_run_says_why(stack: Stack, open_page: Callable[..., Page], run_id: str) -> None:
    """The head shows the reason with the last words of stderr, and the title marks the failure."""
    worker = stack.run(
        run_id, "emit(type='step', reward=1)\nraise SystemExit('the reward is NaN <b>here</b>')"
    )
    worker.wait(60)
    page = open_page(f"/runs/{run_id}")
    expect(page.locator("#run-status")).to_have_text("failed")
    expect(page.locator("#run-failure")).to_contain_text("the reward is NaN <b>here</b>")
    assert page.title().startswith("✕")


def test_viewers_side_by_side_see_the_same(stack: Stack, open_page: Callable[..., Page], run_id: str) -> None:
    """Six pages side by side on one run end at the same numbers."""
    pages = [open_page(f"/runs/{run_id}") for _ in range(6)]
    stack.run(run_id, TRAINING).wait(60)
    for page in pages:
        expect(page.locator("#count-stored")).to_have_attribute("data-value", "40")
        expect(page.locator("#count-shown")).to_have_attribute("data-value", "40")


def test_a_chart_that_is_pressed_is_not_redrawn(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """A drag on a live chart is not broken by new points: they come when the button is released."""
    stack.run(
        run_id,
        """
        for i in range(300):
            emit(type="step", agent_id="ada", episode_index=0, step_index=i, reward=i % 7)
            time.sleep(0.1)
        """,
    )
    page = open_page(f"/runs/{run_id}?agent=ada")
    points = "() => document.querySelector('#reward .js-plotly-plot')?.data?.[0].x.length || 0"
    page.wait_for_function(f"() => ({points})() > 10")
    box = page.locator("#reward .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(500)  # what was being drawn is drawn
    before, seen = page.evaluate(points), int(page.locator("#agent").get_attribute("data-seq") or 0)
    page.wait_for_function("(seen) => document.getElementById('agent').dataset.seq > seen + 20", arg=seen)
    assert page.evaluate(points) == before
    page.mouse.up()
    page.wait_for_function(f"(before) => ({points})() > before", arg=before)


def test_lines_that_are_drawn_alone_are_as_plotly_draws_them_all(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """New points on axes that stay change only the lines: as a whole redraw would, also over gaps."""
    stack.run(
        run_id,
        """
        for i in range(160):
            loss = {} if i % 5 == 0 else {"loss": 1 / (1 + i)}
            emit(type="step", agent_id="ada", episode_index=i // 20, step_index=i % 20, reward=i % 7, **loss)
            time.sleep(0.05)
        """,
    )
    page = open_page(f"/runs/{run_id}?agent=ada", viewport={"width": 1280, "height": 1600})
    page.wait_for_function("() => window.Plotly")
    page.evaluate(
        """() => {
            const animate = Plotly.animate;
            Plotly.animate = (...all) => { window.alone = true; return animate(...all); };
        }"""
    )
    expect(page.locator("#run-status")).to_have_text("completed", timeout=60_000)
    expect(page.locator("#count-shown")).to_have_attribute("data-value", "160")
    page.wait_for_timeout(1000)  # the last points are drawn
    assert page.evaluate("window.alone")
    alone, whole = page.evaluate(
        """async () => {
            const all = [...document.querySelectorAll(".js-plotly-plot")];
            const plots = all.filter((gd) => gd.data?.[0].x?.length);
            const drawn = (gd) => [...gd.querySelectorAll(".js-line")].map((line) => line.getAttribute("d"));
            const before = plots.map(drawn);
            for (const gd of plots) await Plotly.redraw(gd);
            return [before, plots.map(drawn)];
        }"""
    )
    assert len(alone) >= 2
    assert alone == whole
