"""A name that a group member keeps when it is killed and started again: it has its partitions back at once.

Without one the group waits for the end of the dead member's session. The name is made of the host's, the home
folder and a number that no other process of this home has; a container that restarts keeps all three.
"""

from __future__ import annotations

import socket
import zlib

from infra.lock import FileLock
from infra.settings import Settings

MOST = 256


class Membership:
    """One process' name in the group of a service. `instance_id` is Kafka's `group.instance.id`.

    It is None where the home folder cannot be written: two processes with one name would end each other.
    """

    def __init__(self, settings: Settings, service: str) -> None:
        self.instance_id: str | None = None
        self._lock: FileLock | None = None
        home = zlib.crc32(str(settings.home).encode())
        for number in range(MOST):
            name = f"{settings.group(service)}-{number}".replace("/", "_")
            lock = FileLock(settings.home / "members" / name)
            try:
                free = lock.acquire(wait=0.0)
            except OSError:
                return
            if free:
                self._lock = lock
                self.instance_id = f"{service}-{socket.gethostname()}-{home:08x}-{number}"
                return

    def release(self) -> None:
        """Let another process have the name; one that is killed does so, too."""
        if self._lock is not None:
            self._lock.release()
