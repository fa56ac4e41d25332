"""Curves: what SQL holds and what only Redis has yet become one line."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from dashboard.sql import joined
from infra.history.curves import Curve
from schemas.live import LiveEpisode


def episodes(*returns: float | None, first: int | None = 0) -> list[LiveEpisode]:
    """Finished episodes with these returns, numbered from `first`."""
    return [
        LiveEpisode("S", i + 1, 0, None, None if first is None else first + i, value, 5, *[None] * 6)
        for i, value in enumerate(returns)
    ]


def stored(*returns: float) -> Curve:
    """A curve of a run's first episodes."""
    x = [float(i) for i in range(len(returns))]
    return Curve(x=x, y=list(returns), mean_x=x, mean=list(returns), total=len(returns))


def test_without_sql_the_curve_is_what_redis_holds() -> None:
    """A run that SQL does not have yet has its curve from Redis."""
    curve = joined.return_curve(Curve(), episodes(1.0, 3.0), seen=2)
    assert (curve["x"], curve["y"], curve["mean"]) == ([0, 1], [1, 3], [1, 2])


def test_redis_goes_on_where_sql_ends() -> None:
    """An episode that both SQL and Redis have counts once."""
    curve = joined.return_curve(stored(1.0, 2.0), episodes(2.0, 6.0, first=1), seen=3)
    assert (curve["x"], curve["y"]) == ([0, 1, 2], [1, 2, 6])
    assert curve["mean"][-1] == 3.0


def test_episodes_without_a_number_are_counted_in_order() -> None:
    """Episodes without an index still have an x axis."""
    curve = joined.return_curve(Curve(), episodes(1.0, 2.0, 3.0, first=None), seen=3)
    assert curve["x"] == [0, 1, 2]


def test_a_worker_that_begins_again_does_not_fold_the_line_back() -> None:
    """An index that is repeated continues to the right; the best episode keeps its own."""
    again = [*episodes(1.0, 2.0), *episodes(3.0, 4.0)]
    curve = joined.return_curve(Curve(), again, seen=4)
    assert (curve["x"], curve["best"]) == ([0, 1, 2, 3], [4, 1])
    assert joined.return_curve(stored(1.0, 9.0), episodes(3.0, first=2), seen=3)["best"] == [9, 1]
    assert joined.return_curve(Curve(), [], seen=0)["best"] == []


def test_what_is_no_number_leaves_no_point() -> None:
    """NaN, the infinities and null leave no point on a curve."""
    curve = joined.return_curve(Curve(), episodes(1.0, math.nan, None, math.inf, 2.0), seen=5)
    assert (curve["x"], curve["y"], curve["tail"]) == ([0, 4], [1, 2], [1, 2])


@given(st.lists(st.floats(-1e9, 1e9), max_size=300), st.integers(0, 300))
def test_a_curve_always_goes_right_and_keeps_its_newest(returns: list[float], split: int) -> None:
    """x ascends and the newest return is the last point, wherever SQL ends and Redis begins."""
    known = stored(*returns[:split])
    curve = joined.return_curve(known, episodes(*returns[split:], first=split), seen=len(returns))
    assert curve["x"] == sorted(set(curve["x"]))
    assert len(curve["x"]) == len(curve["y"])
    assert len(curve["mean_x"]) == len(curve["mean"])
    if returns:
        assert curve["y"][-1] == returns[-1]
