"""A chart's axes: their ranges grow in steps, as new points cost less than half where an axis stays. Pure."""

from __future__ import annotations

from math import ceil, floor, log2
from typing import Any

import numpy as np
from msgspec import Struct

from infra.history.curves import Axis, Curve, Numbers, central_range

TINY, HUGE, FINEST = 1e-290, 1e290, 1e-12
"""Spans of an axis, and parts of its values, beyond which its steps are no numbers."""
EDGE = 0.03
"""Of a line's span, left free above and below it."""
LEFT = 48
"""Of the labels of a y axis, in pixels."""

Range = dict[str, Any]
"""What a figure's layout says of an axis."""


class Scale(Struct, frozen=True):
    """How a chart's axes are drawn."""

    x: Axis = "step"
    """step, episode, relative or time."""
    log: bool = False
    """y is logarithmic."""
    outliers: bool = True
    """Whether y reaches as far as outliers lie."""
    reach: tuple[Numbers, Numbers] | None = None
    """Of a line that starts again: values of x and y that lines before it had. Its axes hold them, too."""

    @property
    def title(self) -> str:
        """Of the x axis."""
        return X_TITLES.get(self.x, X_TITLES["step"])


X_TITLES = {"step": "Step", "episode": "Episode", "relative": "Time since the start (s)", "time": "Time"}


def layout(curve: Curve, scale: Scale) -> dict[str, Range]:
    """What a figure's layout says of both axes, and of the margin for the labels of y."""
    y = y_axis(curve, scale)
    return {"xaxis": x_axis(curve, scale), "yaxis": y, "margin": {"l": _left(y)}}


def x_axis(curve: Curve, scale: Scale) -> Range:
    """Its range: it grows in steps, as new points cost less than half where an axis stays."""
    if scale.reach and scale.x == "time":
        return {}
    values = np.append(np.array(curve.x, dtype=np.float64), scale.reach[0] if scale.reach else ())
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    ends = _outward(low, high)
    return {"range": [low, ends[1]], "autorange": False} if ends else {"autorange": True}


def y_axis(curve: Curve, scale: Scale) -> Range:
    """Its type, and its range: of all values, or of those that are no outliers; in steps, as that of x."""
    axis: Range = {"type": "log" if scale.log else "linear"}
    values = np.array(curve.y, dtype=np.float64)
    ends = None
    if not scale.outliers and not scale.log:
        ends = central_range(values)
    elif len(values := _shown(np.append(values, scale.reach[1] if scale.reach else ()), scale)):
        low, high = float(values.min()), float(values.max())
        edge = EDGE * (high - low) or 1.0
        ends = _outward(low - edge, high + edge)
    return axis | ({"range": list(ends), "autorange": False} if ends else {"autorange": True})


def _shown(values: Numbers, scale: Scale) -> Numbers:
    values = values[np.isfinite(values)]
    return np.log10(values[values > 0]) if scale.log else values


def _left(y: Range) -> int:
    """The margin for the labels of y, in pixels: wider where values of many digits lie close together."""
    low, high = y.get("range", (0.0, 0.0))
    size = max(abs(low), abs(high))
    long = (size >= 1e4 or size < 1e-3) and high - low < size / 4
    return LEFT + 20 if long and y["type"] == "linear" else LEFT


def _outward(low: float, high: float) -> tuple[float, float] | None:
    """The next ends that are multiples of a step, 8 to 18 of which lie between. None: Plotly's will do."""
    if not max(TINY, FINEST * max(abs(low), abs(high))) < high - low < HUGE:
        return None
    step = 2.0 ** (floor(log2(high - low)) - 3)
    return floor(low / step) * step, ceil(high / step) * step
