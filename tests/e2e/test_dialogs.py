"""The page's dialogs, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def test_a_setting_is_kept_in_this_browser(open_page: Callable[..., Page]) -> None:
    """The theme chosen in the settings applies at once and after a reload; the dialog then shows it."""
    page = open_page("/")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Theme").select_option("dark")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("Theme")).to_have_value("dark")


def test_the_keys_open_by_their_own_key(open_page: Callable[..., Page]) -> None:
    """`?` shows the keys, Escape closes them, and no key acts behind the dialog."""
    page = open_page("/")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("/")
    expect(page.locator("#search-q")).not_to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
