"""Executes another program that ends with its parent: `python -IS launch.py PARENT SIGNAL HOW COMMAND…`.

Run as a file, not imported, so that it costs 20 ms and no module of ours. HOW is `kernel` on Linux
(PR_SET_PDEATHSIG outlives the exec; it watches the *thread* that started us, so start children from
the main thread). Elsewhere it is `watch`: a forked process checks four times a second.
"""

from __future__ import annotations

import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
WATCH_SECONDS = 0.25


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, then exec the command."""
    parent, end, how, command = int(arguments[0]), int(arguments[1]), arguments[2], arguments[3:]
    # Python ignores SIGPIPE, and a script's background job SIGINT; exec keeps ignored signals: reset
    # them, as a shell does.
    for number in (signal.SIGPIPE, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    if how == "kernel":
        _ask_the_kernel(end)
    else:
        _fork_a_watcher(parent, end)
    if os.getppid() != parent:  # the parent died before prctl
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - a list, no shell


def _ask_the_kernel(end: int) -> None:
    import ctypes  # noqa: PLC0415 - only Linux pays for it

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, end, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")


def _fork_a_watcher(parent: int, end: int) -> None:
    child = os.getpid()
    if os.fork():
        return
    os.closerange(0, 256)  # especially the descriptor of a lock, which only the program may hold
    while os.getppid() == child:  # exec has succeeded
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.kill(child, end)
        except PermissionError:
            pass
        time.sleep(WATCH_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
