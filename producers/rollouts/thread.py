"""Watches a folder beside something else, in a thread."""

from __future__ import annotations

import threading

import structlog

from infra.folders import changes
from producers.rollouts.stream import RolloutStream

log = structlog.get_logger(part="watch")


class FolderThread:
    """Reads what comes below a stream's folder until it is closed."""

    def __init__(self, stream: RolloutStream) -> None:
        self._stream = stream
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Read what is there now, torn last lines as dead letters, and let go."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._stream.turn()
        self._stream.end()
        self._stream.close()
        self._stream.meta.finish()

    def _run(self) -> None:
        try:
            self._stream.turn()
            for paths in changes(self._stream.watcher.folder, self._stop, self._stream.watcher.tell):
                self._stream.turn(paths)
        except Exception:  # the worker goes on, whatever its files are
            log.exception("rollout files are no longer read as they come; they are read at the end")
