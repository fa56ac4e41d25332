"""How long to wait between tries while a server is away."""

from __future__ import annotations

import random
from collections.abc import Iterator


def pauses(first: float, longest: float) -> Iterator[float]:
    """Seconds between tries, without end: doubled each time up to `longest`, and varied by half.

    Varied, so that processes that lost the same server do not all ask it again at the same moment.
    """
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        pause = min(pause * 2, longest)
