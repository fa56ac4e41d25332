"""The page of health: what is up, what is away, and what could not be used."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Stack, free_port

pytestmark = pytest.mark.browser


def test_each_part_has_a_line(stack: Stack, open_page: Callable[..., Page], run_id: str) -> None:
    """The page shows the status of each server and service, and the dead letters by their reason."""
    stack.ingest(run_id, json.dumps({"type": "step", "reward": "no number"}))
    page = open_page("/")
    page.get_by_role("link", name="Health").click()
    for name in ("Kafka", "SQL", "Redis", "Live path", "Storing"):
        status = page.locator("#health th", has_text=name).locator(".status")
        expect(status).to_have_attribute("data-status", "completed")
    expect(page.locator("#health section").nth(1)).to_contain_text("bad_value")
    expect(page).to_have_title("All is well · stepstream")


def test_what_is_away_is_named(stack: Stack, browser: Browser) -> None:
    """An unreachable Redis is marked as failed without its password; the other lines keep their status."""
    with stack.other_dashboard(
        "away", STEPSTREAM_REDIS_URL=f"redis://:secret@127.0.0.1:{free_port()}"
    ) as url:
        page = browser.new_page()
        page.goto(f"{url}/health")
        line = page.locator("#health tr", has_text="Redis").first
        expect(line.locator(".status")).to_have_attribute("data-status", "failed")
        expect(line).not_to_contain_text("secret")
        sql = page.locator("#health tr", has_text="SQL").first
        expect(sql.locator(".status")).to_have_attribute("data-status", "completed")
        expect(page).to_have_title("1 of 7 need attention · stepstream")
        page.close()
