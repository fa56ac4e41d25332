"""`Pace` of `live.js` decides when the page requests the next delta; the tests give it the time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

FRAME = 1000 / 60
ASKED = """([answer, paints, updates]) => {
  const pace = new window.stepstream.Pace(() => updates), waits = [];
  let frame = 0;
  pace.applied(0, 0);
  for (const paint of paints) {
    pace.painted(frame, frame + paint);
    const wait = pace.wait(frame, frame + paint);
    const asked = frame + paint + wait;
    waits.push(wait);
    pace.asked = asked;
    pace.applied(asked + answer, asked + answer);
    frame = Math.ceil((asked + answer) / (1000 / 60)) * (1000 / 60);
  }
  return waits;
}"""


def waits(page: Page, *, answer: float, paints: list[float], updates: int = 60) -> list[float]:
    """How many ms `Pace` waits before each request, after paints of so many ms; answers take `answer` ms."""
    page.wait_for_function("() => window.stepstream")
    found: list[float] = page.evaluate(ASKED, [answer, paints, updates])
    return found


def test_it_asks_so_late_that_the_answer_meets_the_frame(open_page: Callable[..., Page]) -> None:
    """The page requests at once until it knows the answer time, then just in time for the next frame."""
    found = waits(open_page("/"), answer=4.0, paints=[3.0] * 400)
    assert found[0] <= 0
    assert FRAME - 3.0 - 7.0 < found[-1] < FRAME - 3.0 - 4.0


def test_an_answer_that_takes_longer_than_a_frame_is_asked_for_at_once(
    open_page: Callable[..., Page],
) -> None:
    """With a distant dashboard the page does not wait, as waiting would only make deltas rarer."""
    assert max(waits(open_page("/"), answer=40.0, paints=[3.0] * 100)) <= 0


def test_where_painting_is_slow_it_rests(open_page: Callable[..., Page]) -> None:
    """After four slow paints in a row the page waits longer; a single slow paint changes nothing."""
    found = waits(open_page("/"), answer=4.0, paints=[90.0, 3.0, 3.0, 3.0, 90.0, 30.0, 30.0, 30.0, 60.0])
    assert max(found[:7]) < FRAME
    assert found[7] == pytest.approx(12 * 18.0)
    assert found[7] <= found[8] <= 300


def test_fewer_updates_are_a_setting(open_page: Callable[..., Page]) -> None:
    """With ten updates a second the page waits a tenth of a second from frame to frame."""
    assert waits(open_page("/"), answer=4.0, paints=[3.0] * 200, updates=10)[-1] > 100 - 3.0 - FRAME
