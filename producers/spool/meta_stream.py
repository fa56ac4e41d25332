"""stepstream's own stream beside a worker's: started, heartbeats, stderr, the end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from infra.settings import Settings
from producers.spool.format import About, about_meta, iso, now_us
from producers.spool.writer import SpoolWriter


class MetaStream:
    """Appends records of our own. For any thread.

    Args:
        parent: the worker's stream.
        writer: who we are: `run`, `ingest` or `forward`.
        run_id: the run that the worker is in just now; None: not known yet, so the line names none.
    """

    def __init__(
        self, settings: Settings, parent: About, writer: str, run_id: Callable[[], str | None]
    ) -> None:
        self.about = about_meta(parent, writer)
        self._spool = SpoolWriter(settings, self.about)
        self._run_id = run_id
        self._lock = threading.Lock()

    def say(self, kind: str, **said: Any) -> None:
        """Append one record: `kind` names the event; what is None is left out."""
        now = now_us()
        line = {"event": kind, "ts": iso(now), "run_id": self._run_id(), **said}
        text = json.dumps({name: value for name, value in line.items() if value is not None})
        with self._lock:
            self._spool.append(text.encode() + b"\n", now)

    def finish(self) -> None:
        """No more will come."""
        with self._lock:
            self._spool.finish()

    def close(self) -> None:
        """Let go; another process may go on."""
        with self._lock:
            self._spool.close()
