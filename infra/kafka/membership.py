"""A name that a group member keeps over a kill and a restart, so that it gets its partitions back at once.

Without a name the group waits until the dead member's session ends. The name consists of the host, the home
folder and a number that no other process of this home has; a restarted container keeps all three.
"""

from __future__ import annotations

import socket
import zlib

from infra.lock import FileLock
from infra.settings import Settings

MOST = 256


class Membership:
    """The name of one process in the group of a service. `instance_id` is Kafka's `group.instance.id`.

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
        """Release the name; the end of the process releases it, too."""
        if self._lock is not None:
            self._lock.release()
