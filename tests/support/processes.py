"""Whether processes run, according to the system."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def runs(pid: int) -> bool:
    """Whether a process runs; an orphan that nobody reaps does not."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/status")
        return not Path("/proc/self").exists() or "\nState:\tZ" not in status.read_text()
    return False


def wait_for(condition: Callable[[], object], seconds: float = 30.0, what: str = "") -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: the condition does not hold after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what or "it did not come about"
        time.sleep(0.05)


def wait_until_gone(pids: Sequence[int], seconds: float = 10.0) -> None:
    """Wait for processes to end."""
    wait_for(lambda: not any(map(runs, pids)), seconds, f"of {pids} some outlived their parent")
