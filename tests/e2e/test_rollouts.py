"""Rollouts of language models in a browser: the table, one as a chat, and new ones as files appear."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Stack
from tests.support.processes import wait_for
from tests.support.rollouts import DATA

pytestmark = pytest.mark.browser
MATH = (
    "She makes $9 \\times \\$2$, not $5 and $10: \\[\\frac{1}{2}\\] so \\boxed{18}. "
    "$\\href{javascript:alert(1)}{x}$ $x_1_2$ $\\class{a}{x}$ `$a$` "
    "\\(\\text{[a](http://example.com) <img src=x> **b**}\\)"
)
HOSTILE = (
    "<img src=x onerror=alert(1)><script>alert(2)</script>[x](javascript:alert(3)) **bold** "
    "\u202egnp.exe\u202c zero\u200bwidth \x1b[31mred\x1b[0m \\(\\frac12\\)"
)


def stored(stack: Stack, folder: Path, run_id: str, count: int) -> None:
    """Read a folder's files and wait until SQL has so many rollouts."""
    stack.cli("watch", "--once", str(folder), "--run-id", run_id)
    wait_for(lambda: shown(stack, run_id) >= count, 90)


def shown(stack: Stack, run_id: str) -> int:
    """How many rollouts of a run SQL has, counted by their episodes."""
    found: dict[str, Any] = json.loads(stack.cli("runs", "show", run_id, "--json").stdout)
    return int(found["episodes"])


