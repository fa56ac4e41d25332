"""Changes below a folder: by the system's notifications, or by polling where there are none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import watchfiles

NETWORK = (
    *("nfs", "cifs", "smb", "fuse", "9p", "lustre", "ceph", "gpfs", "beegfs", "afs", "glusterfs", "gcsfuse"),
    *("juicefs", "weka", "vboxsf", "virtiofs"),
)
"""File systems that do not notify of another machine's writes."""
TICK_SECONDS = 0.1
LOOK_SECONDS = 0.5
"""Seconds between polls without notifications."""
CHECK_SECONDS = 2.0
"""Seconds between polls with notifications: some are lost when a folder is new or the queue is full."""


def tells_changes(folder: Path) -> bool:
    """Whether the system notifies of every change below a folder; on a network disk it does not."""
    return not _file_system(folder).startswith(NETWORK)


def changes(folder: Path, stop: threading.Event, tell: Callable[[str], None]) -> Iterator[set[Path] | None]:
    """Changed files, a few times a second; None: look at all files. Ends when `stop` is set.

    Args:
        tell: called with a sentence if the system refuses to notify.
    """
    if tells_changes(folder):
        try:
            yield from _told(folder, stop)
        except (OSError, RuntimeError) as error:
            tell(
                f"The system does not tell what changes below {folder} ({error}): looks at all files instead."
            )
    yield from _looked(stop)


def _told(folder: Path, stop: threading.Event) -> Iterator[set[Path] | None]:
    looked = time.monotonic()
    words = watchfiles.watch(
        folder,
        watch_filter=None,
        debounce=50,
        step=10,
        stop_event=stop,
        rust_timeout=int(TICK_SECONDS * 1000),
        yield_on_timeout=True,
        force_polling=False,
        ignore_permission_denied=True,
    )
    pause = CHECK_SECONDS
    for word in words:
        if time.monotonic() - looked >= pause:
            began = time.monotonic()
            yield None
            looked = time.monotonic()
            pause = max(CHECK_SECONDS, 20 * (looked - began))
        else:
            yield {Path(path) for _, path in word}


def _looked(stop: threading.Event) -> Iterator[None]:
    pause = LOOK_SECONDS
    while not stop.wait(pause):
        began = time.monotonic()
        yield None
        pause = max(LOOK_SECONDS, 5 * (time.monotonic() - began))


def _file_system(folder: Path) -> str:
    """The type of a folder's file system; empty: unknown."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = ("", "")
    for line in mounts:
        _, point, kind, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")
        if os.path.commonpath((point, folder)) == point and len(point) >= len(found[0]):
            found = (point, kind)
    return found[1]
