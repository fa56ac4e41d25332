"""Permissions of stepstream's files: for its user only, or for a group that the folder is shared with.

Spools hold what a worker printed; homes hold databases and logins. A folder is shared with its group when its
setgid bit and the group's write bit are set, as by Kubernetes' `fsGroup`: then another user's forwarder can
ship its spools.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

PRIVATE = 0o077
_users = 0o022


def restrict() -> None:
    """From now on, files of this program are readable by its user only."""
    global _users  # noqa: PLW0603 - a process has one umask
    _users = os.umask(PRIVATE)


def users_umask() -> int:
    """The umask with which this program was started: for workers, and for files that a user asked for."""
    return _users


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    if is_shared(path.parent):
        path.chmod(0o2770)


def opened(path: Path, flags: int) -> int:
    """A descriptor of a file, as `os.open`.

    Raises:
        OSError: as `os.open`.
    """
    descriptor = os.open(path, flags, 0o600)
    if flags & os.O_CREAT and is_shared(path.parent):
        with contextlib.suppress(PermissionError):  # it belongs to another user, who has shared it
            os.fchmod(descriptor, 0o660)
    return descriptor


def is_shared(folder: Path) -> bool:
    """Whether a folder is shared with its group."""
    wanted = stat.S_ISGID | stat.S_IWGRP
    return folder.stat().st_mode & wanted == wanted
