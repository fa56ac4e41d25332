"""A curve of what SQL holds and what only Redis has yet. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from infra.history.curves import ROLLING, Curve, reduce, rolling_mean
from schemas.live import LiveEpisode

POINTS = 2000
"""Points of one curve at most: more than a screen has columns."""


def return_curve(stored: Curve, episodes: Sequence[LiveEpisode], seen: int) -> dict[str, list[Any]]:
    """Return per episode with its rolling mean: what SQL holds, then what only Redis has yet.

    Args:
        stored: the curve of the whole run from SQL; empty where SQL knows nothing.
        episodes: the newest episodes from Redis, oldest first.
        seen: how many episodes of the agent the live path has seen; the last of `episodes` is this one.

    Returns:
        `x, y, mean_x, mean`; `tail`: the newest returns, from which the page goes on; `best`: the best one
        and its episode. x ascends: an episode of another attempt stands behind those before it.
    """
    whole = stored if len(episodes) < seen or not episodes else Curve()
    begin = seen - len(episodes)
    last = whole.x[-1] if whole.x else -1.0
    fresh = [
        (float(begin + i if episode.episode_index is None else episode.episode_index), episode.episode_return)
        for i, episode in enumerate(episodes)
    ]
    finite = [(x, y) for x, y in fresh if y is not None and math.isfinite(y)]
    added = ascending([(x, y) for x, y in finite if x > last], last)
    tail = [y for _, y in finite] or stored.y[-ROLLING:]
    best = max([*zip(whole.y, whole.x, strict=True), *((y, x) for x, y in finite)], default=())
    return _joined(whole, added) | {"tail": tail[-ROLLING:], "best": list(best)}


def _joined(stored: Curve, added: list[tuple[float, float]]) -> dict[str, list[Any]]:
    x = np.array([at for at, _ in added])
    y = np.array([value for _, value in added])
    if not stored.x:
        stored, x, y = reduce(x, y, POINTS, rolling_mean(y)), x[:0], y[:0]
    carried = np.concatenate([np.array(stored.y[-ROLLING:]), y])
    return {
        "x": stored.x + x.tolist(),
        "y": stored.y + y.tolist(),
        "mean_x": stored.mean_x + x.tolist(),
        "mean": stored.mean + rolling_mean(carried)[len(carried) - len(y) :].tolist(),
    }


def ascending(points: Iterable[tuple[float, float]], last: float) -> list[tuple[float, float]]:
    """The points with x made to grow: a number that comes again (a restart) goes one to the right."""
    out = []
    for x, y in points:
        last = x if x > last else last + 1
        out.append((last, y))
    return out


def number(value: Any) -> float | None:
    """A finite number; None for all else, as JSON has no NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
