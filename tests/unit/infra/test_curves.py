"""Curves are thinned, smoothed and cut to a range before they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.history.curves import Smoothing, central_range, downsampled, exponential_mean, reduce, rolling_mean

VALUES = st.lists(st.floats(-1e9, 1e9) | st.just(float("nan")), max_size=400)


@settings(deadline=None)
@given(VALUES, st.integers(4, 100))
def test_thinning_keeps_the_extremes_in_order(values: list[float], points: int) -> None:
    """Thinning returns at most the wanted points, in order, with the least and the greatest value."""
    y = np.array(values, dtype=np.float64)
    chosen = downsampled(y, points)
    assert len(chosen) <= max(points, 0)
    assert np.all(np.diff(chosen) > 0)
    if np.isfinite(y).any():
        assert np.nanmax(y[chosen]) == np.nanmax(y)
        assert np.nanmin(y[chosen]) == np.nanmin(y)


def test_a_curve_has_all_points_where_there_are_few() -> None:
    """A curve that fits keeps all points; the smoothed line ends at the last point."""
    y = np.arange(6.0)
    curve = reduce(y, y, 100, rolling_mean(y, 2))
    assert (curve.x, curve.reduced, curve.mean) == (y.tolist(), False, [0.0, 0.5, 1.5, 2.5, 3.5, 4.5])
    thin = reduce(np.arange(1000.0), np.zeros(1000), 10, np.zeros(1000))
    assert (thin.total, thin.reduced, thin.mean_x[-1]) == (1000, True, 999.0)
    assert reduce(np.array([]), np.array([]), 10).x == []


@given(st.lists(st.integers(0, 9), min_size=1).map(sorted), st.integers(1, 50))
def test_a_smoothed_line_never_stands_upright(xs: list[int], points: int) -> None:
    """Where several rows share an x, the line has one point for them: what they all together come to."""
    x, mean = np.array(xs, dtype=np.float64), np.arange(float(len(xs)))
    curve = reduce(x, mean, points, mean)
    assert np.all(np.diff(curve.mean_x) > 0)
    assert all(
        mean[xs.index(at) : xs.index(at) + xs.count(at)].max() == of
        for at, of in zip(map(int, curve.mean_x), curve.mean, strict=True)
    )
    assert curve.mean_x[-1] == xs[-1]
    if points >= len(xs):
        assert curve.mean_x == sorted(set(xs))


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_an_exponential_mean_stays_within_its_values(values: list[float], weight: float) -> None:
    """The mean begins at the first value and stays within the range of the values so far."""
    y = np.array(values)
    mean = exponential_mean(y, weight)
    assert mean[0] == pytest.approx(y[0])
    assert np.all(mean <= np.maximum.accumulate(y) + 1e-6 * (1 + np.abs(y).max()))
    assert np.all(mean >= np.minimum.accumulate(y) - 1e-6 * (1 + np.abs(y).max()))


def test_an_exponential_mean_is_the_weighted_mean() -> None:
    """At weight 0.5, values 1, 2, 4 have the weights 1, 2, 4, beginning with the oldest."""
    assert exponential_mean(np.array([1.0, 2.0, 4.0]), 0.5).tolist() == pytest.approx([1, 5 / 3, 21 / 7])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ema:0.9", "exponential 0.9"),
        ("mean:100", "mean of 100"),
        ("ema:1", ""),
        ("ema:-1", ""),
        ("mean:1", ""),
        ("mean:nan", ""),
        ("ema:inf", ""),
        ("<b>", ""),
        ("", ""),
    ],
)
def test_smoothing_is_read_from_an_address(text: str, words: str) -> None:
    """A valid smoothing is read, named and written as it was read; an invalid one is ignored."""
    found = Smoothing.read(text)
    assert found.words == words
    assert found.text == (text if words else "")


def test_the_central_range_leaves_outliers_out() -> None:
    """One wild value does not flatten the curve; a constant still has a range."""
    y = np.append(np.linspace(0, 1, 1000), 1e9)
    low, high = central_range(y) or (0, 0)
    assert (-0.1 < low < 0.1, 0.9 < high < 1.1) == (True, True)
    assert central_range(np.full(5, 2.0)) == pytest.approx((1.8, 2.2))
    assert central_range(np.array([np.nan])) is None
