"""Notices how a process ends, and finishes its runs then."""

from __future__ import annotations

import atexit
import os
import sys

from stepstream import _warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Run(Protocol):
        """What the end of a process needs of a run."""

        @property
        def name(self) -> str: ...
        def finish(self, status: str, *, error: str | None) -> None: ...
        def _tell_late(self) -> None: ...
        def _in_child(self) -> None: ...


live: set[Run] = set()
"""Runs of this process that have not ended."""
late: set[Run] = set()
"""Runs that were logged to after their end."""


class _Seen:
    """What is known of the end of this process."""

    error: BaseException | None = None
    exit_code: object = None
    hooked = False
    watched_pid = 0


def watch() -> None:
    """Called with a process's first event: install the hooks that notice its end."""
    if _Seen.watched_pid == os.getpid():
        return
    _Seen.watched_pid = os.getpid()
    util = sys.modules.get("multiprocessing.util")
    if util is not None:  # its workers exit by os._exit, and run only these finalizers
        util.Finalize(None, end_all, exitpriority=0)
    if not _Seen.hooked:
        _Seen.hooked = True
        atexit.register(end_all)
        _hook()


def how(error: BaseException | None) -> str:
    """A run's status after this exception ended its program or its `with` block; None: no exception."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "completed"
    return "cancelled" if isinstance(error, KeyboardInterrupt) else "failed"


def why(error: BaseException | None) -> str | None:
    """The reason of a run's end from the exception; None: it ended well."""
    if error is None or how(error) == "completed":
        return None
    name = type(error).__name__
    try:
        return f"{name}: {error}" if str(error) else name
    except Exception:  # its class may raise anything: training goes on
        return name


def end_all() -> None:
    """Finish the runs that are still live, with the status of the program's end."""
    error = _Seen.error
    if error is None and _Seen.exit_code:
        error = SystemExit(_Seen.exit_code)
    for run in list(live):
        _carefully(run, lambda run: run.finish(how(error), error=why(error)))
    for run in list(late):
        _carefully(run, lambda run: run._tell_late())


def _hook() -> None:
    """Notice an uncaught exception and the code of sys.exit, which atexit does not get."""
    inner_hook, inner_exit = sys.excepthook, sys.exit

    def excepthook(kind: type, error: BaseException, trace: object) -> None:
        _Seen.error = error
        inner_hook(kind, error, trace)  # type: ignore[arg-type]

    def leave(status: object = None) -> None:
        _Seen.exit_code = status
        inner_exit(status)  # type: ignore[arg-type]

    sys.excepthook, sys.exit = excepthook, leave  # type: ignore[assignment]


def _carefully(run: Run, action: Callable[[Run], None]) -> None:
    try:
        action(run)
    except Exception as problem:
        _warn.once("finish", f"run {run.name} could not be ended properly ({problem!r}).")


def _after_fork() -> None:
    for run in list(live):
        run._in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
