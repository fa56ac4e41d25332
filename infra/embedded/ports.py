"""Free loopback ports, the same as last time if possible."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path

from infra.lock import FileLock

LOOPBACK = "127.0.0.1"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could bind this port now.

    Raises:
        OSError: the host is not of this machine, or the port may not be used.
    """
    with socket.socket() as probe:
        # As servers do: a port with old connections in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def reserve(port: int, host: str = LOOPBACK) -> FileLock | None:
    """Reserve a port for a server that binds it later; None: it is in use, or another process reserved it.

    The lock keeps the port from other stacks of this user until it is released.

    Raises:
        OSError: as `is_free`.
    """
    folder = Path(tempfile.gettempdir()) / f"stepstream-{os.getuid()}"
    lock = FileLock(folder / f"port-{port}.lock")
    if not is_free(port, host) or not lock.acquire(wait=0):
        return None
    return lock


def free_ports(wanted: list[int | None]) -> list[int]:
    """A free port for each wanted one: the wanted one if it is free, else any; all different."""
    probes: list[socket.socket] = []
    try:
        for port in wanted:
            probe = socket.socket()
            probes.append(probe)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port or 0))
            except OSError:
                probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def answers(port: int, request: bytes, *, prefix: bytes, timeout: float = 1.0) -> bool:
    """Whether the server at a loopback port answers a request with these first bytes."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(request)
            return connection.recv(len(prefix), socket.MSG_WAITALL) == prefix
    except OSError:
        return False
