"""`stack.json` and `stack.lock` in the home: which `up` runs there, and at which addresses.

`infra.settings` reads the addresses, so that `stepstream run` in another shell needs no variable. It
ignores the file unless the lock is held, so the file of a killed `up` does no harm.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.embedded.room import check_room
from infra.lock import FileLock
from infra.settings import STACK_FILE, STACK_LOCK, running_stack
from schemas.errors import AlreadyRunning


@contextmanager
def claimed(home: Path) -> Iterator[None]:
    """Lock the home: one `up` at a time.

    Raises:
        AlreadyRunning: another one holds it; the sentence has its pid and address.
        StepstreamError: the folder cannot be used, or its disk is full.
    """
    check_room(home)
    lock = FileLock(home / STACK_LOCK)
    if not lock.acquire():
        other = running_stack(home)
        who = f"pid {other['pid']}, {other['dashboard_url']}" if other else "it is just starting"
        raise AlreadyRunning(
            f"A stack runs on {home} already ({who}): use it, stop it with Ctrl-C, "
            "or set STEPSTREAM_HOME to another folder for a second one."
        )
    try:
        (home / STACK_FILE).unlink(missing_ok=True)
        yield
    finally:
        (home / STACK_FILE).unlink(missing_ok=True)
        lock.release(remove=True)


def publish(home: Path, addresses: dict[str, Any]) -> None:
    """Write the addresses atomically, for `infra.settings` and for users."""
    file = home / STACK_FILE
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps({"pid": os.getpid(), **addresses}, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, file)
