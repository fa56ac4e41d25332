"""What the benchmarks share: the shape of a row, interleaved rounds and the composed limit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
ROUNDS = 7


@dataclass(frozen=True)
class Row:
    """One line of the table. Rates and limits are in `unit`; ratios are rate / limit and rate / peer_rate."""

    what: str
    rate: float
    unit: str
    limit: float | None = None
    limit_name: str = ""
    peer: float | None = None
    peer_name: str = ""
    spread: float | None = None
    """The difference of the largest and smallest round, divided by the median."""
    goal: str = ""
    lower_is_better: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The rate divided by the limit, or how many times the floor it is if lower is better."""
        return self.rate / self.limit if self.limit else None

    @property
    def peer_ratio(self) -> float | None:
        """How many times better than the peer the row is."""
        if not self.peer:
            return None
        return self.peer / self.rate if self.lower_is_better else self.rate / self.peer


class Unmeasured(Exception):  # noqa: N818 - not an error: a row that this machine cannot give
    """A row cannot be measured here, for the given reason."""


@dataclass(frozen=True)
class Rates:
    """Events per second of one part, round by round."""

    rounds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The rate of the best round, because a busy machine can only make a round slower."""
        return max(self.rounds)

    @property
    def spread(self) -> float:
        """The difference of the largest and smallest round, divided by the median."""
        return (max(self.rounds) - min(self.rounds)) / median(self.rounds)


def interleaved(parts: Mapping[str, Callable[[], int]], rounds: int = ROUNDS) -> dict[str, Rates]:
    """Run every part in turn, `rounds` times. A part returns the number of events that it handled."""
    seen: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            start = time.perf_counter()
            count = part()
            seen[name].append(count / (time.perf_counter() - start))
    return {name: Rates(tuple(rates)) for name, rates in seen.items()}


def harmonic(*rates: float) -> float:
    """Return the rate of doing one thing after the other: the limit of a pipeline on one core."""
    return 1 / sum(1 / rate for rate in rates)


def python_with(module: str) -> str:
    """Return an interpreter that has a module: this one, or that of `.venv-integrations`."""
    for python in (sys.executable, str(ROOT / ".venv-integrations" / "bin" / "python")):
        probe = [python, "-c", f"import {module}"]
        if Path(python).exists() and not subprocess.run(probe, capture_output=True, check=False).returncode:
            return python
    raise Unmeasured(f"{module} is not installed: `make test-integrations` brings it")
