"""Locks that a crash cannot leave behind: flock on a file, gone with whoever holds it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


class FileLock:
    """An exclusive flock. A child that inherits its descriptor holds the lock as long as it lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def acquire(self, wait: float = 0.5) -> bool:
        """Whether the lock is ours now. Waits a little, since others probe it for a moment."""
        deadline = time.monotonic() + wait
        while not self._try():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def fileno(self) -> int:
        """The descriptor that carries the lock."""
        return self._descriptor

    def release(self, *, remove: bool = False) -> None:
        """Let go here; a child that inherited the descriptor keeps the lock."""
        if self._descriptor >= 0:
            if remove:
                self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def _try(self) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have removed the file between our open and our flock.
            if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                self._descriptor = descriptor
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return False
