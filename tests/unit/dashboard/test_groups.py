"""Groups of runs: which belong together, their interquartile mean, and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.groups import NONE, SEED, band, grouped, interval, iqm, is_seed
from infra.history.curves import Curve

CONFIGS = [
    {"lr": "0.1", "seed": "1"},
    {"lr": "0.2", "seed": "1"},
    {"lr": "0.1", "seed": "2"},
    {},
    {"lr": "0.1", "env.seed": "9", "env.size": "4"},
    {},
]


def line(values: list[float], begin: float = 0.0) -> Curve:
    """A curve of one value for each step."""
    return Curve(mean_x=[begin + n for n in range(len(values))], mean=values)


def test_which_belong_together() -> None:
    """Runs are grouped by all keys but the seed, by one key, or not; a run without the key stays alone."""
    assert grouped(CONFIGS, SEED) == [[0, 2], [1], [3], [4], [5]]
    assert grouped(CONFIGS, "lr") == [[0, 2, 4], [1], [3], [5]]
    assert grouped(CONFIGS, NONE) == [[n] for n in range(6)]


@pytest.mark.parametrize(
    ("key", "seed"),
    [
        ("seed", True),
        ("env.seed", True),
        ("random_seed", True),
        ("Seeds", True),
        ("lr", False),
        ("seed_rate", False),
    ],
)
def test_what_names_a_seed(key: str, seed: bool) -> None:
    """The last part of a key says whether the key names a seed."""
    assert is_seed(key) is seed


def test_the_interquartile_mean() -> None:
    """The mean leaves out a quarter of the runs at each end, rounded down, as rliable defines it."""
    assert iqm(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1000.0])) == pytest.approx(3.5)
    assert iqm(np.array([1.0, 2.0, 60.0])) == pytest.approx(21.0)
    two = np.array([[1.0, 10.0], [3.0, 30.0]])
    assert iqm(two).tolist() == [2.0, 20.0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12))
def test_the_interval_holds_the_mean(values: list[float]) -> None:
    """The interval lies within the runs' values, holds the mean, and is the same each time."""
    runs = np.array(values)[:, None]
    low, high = interval(runs, ["e"] * len(values))
    assert min(values) - 1e-9 <= low[0] <= high[0] <= max(values) + 1e-9
    assert low[0] - 1e-9 <= iqm(runs)[0] <= high[0] + 1e-9
    assert interval(runs, ["e"] * len(values))[0] == low


def test_runs_are_drawn_within_their_environment() -> None:
    """The bootstrap draws runs within their environment, which keeps the interval narrow."""
    runs = np.array([[0.0], [1.0], [100.0], [101.0]])
    low, high = interval(runs, ["a", "a", "b", "b"])
    assert (low[0], high[0]) == (50.0, 51.0) or (0.9 < high[0] - low[0] <= 1.0)
    wide_low, wide_high = interval(runs, ["a"] * 4)
    assert wide_high[0] - wide_low[0] > 90
    alone = interval(runs, ["a", "a", "a", "b"])  # b has a single run to draw from
    assert alone[1][0] - alone[0][0] > 90


def test_a_group_has_a_line_where_all_of_its_runs_have_one() -> None:
    """A group's line reaches from the latest beginning to the earliest end of its runs."""
    found = band([line([0.0, 1.0, 2.0, 3.0]), line([10.0, 11.0, 12.0], begin=1.0)], ["e", "e"])
    assert found is not None
    assert (found.x[0], found.x[-1]) == (1.0, 3.0)
    assert found.y[0] == pytest.approx(5.5)
    assert found.low[0] == pytest.approx(1.0)
    assert found.high[0] == pytest.approx(10.0)


def test_runs_with_nothing_in_common_have_no_line() -> None:
    """Runs with no x in common have no line, nor has a group in which one run has no points."""
    assert band([line([1.0, 2.0]), line([1.0, 2.0], begin=10.0)], ["e", "e"]) is None
    assert band([line([1.0, 2.0]), line([])], ["e", "e"]) is None
