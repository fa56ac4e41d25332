"""Curves: what SQL holds and what only Redis has yet become one line."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from dashboard.sql import joined as figures
from infra.history.curves import Curve
from schemas.live import LiveEpisode, MetricPoint


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
    """A run that persist has not seen yet shows at once."""
    figure = figures.return_curve(Curve(), episodes(1.0, 3.0), seen=2)
    assert (figure["x"], figure["y"], figure["mean"]) == ([0, 1], [1, 3], [1, 2])


def test_redis_goes_on_where_sql_ends() -> None:
    """An episode in both counts once."""
    figure = figures.return_curve(stored(1.0, 2.0), episodes(2.0, 6.0, first=1), seen=3)
    assert (figure["x"], figure["y"]) == ([0, 1, 2], [1, 2, 6])
    assert figure["mean"][-1] == 3.0


def test_episodes_without_a_number_are_counted_in_order() -> None:
    """A worker that numbers nothing still has an x axis."""
    figure = figures.return_curve(Curve(), episodes(1.0, 2.0, 3.0, first=None), seen=3)
    assert figure["x"] == [0, 1, 2]


def test_a_worker_that_begins_again_does_not_fold_the_line_back() -> None:
    """Numbers that come again go on to the right."""
    again = [*episodes(1.0, 2.0), *episodes(3.0, 4.0)]
    assert figures.return_curve(Curve(), again, seen=4)["x"] == [0, 1, 2, 3]


def test_what_is_no_number_leaves_no_point() -> None:
    """NaN and null have no place on a curve; JSON has no word for them."""
    figure = figures.return_curve(Curve(), episodes(1.0, math.nan, None, math.inf, 2.0), seen=5)
    assert (figure["x"], figure["y"], figure["tail"]) == ([0, 4], [1, 2], [1, 2])


@given(st.lists(st.floats(-1e9, 1e9), max_size=300), st.integers(0, 300))
def test_a_curve_always_goes_right_and_keeps_its_newest(returns: list[float], split: int) -> None:
    """Wherever SQL ends and Redis begins: x ascends, the newest return is the last point."""
    known = stored(*returns[:split])
    figure = figures.return_curve(known, episodes(*returns[split:], first=split), seen=len(returns))
    assert figure["x"] == sorted(set(figure["x"]))
    assert len(figure["x"]) == len(figure["y"])
    assert len(figure["mean_x"]) == len(figure["mean"])
    if returns:
        assert figure["y"][-1] == returns[-1]


def test_a_metric_takes_from_redis_what_lies_behind_sql() -> None:
    """Points of both, each once, by their global step."""
    points = [MetricPoint(0, "a", step, {"loss": 1.0 / step, "other": 5.0}) for step in (1, 2, 3)]
    curve = Curve(x=[1.0, 2.0], y=[1.0, 0.5])
    assert figures.metric(curve, "loss", points) == {"x": [1, 2, 3], "y": [1, 0.5, 1 / 3]}


def test_rewards_of_an_episode_stand_at_their_steps() -> None:
    """A step without a number takes its place in the order; a reward that is none is a gap."""
    steps = [{"step": 4, "reward": 1.0}, {"step": None, "reward": "NaN"}, {"step": 6, "reward": 2}]
    assert figures.episode_rewards(steps) == {"x": [4, 1, 6], "y": [1, None, 2]}
