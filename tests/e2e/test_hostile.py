"""Every page shows what a worker or a model writes as text: it creates no element and runs no script."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Stack
from tests.support.processes import wait_for

pytestmark = pytest.mark.browser

MARKUP = '<b class=hostile>bold</b><img class=hostile src=x onerror="hit()"><a href="javascript:hit()">a</a>'
WORDS = "<b class=hostile>"
MADE = """() => [
  ...document.querySelectorAll(".hostile, a[href^='javascript:'], svg a, svg [style*='bold']"),
].map((el) => el.outerHTML.slice(0, 200)).concat(window.hits || [])"""


def lines(seed: int) -> list[dict[str, object]]:
    """Every text that a worker may send, as markup."""
    config = {"env_id": MARKUP, MARKUP: MARKUP, "seed": seed, "list": [MARKUP]}
    who = {"agent_id": MARKUP, "episode_index": 0}
    step = {"type": "step", "action": MARKUP, "observation": MARKUP, "info": {MARKUP: MARKUP}, MARKUP: 0.5}
    picture = {"mode": "ansi", "ansi": MARKUP}
    rollout = {
        "split": MARKUP,
        "training_step": 1,
        "group_id": MARKUP,
        "sample_index": 0,
        "stop_reason": MARKUP,
    }
    said = [{"role": role, "content": MARKUP} for role in ("system", "user", "assistant", MARKUP)]
    return [
        {"type": "run_started", "config": config, "project": MARKUP, "tags": [MARKUP], "name": MARKUP},
        *(who | step | {"step_index": i, "reward": i, "render_payload": picture} for i in range(3)),
        who | {"type": "episode", "total_reward": 3, "steps": 3, "mode": MARKUP},
        *({"step": i, MARKUP: 1.0 / (1 + i), f"group/{MARKUP}": i} for i in range(3)),
        {"type": "step", "agent_id": MARKUP, "reward": MARKUP},
        {"type": "episode", "agent_id": "model", "episode_index": 0, "total_reward": 1, "steps": 1,
         "messages": said, "rollout": rollout},
        {"type": "run_failed", "error": MARKUP, "message": MARKUP},
    ]  # fmt: skip


@pytest.fixture(scope="module")
def runs(stack: Stack) -> list[str]:
    """Two runs with markup in every text and in their names."""
    names = [f"{WORDS}{uuid.uuid4().hex[:6]}" for _ in range(2)]
    for seed, name in enumerate(names):
        stack.ingest(name, "\n".join([*map(json.dumps, lines(seed)), MARKUP]))
    wait_for(lambda: all(shown(stack, name)["episodes"] for name in names), 90)
    return names


def shown(stack: Stack, run_id: str) -> dict[str, int]:
    """A run's counts in SQL."""
    found: dict[str, int] = json.loads(stack.cli("runs", "show", run_id, "--json").stdout)
    return found


PAGES = [
    "/",
    f"/?group=config.{quote(MARKUP, safe='')}&column=config.{quote(MARKUP, safe='')}",
    f"/?q={quote(MARKUP, safe='')}",
    "/runs/{run}",
    "/runs/{run}?agent={agent}&table=steps&axis=time",
    "/runs/{run}?agent={agent}&table=episodes&episode=0&step=1",
    "/runs/{run}?agent={agent}&number={agent}&metric={agent}",
    "/runs/{run}?panel=metrics",
    "/runs/{run}?panel=rollouts",
    "/runs/{run}?panel=log",
    "/runs/{run}?panel=log&q={agent}",
    "/runs/{run}?panel=config",
    "/runs/{run}?panel=dead-letters",
    "/compare?runs={both}",
    "/compare?runs={both}&of={agent}&group=none",
    "/runs/{agent}",
]


@pytest.mark.parametrize("path", PAGES)
def test_no_text_becomes_markup(runs: list[str], open_page: Callable[..., Page], path: str) -> None:
    """A page shows markup letter for letter as text and creates no element from it."""
    run, agent = quote(runs[0], safe=""), quote(MARKUP, safe="")
    page = open_page(path.format(run=run, agent=agent, both=quote(",".join(runs), safe="")))
    expect(page.locator("body")).to_contain_text(re.compile(re.escape(WORDS)))
    page.wait_for_timeout(2000)  # charts and rows are drawn one by one
    if (chart := page.locator(".js-plotly-plot .nsewdrag").first).is_visible():
        chart.hover(force=True)  # Plotly takes the text beside the pointer as markup, too
    assert page.evaluate(MADE) == []
