"""What a run's page shows of a run that is unknown, or that has sent nothing yet."""

from __future__ import annotations

import asyncio

import pytest

from dashboard.address import Address
from dashboard.live.news import News
from dashboard.panel import Panel
from dashboard.panels.head import Head
from dashboard.panels.numbers import Numbers
from dashboard.time.words import of_run


def opened(panel: Panel) -> Panel:
    """A panel on an open page."""
    panel.address = Address.of("/runs/nobody-knows")
    panel.reset()
    return panel


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("later", [News(), of_run(News()), News(agent="a", first_of_agent=True, seek=True)])
def test_only_news_of_the_run_say_whether_it_is_known(known: bool, later: News) -> None:
    """News of the time bar or of a moment leave an unknown run unknown, and a known one known."""
    head = opened(Head())
    head.take(News(first=True, known=known))
    before = head.draw()["run.state"]
    head.take(later)
    assert {**head.draw()}.get("run.state", before) == before
    head.take(News(known=not known))
    assert head.draw()["run.state"] != before


def test_numbers_have_no_card_where_there_are_none() -> None:
    """A run that sent no steps, episodes or numbers of its own has no empty card."""
    numbers = opened(Numbers())
    assert numbers.draw()["numbers.look"] == ""  # before the first news nobody knows: nothing moves later
    numbers.take(News(first=True, run={"status": "running"}))
    assert numbers.draw()["numbers.look"] == "display: none"
    numbers.take(News(run={"status": "running", "config": '{"total_timesteps": 10}'}))
    assert numbers.draw()["numbers.look"] == ""
    numbers.take(News(run={"status": "running"}))
    numbers.own["loss"] = "metrics", None
    assert numbers.draw()["numbers.look"] == ""


class Counted:
    """A history that counts how often it is asked for names."""

    agent_id, run_id = "a", "r"

    def __init__(self) -> None:
        self.reads = 0

    async def names(self, source: str) -> list[str]:
        """None."""
        self.reads += source == "steps"
        return []


@pytest.mark.parametrize(("status", "once"), [("completed", True), ("running", False)])
async def test_numbers_are_read_again_while_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, status: str, once: bool
) -> None:
    """SQL is asked once for the numbers of a run that has ended, and again and again while one goes on."""
    monkeypatch.setattr("dashboard.panels.numbers.AGAIN_S", 0.001)
    numbers, history = opened(Numbers()), Counted()
    numbers.wake = lambda: None
    numbers.take(News(first=True, run={"status": status}))
    reading = asyncio.create_task(numbers.load(history))  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        while history.reads < (1 if once else 5):  # noqa: ASYNC110 - as a page does
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    reading.cancel()
    assert (history.reads == 1) == once
