"""Starts and ends programs that must not outlive this one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

LAUNCHER = Path(__file__).with_name("launch.py")
TIE = "kernel" if sys.platform == "linux" else "watch"


def spawn(
    command: Sequence[str],
    *,
    output: IO[bytes] | int | None = None,
    errors: IO[bytes] | int | None = None,
    variables: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    keep_open: Sequence[int] = (),
    death_signal: int = signal.SIGKILL,
    tie: str = TIE,
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, so that we pass the terminal's Ctrl-C on.

    It gets `death_signal` when this process ends in any way, SIGKILL included. Call it from the main
    thread: on Linux the kernel watches the thread.

    Args:
        output: its stdout and stderr; None: the same as ours.
        errors: its stderr, if different.
        variables: added to our environment.
        keep_open: file descriptors that it inherits, such as that of an flock.
        tie: `kernel` (Linux) or `watch`: how it is made to end with this process.
    """
    return subprocess.Popen(
        [sys.executable, "-IS", str(LAUNCHER), str(os.getpid()), str(int(death_signal)), tie, *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors if output is None or errors is not None else subprocess.STDOUT,
        env=None if variables is None else os.environ | variables,
        cwd=cwd,
        pass_fds=tuple(keep_open),
        process_group=0,
    )


def end(process: subprocess.Popen[bytes], grace: float = 10.0) -> int:
    """Send SIGTERM, and after `grace` seconds SIGKILL to its group; returns the exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            kill_group(process)
    return process.wait()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Send SIGKILL to the program and its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