def step_file(folder: Path, step: int, answers: list[str]) -> None:
    """Write the file of one training step under another name, then rename it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "input": f"Prompt <b>{step}</b>",
            "output": said,
            "gts": "1",
            "score": i / 4,
            "step": step,
            "acc": i % 2,
        }
        for i, said in enumerate(answers)
    ]
    beside = folder / f"{step}.part"
    beside.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    beside.rename(folder / f"{step}.jsonl")


def rows(page: Page) -> Any:
    """The rows of the table of samples."""
    return page.locator("#rollouts-grid .ag-center-cols-container .ag-row")


def test_a_data_set_as_a_table_and_as_a_chat(
    stack: Stack, open_page: Callable[..., Page], run_id: str, tmp_path: Path
) -> None:
    """The table sorts all samples; a click opens one as a chat; keys move on; each state has an address."""
    shutil.copytree(DATA / "verl" / "hack", tmp_path / run_id)
    stored(stack, tmp_path / run_id, run_id, 48)
    page = open_page(f"/runs/{run_id}")
    expect(page.locator("#training-number-reward")).to_have_text("2.378")
    expect(page.locator(".training-chart")).to_have_count(4)
    expect(page.locator("#number-return")).to_be_hidden()
    page.get_by_role("link", name="Rollouts").click()
    expect(page.get_by_text("48 samples of 6 training steps")).to_be_visible()
    expect(rows(page).first.locator("[col-id=training_step]")).to_have_text("6")
    page.locator("#rollouts-grid .ag-header-cell[col-id=reward] .sort").click()
    expect(page).to_have_url(re.compile("sort=-reward"))
    expect(rows(page).first.locator("[col-id=reward]")).to_have_text("3.123")
    rows(page).first.locator("[col-id=reward]").click()
    expect(page.locator("#rollout-text .message").first).to_be_visible()
    expect(page.locator(".rollout-facts")).to_contain_text("style_bonus")
    address = page.url
    page.keyboard.press("j")
    expect(page).not_to_have_url(address)
    expect(page.get_by_role("button", name="Previous rollout")).to_be_enabled()  # the first one has none
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(address)
    page.keyboard.press("1")
    expect(page.locator(".siblings [aria-pressed=true]")).to_contain_text("1")
    expect(page).not_to_have_url(address)
    page.get_by_role("button", name="Raw").click()
    expect(page.locator("#rollout-text pre.raw")).to_contain_text('"role": "assistant"')
    page.keyboard.press("Escape")
    expect(page.locator("#rollouts-grid")).to_be_visible()
    expect(page).not_to_have_url(re.compile("rollout="))
    other = open_page(address.replace(stack.url, ""))
    expect(other.locator("#rollout-text .message").first).to_be_visible()
    lost = open_page(f"/runs/{run_id}?panel=rollouts&rollout=none/7")
    expect(lost.get_by_text("This run has no such rollout")).to_be_visible()


def test_new_samples_appear_by_themselves(
    stack: Stack, open_page: Callable[..., Page], run_id: str, tmp_path: Path
) -> None:
    """An open page shows a training step once its file exists, and a search finds its samples."""
    step_file(tmp_path / run_id, 1, ["first answer", "another"])
    stack.start("watch", str(tmp_path / run_id), "--run-id", run_id)
    try:
        page = open_page(f"/runs/{run_id}?panel=rollouts")
        expect(rows(page)).to_have_count(2)
        step_file(tmp_path / run_id, 2, ["unheard of", "known"])
        expect(rows(page)).to_have_count(4)
        expect(rows(page).first.locator("[col-id=training_step]")).to_have_text("2")
        page.get_by_placeholder("Search prompts, answers, tools").fill("unheard")
        expect(page).to_have_url(re.compile("q=unheard"))
        expect(rows(page)).to_have_count(1)
        page.get_by_role("button", name="Clear filters").click()
        expect(rows(page)).to_have_count(4)
    finally:
        stack.stop("watch")


def test_hostile_text_is_text(
    stack: Stack, open_page: Callable[..., Page], run_id: str, tmp_path: Path
) -> None:
    """Markup, links and terminal codes of a model do not run; hidden characters are shown by their code."""
    step_file(tmp_path / run_id, 1, [HOSTILE, "x" * 30_000 + "end"])
    stored(stack, tmp_path / run_id, run_id, 2)
    page = open_page(f"/runs/{run_id}?panel=rollouts")
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    cell = rows(page).first.locator("[col-id=final_text]")
    expect(cell).to_contain_text("<img src=x onerror=alert(1)>")
    expect(cell).to_contain_text("⟨U+202E⟩gnp.exe")
    rows(page).first.locator("[col-id=training_step]").click()
    said = page.locator(".message[data-tone=model]")
    expect(said.locator(".hidden-sign")).to_have_text(["U+202E", "U+202C", "U+200B", "U+001B", "U+001B"])
    expect(said).to_contain_text("<script>alert(2)</script>[x](javascript:alert(3)) **bold**")
    expect(said.locator(".formula mjx-container")).to_have_count(1)
    assert said.locator("img, script, a, strong, b:not(header b)").count() == 0
    assert not set(page.locator("#rollout-text").inner_text()) & set("\u202e\u202c\u200b\x1b")
    page.keyboard.press("ArrowRight")
    expect(said).to_contain_text("Show all 30,003 characters")
    page.get_by_role("button", name="Show all 30,003 characters").click()
    expect(said).to_contain_text("xend")


def test_formulas_are_drawn_and_bring_no_markup(
    stack: Stack, open_page: Callable[..., Page], run_id: str, tmp_path: Path
) -> None:
    """Plain LaTeX is drawn with nothing from elsewhere; the rest is its source, and so is what is copied."""
    step_file(tmp_path / run_id, 1, [MATH, MATH.replace("18", "21")])
    stored(stack, tmp_path / run_id, run_id, 2)
    page = open_page(f"/runs/{run_id}?panel=rollouts")
    rows(page).first.locator("[col-id=training_step]").click()
    said = page.locator(".message[data-tone=model]")
    expect(said.locator("mjx-container:visible")).to_have_count(4)
    shown = said.locator(".formula .math")
    expect(shown).to_have_count(5)
    expect(said.locator(":not(.formula) > .math")).to_have_text(
        ["$\\href{javascript:alert(1)}{x}$", "$\\class{a}{x}$"]
    )
    faulty = said.locator(".formula", has=page.locator("[data-mjx-error]"))
    expect(faulty).to_have_count(1)
    expect(faulty.locator(".math")).to_have_css("overflow", "visible")
    assert said.locator("img, script, a, strong, em, b:not(header b)").count() == 0
    assert " ".join(said.inner_text().split()) == f"assistant {MATH}"
    first = said.locator("mjx-container").nth(2).inner_html()
    page.keyboard.press("j")
    expect(said.locator(".formula .math").nth(2)).to_have_text("\\boxed{21}")
    expect(said.locator("mjx-container:visible")).to_have_count(4)
    assert said.locator("mjx-container").nth(2).inner_html() != first


def test_token_arrays_are_read_when_they_are_asked_for(
    stack: Stack, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    """A button loads the table of token arrays; the chat shows the tools' messages."""
    shutil.copytree(DATA / "prime-rl" / "run", tmp_path / "run")
    said = stack.cli("watch", "--once", str(tmp_path / "run"), "--json").stdout
    (run_id,) = json.loads(said)["run_ids"]
    wait_for(lambda: shown(stack, run_id) >= 63, 90)
    page = open_page(f"/runs/{run_id}?panel=rollouts")
    rows(page).first.locator("[col-id=training_step]").click()
    page.get_by_role("button", name="Show token arrays").click()
    expect(page).to_have_url(re.compile("tokens=1"))
    expect(page.locator("#tokens-grid .ag-center-cols-container .ag-row").first).to_be_visible()
    expect(page.locator(".message[data-tone=tool]").first).to_be_visible()
