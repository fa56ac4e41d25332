"""Curves for the eye: many points reduced to some, smoothed, without outliers. Pure, by numpy."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

ROLLING = 100
CENTRAL = (5.0, 95.0)
"""Percentiles between which a value is no outlier."""


Axis = Literal["step", "episode", "relative", "time"]
AXES: tuple[Axis, ...] = get_args(Axis)
"""What x can be."""

SMOOTHINGS = {
    "none": "None",
    "ema:0.6": "Exponential 0.6",
    "ema:0.9": "Exponential 0.9",
    "ema:0.99": "Exponential 0.99",
    "mean:10": "Mean of 10",
    "mean:100": "Mean of 100",
    "mean:1000": "Mean of 1,000",
}
"""Smoothings to choose from, as `Smoothing.read` takes them, with their words."""


class Curve(Struct):
    """Points of a line, by x. Where they were reduced, each stretch left its least and its most."""

    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    mean_x: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    """The smoothed line; empty without smoothing."""
    total: int = 0
    """Points before they were reduced; of a sample about how many there are in all."""
    reduced: bool = False
    origin: float = 0.0
    """When its first row was made, ms since 1970: from there relative time counts."""
    sampled: bool = False
    """Made of some rows only, evenly chosen, as the others are still being read."""


class Smoothing(Struct, frozen=True):
    """How a line is smoothed: `ema` with a weight from 0 to 1 (exclusive), or `mean` of the last n values."""

    kind: Literal["none", "ema", "mean"] = "none"
    amount: float = 0.0

    @classmethod
    def read(cls, text: str | None) -> Smoothing:
        """From an address: `ema:0.9`, `mean:100`; none for all else."""
        kind, _, amount = (text or "").partition(":")
        try:
            number = float(amount)
        except ValueError:
            return cls()
        if kind == "ema" and 0 < number < 1:
            return cls("ema", number)
        if kind == "mean" and 2 <= number <= 1_000_000:
            return cls("mean", float(int(number)))
        return cls()

    @property
    def text(self) -> str:
        """As it stands in an address."""
        return "" if self.kind == "none" else f"{self.kind}:{self.amount:g}"

    @property
    def words(self) -> str:
        """As a chart says it."""
        if self.kind == "none":
            return ""
        return f"exponential {self.amount:g}" if self.kind == "ema" else f"mean of {self.amount:g}"

    def of(self, y: Numbers) -> Numbers:
        """The smoothed values of finite ones."""
        if self.kind == "ema":
            return exponential_mean(y, self.amount)
        return rolling_mean(y, int(self.amount)) if self.kind == "mean" else y


def reduce(x: Numbers, y: Numbers, points: int, mean: Numbers | None = None) -> Curve:
    """At most `points` points: of each stretch the least and the most, in order; of `mean` every n-th.

    Where rows share an x, as the agents of a run share episodes, `mean` is that of the last of them.
    """
    curve = Curve(total=len(x), reduced=len(x) > points)
    chosen = downsampled(y, points)
    curve.x, curve.y = x[chosen].tolist(), y[chosen].tolist()
    if mean is not None:
        last = np.flatnonzero(np.diff(x, append=np.inf))
        every = last[_evenly(len(last), points)]
        curve.mean_x, curve.mean = x[every].tolist(), mean[every].tolist()
    return curve


def reduce_lists(x: list[float], y: list[float], points: int) -> tuple[list[float], list[float]]:
    """At most `points` of these points."""
    chosen = downsampled(np.array(y, dtype=np.float64), points).tolist()
    return [x[i] for i in chosen], [y[i] for i in chosen]


def downsampled(y: Numbers, points: int) -> Places:
    """Places of at most `points` values: of each stretch the least and the most. NaN stands for no value."""
    if len(y) <= points:
        return np.arange(len(y))
    width = -(-2 * len(y) // points)
    low = np.where(np.isnan(y), np.inf, y)
    high = np.where(np.isnan(y), -np.inf, y)
    begins = np.arange(0, len(y), width)
    least, most = (
        np.pad(values, (0, -len(y) % width), mode="edge").reshape(-1, width) for values in (low, high)
    )
    both = np.concatenate([begins + least.argmin(axis=1), begins + most.argmax(axis=1)])
    return np.unique(np.minimum(both, len(y) - 1))


def _evenly(count: int, points: int) -> Places:
    return np.unique(np.append(np.arange(0, count, max(1, -(-count // points))), max(count - 1, 0)))[:count]


def rolling_mean(y: Numbers, width: int = ROLLING) -> Numbers:
    """Mean of the last `width` values, of fewer at the beginning."""
    if not len(y):
        return y
    sums = np.cumsum(np.insert(y, 0, 0.0))
    ends = np.arange(1, len(y) + 1)
    begins = np.maximum(0, ends - width)
    means: Numbers = (sums[ends] - sums[begins]) / (ends - begins)
    return means


def exponential_mean(y: Numbers, weight: float) -> Numbers:
    """Exponential moving average; its beginning is not drawn towards zero (debiased, as TensorBoard's)."""
    mean, left = 0.0, 1.0
    out = []
    for value in y.tolist():
        mean = weight * mean + (1 - weight) * value
        left *= weight
        out.append(mean / (1 - left))
    return np.array(out, dtype=np.float64)


def central_range(y: Numbers) -> tuple[float, float] | None:
    """The range of a y axis that ignores outliers; None where there is nothing to draw."""
    finite = y[np.isfinite(y)]
    if not len(finite):
        return None
    low, high = np.percentile(finite, CENTRAL)
    margin = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    return float(low - margin), float(high + margin)
