"""What the rows are made with: a row's shape, interleaved rounds, the composed limit."""

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
    """(largest - smallest) / median over the rounds."""
    goal: str = ""
    lower_is_better: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Of the limit reached: 1 is all of it (how many times the floor, where lower is better)."""
        return self.rate / self.limit if self.limit else None

    @property
    def peer_ratio(self) -> float | None:
        """Times better than the peer."""
        if not self.peer:
            return None
        return self.peer / self.rate if self.lower_is_better else self.rate / self.peer


class Unmeasured(Exception):  # noqa: N818 - not an error: a row that this machine cannot give
    """Why a row cannot be measured here."""


@dataclass(frozen=True)
class Rates:
    """Events per second of one part, round by round."""

    rounds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The best round: a busy machine only ever takes away."""
        return max(self.rounds)

    @property
    def spread(self) -> float:
        """(largest - smallest) / median."""
        return (max(self.rounds) - min(self.rounds)) / median(self.rounds)


def interleaved(parts: Mapping[str, Callable[[], int]], rounds: int = ROUNDS) -> dict[str, Rates]:
    """Run every part in turn, `rounds` times over. A part returns how many events it worked on."""
    seen: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            start = time.perf_counter()
            count = part()
            seen[name].append(count / (time.perf_counter() - start))
    return {name: Rates(tuple(rates)) for name, rates in seen.items()}


def harmonic(*rates: float) -> float:
    """Rate of doing one thing after the other: the limit of a pipeline on one core."""
    return 1 / sum(1 / rate for rate in rates)


def python_with(module: str) -> str:
    """An interpreter that has a peer's module: this one, or that of `.venv-integrations`."""
    for python in (sys.executable, str(ROOT / ".venv-integrations" / "bin" / "python")):
        probe = [python, "-c", f"import {module}"]
        if Path(python).exists() and not subprocess.run(probe, capture_output=True, check=False).returncode:
            return python
    raise Unmeasured(f"{module} is not installed: `make test-integrations` brings it")
