"""Runs of one kind as one line: their interquartile mean, and how sure it is. Pure.

The mean of the middle half of the runs, and its 95 % interval by a percentile bootstrap that draws runs anew
within each environment, as in Agarwal, Schwarzer, Castro, Courville and Bellemare, "Deep Reinforcement
Learning at the Edge of the Statistical Precipice", NeurIPS 2021 (https://arxiv.org/abs/2108.13264).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from msgspec import Struct

from infra.history.curves import Curve, Numbers
from schemas.errors import UsageError

POINTS = 100
"""Of a group's line."""
RESAMPLES = 1000
CONFIDENCE = 0.95
AT_ONCE = 2_000_000
"""Numbers that are drawn at once: 16 MB."""

SEED = "seed"
"""Groups by every key but the seed."""
NONE = "none"
"""No groups."""


def default() -> str:
    """How runs are grouped where the address does not say: SciPy, which works out the band, is an extra."""
    return SEED if find_spec("scipy") else NONE


class Band(Struct):
    """The line of a group, over the part of x that all of its runs have."""

    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


def grouped(configs: Sequence[Mapping[str, str]], by: str) -> list[list[int]]:
    """Places of the runs of each group, in the order in which the runs are named.

    Args:
        configs: of each run its settings; `algorithm` and `environment` are settings, too.
        by: `SEED`, `NONE` or a key. A run without any setting, or without that key, stays by itself.
    """
    found: dict[Any, list[int]] = {}
    for place, config in enumerate(configs):
        found.setdefault(_kind(config, by) or place, []).append(place)
    return list(found.values())


def _kind(config: Mapping[str, str], by: str) -> tuple[tuple[str, str], ...]:
    if by == SEED:
        return tuple(sorted((key, value) for key, value in config.items() if not is_seed(key)))
    return ((by, config[by]),) if by in config else ()


def is_seed(key: str) -> bool:
    """Whether a key of a configuration names a seed: `seed`, `env.seed`, `random_seed`."""
    return key.rpartition(".")[2].lower().removesuffix("s").endswith("seed")


def band(curves: Sequence[Curve], strata: Sequence[str]) -> Band | None:
    """The interquartile mean of several curves and its interval; None where no part of x is common to them.

    Args:
        curves: evenly downsampled lines (`mean_x`, `mean`).
        strata: of each curve the environment: runs are drawn anew among those of their own.

    Raises:
        UsageError: SciPy is not installed.
    """
    if not find_spec("scipy"):
        raise UsageError("Groups of runs need SciPy: install stepstream-server[compare], or choose none.")
    lines = [(np.array(curve.mean_x), np.array(curve.mean)) for curve in curves]
    if any(not len(x) for x, _ in lines):
        return None
    begin, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    if begin > end:
        return None
    grid = np.linspace(begin, end, POINTS if end > begin else 1)
    values = np.array([np.interp(grid, x, y) for x, y in lines])
    low, high = interval(values, strata)
    return Band(grid.tolist(), iqm(values).tolist(), low.tolist(), high.tolist())


def iqm(values: Numbers, axis: int = 0) -> Numbers:
    """Mean of the middle half along an axis: a quarter is left out at each end, rounded down."""
    from scipy.stats import trim_mean  # noqa: PLC0415 - a second, which a dashboard need not wait for

    mean: Numbers = trim_mean(values, 0.25, axis=axis)
    return mean


def interval(values: Numbers, strata: Sequence[str]) -> tuple[Numbers, Numbers]:
    """The ends of the interval at each point; of a single run the line itself.

    Where an environment has one run only, nothing can be drawn within it: then all runs are one stratum.

    Args:
        values: runs × points.
        strata: of each run.
    """
    from scipy.stats import bootstrap  # noqa: PLC0415 - the same

    if len(values) < 2:
        return values[0], values[0]
    names = np.array(strata)
    parts = [values[names == name] for name in sorted(set(strata))]
    if any(len(part) < 2 for part in parts):
        parts = [values]
    found = bootstrap(
        parts,
        lambda *samples, axis: iqm(np.concatenate(samples, axis=axis), axis),
        n_resamples=RESAMPLES,
        batch=max(1, AT_ONCE // values.size),
        vectorized=True,
        axis=0,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),  # the same runs have the same band, however often it is drawn
    )
    return found.confidence_interval.low, found.confidence_interval.high
