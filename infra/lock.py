"""File locks that no crash leaves behind: the kernel releases an flock when its process ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from infra.private import opened


def try_lock(path: Path) -> int | None:
    """Take an exclusive flock on a file, which is created if missing.

    Returns:
        The descriptor that holds the lock; None: another process holds it.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = opened(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def is_held(path: Path) -> bool:
    """Whether a process holds the lock; False where the file is missing.

    Raises:
        OSError: the file exists and cannot be opened, so the answer is unknown.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class FileLock:
    """An exclusive lock with a time-out, whose file can be removed at the end.

    A child process that inherits the descriptor holds the lock as long as it lives.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def acquire(self, wait: float = 0.5) -> bool:
        """Take the lock; returns whether that succeeded.

        Args:
            wait: seconds to try; a process that checks the lock holds it for a moment.
        """
        deadline = time.monotonic() + wait
        while not self._try():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def fileno(self) -> int:
        """The descriptor that holds the lock."""
        return self._descriptor

    def release(self, *, remove: bool = False) -> None:
        """Close our descriptor; a child that inherited it keeps the lock."""
        if self._descriptor >= 0:
            if remove:
                self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def _try(self) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = try_lock(self.path)
        if descriptor is None:
            return False
        try:
            # Its last holder may have removed the file between our open and our flock.
            if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                self._descriptor = descriptor
                return True
        except FileNotFoundError:
            pass
        os.close(descriptor)
        return False
