"""When a server goes away, an open page says so and goes on."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.live.feeds import NO_REDIS, NO_SQL
from dashboard.live.run_feed import NO_LIVE
from tests.e2e.conftest import Stack, free_port
from tests.support.processes import wait_for

pytestmark = pytest.mark.browser

WORKER = """
for i in range(100_000):
    emit(type="step", agent_id="ada", episode_index=i // 10, step_index=i % 10, reward=1.0)
    time.sleep(0.05)
"""


def test_without_redis_the_page_shows_what_sql_holds(stack: Stack, browser: Browser, run_id: str) -> None:
    """While Redis is away, the page shows the newest step from SQL and says that Redis does not answer."""
    stack.ingest(run_id, json.dumps({"type": "step", "agent_id": "ada", "step_index": 7, "reward": 1}))
    with stack.other_dashboard("away", STEPSTREAM_REDIS_URL=f"redis://127.0.0.1:{free_port()}") as url:
        page = browser.new_page()
        page.goto(f"{url}/runs/{run_id}?agent=ada")
        expect(page.locator("#notice")).to_have_text(NO_REDIS)
        expect(page.locator("#now-step")).to_have_text("7")
        page.close()


def test_without_sql_the_page_goes_on_with_the_newest(stack: Stack, browser: Browser, run_id: str) -> None:
    """While SQL is away, the page goes on with the newest steps and says that SQL does not answer."""
    worker = stack.run(run_id, WORKER)
    try:
        away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
        with stack.other_dashboard("away", STEPSTREAM_DATABASE_URL=away) as url:
            page = browser.new_page()
            page.goto(f"{url}/runs/{run_id}?agent=ada")
            expect(page.locator("#notice")).to_have_text(NO_SQL)
            seen = page.locator("#now-step")
            expect(seen).not_to_have_text("–")
            before = int(page.locator("#agent").get_attribute("data-seq") or 0)
            wait_for(lambda: int(page.locator("#agent").get_attribute("data-seq") or 0) > before + 5, 60)
            page.close()
    finally:
        worker.terminate()
        worker.wait(30)


def test_without_the_live_service_the_page_reads_sql(
    stack: Stack, open_page: Callable[..., Page], run_id: str
) -> None:
    """While the live service is down, the page says so; the notice disappears when the service is back."""
    worker = stack.run(run_id, WORKER)
    try:
        page = open_page(f"/runs/{run_id}?agent=ada")
        expect(page.locator("#now-step")).not_to_have_text("–")
        stack.stop("live")
        expect(page.locator("#notice")).to_have_text(NO_LIVE)
        stack.start("live")
        expect(page.locator("#notice")).to_have_text("")
    finally:
        if "live" not in stack.services:
            stack.start("live")
        worker.terminate()
        worker.wait(30)
