"""A viewer's clock, the axis of a time bar, and what a page may ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.address import Address
from dashboard.live.news import News, Row
from dashboard.panels.time_bar import following
from dashboard.time import axis
from dashboard.time.clock import Delayed, Pace
from dashboard.time.moves import Move
from dashboard.time.words import names_moment, number, speed_of, spoken, where
from schemas.live import LiveStep

_SPEEDS = st.sampled_from((0.1, 1.0, 100.0))


def step(at: float, episode: int = 0) -> Row:
    """A step of an event time in seconds."""
    return Row(LiveStep("s", 1, int(at * 1e6), episode, 0, *[None] * 8), "a")  # type: ignore[arg-type]


@given(_SPEEDS, _SPEEDS, st.floats(0, 60), st.floats(0, 60))
def test_a_change_of_speed_is_no_jump(first: float, second: float, before: float, after: float) -> None:
    """A replay goes on from the same moment when its speed changes."""
    pace = Pace(first)
    pace.start(1_000_000, 10.0)
    here = pace.at(10.0 + before)
    pace.change(second, 10.0 + before)
    assert abs(pace.at(10.0 + before) - here) <= 1
    assert pace.at(10.0 + before + after) - here == pytest.approx(after * second * 1e6, abs=2)


def test_a_long_pause_is_skipped_and_a_short_one_is_kept() -> None:
    """A pause of more than three seconds of the viewer's time is skipped; a shorter one is kept."""
    pace = Pace(2.0)
    pace.start(0, 0.0)
    assert pace.skip(6_000_000, 0.0) == 0
    assert pace.skip(60_000_000, 1.0) == 58_000_000
    assert pace.at(1.0) == 60_000_000


def test_a_delay_gives_steps_as_evenly_as_they_were_made() -> None:
    """Steps of one delta are shown one by one, each after the same delay; everything else at once."""
    delayed = Delayed(2.0)
    steps = [step(100.0 + n / 10) for n in range(10)]
    rest = delayed.put(News(agent="a", steps=steps, run={"status": "running"}), now=100.9)
    assert (rest.steps, rest.run) == ([], {"status": "running"})
    assert delayed.take(101.9, "a") is None
    given_at = [len(news.steps) if (news := delayed.take(102.05 + n / 10, "a")) else 0 for n in range(10)]
    assert given_at == [1] * 10


def test_a_zoomed_axis_stays_around_its_viewer_and_follows_the_newest() -> None:
    """A zoomed part keeps its width at both ends of the axis and follows the newest step."""
    assert axis.zoomed((0, 1000), 1000, 10) == (900, 1000)
    assert axis.zoomed((0, 2000), 2000, 10) == (1800, 2000)
    assert axis.zoomed((0, 1000), 0, 10) == (0, 100)
    assert axis.zoomed((0, 1000), 500, 10) == (450, 550)
    assert axis.zoomed((0, 1000), 500, 1) == (0, 1000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", "x"),
        ("scrub", ""),
        ("scrub", "1;"),
        ("scrub", "nan"),
        ("step", "inf"),
        ("drop", "1"),
        ("", ""),
        ("__init__", ""),
    ],
)
def test_what_is_no_move_is_none(name: str, value: str) -> None:
    """A page's message that is no valid move is read as none."""
    assert Move.of(name, value) is None


def test_an_address_names_a_moment_in_old_words_and_in_new() -> None:
    """An address names a position, a line of a stream, an episode, or a step of an episode."""
    assert where(Address.of("/runs/r?at=best-3")) == "best-3"
    assert where(Address.of("/runs/r?at=s/4")) == "s/4"
    assert where(Address.of("/runs/r?episode=3")) == "episode:3"
    assert where(Address.of("/runs/r?episode=3&step=4")) == "episode:3/4"
    assert not names_moment(Address.of("/runs/r?agent=a"))
    assert number("nan") == number("x") == 0
    assert speed_of(Address.of("/runs/r?speed=100")) == 100
    assert speed_of(Address.of("/runs/r?speed=3")) == speed_of(Address.of("/runs/r?speed=nan")) == 1


def test_a_chosen_episode_follows_its_viewer() -> None:
    """The chosen episode in the address changes when the viewer moves into another one."""
    chosen = Address.of("/runs/r?episode=3&step=4")
    assert spoken(chosen, "step:9", News(steps=[step(0, 3)])) == {
        "at": "step:9",
        "step": None,
        "follow": None,
    }
    assert spoken(chosen, "step:9", News(steps=[step(0, 4)]))["episode"] == "4"
    assert "episode" not in spoken(Address.of("/runs/r"), "step:9", News(steps=[step(0, 4)]))


def test_the_link_that_follows_a_viewer_names_no_moment() -> None:
    """The link that follows a viewer keeps host, agent and axis, and drops the moment."""
    href = "https://host:1/runs/a%20b?agent=x&at=seq%3A7&episode=3&step=4&loop=1&axis=time"
    assert following(href, "v/1") == "https://host:1/runs/a%20b?agent=x&axis=time&follow=v%2F1"
