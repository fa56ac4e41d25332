"""The rollouts of one folder as a stream of a spool: what was read before, what is read now, how far."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from infra.lock import try_lock
from infra.settings import Settings
from producers.forward.background import BackgroundForwarder
from producers.lines.rollout import MARK
from producers.rollouts.checkpoint import State
from producers.rollouts.model import Format
from producers.rollouts.watcher import Watcher
from producers.spool.format import About, about_new, now_us, segment_path, segments
from producers.spool.meta_stream import MetaStream
from producers.spool.writer import SpoolWriter
from schemas.errors import AlreadyRunning

SAVE_SECONDS = 1.0


class _Marked(msgspec.Struct):
    """What a line of the spool says about itself."""

    watch_at: list[Any]
    type: str = ""
    run_id: str = ""


_read_mark = msgspec.json.Decoder(_Marked).decode


class RolloutStream:
    """Watches a folder into a spool that `shipping` ships. For one thread.

    Args:
        folder: absolute.
        tell: takes one sentence for the user.
        again: read files anew that were read before.
        options: of the watcher.

    Raises:
        AlreadyRunning: another process watches the folder.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        shipping: BackgroundForwarder,
        tell: Callable[[str], None],
        *,
        again: bool = False,
        wanted: Format | None = None,
        only: list[Path] | None = None,
        run_id: str | Callable[[], str] | None = None,
        agent_id: str | None = None,
        announce: bool = True,
    ) -> None:
        name = hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
        self._kept = settings.home / "watch" / name
        self._kept.mkdir(parents=True, exist_ok=True)
        lock = try_lock(self._kept / "lock")
        if lock is None:
            raise AlreadyRunning(f"Another process watches {folder}: end that one first.")
        self._lock = lock
        self._shipping, self._announce = shipping, announce
        state = State.load(self._kept)
        recover(settings, state)
        left = [*state.earlier, *filter(None, [state.stream_id])]
        if again:
            state = State(episodes=state.episodes)
        self.was_read = bool(state.files)
        self.about = about_new("watch", None, None)
        self._spool = SpoolWriter(settings, self.about)
        self._source = shipping.add(self.about)
        self._spool.unshipped = self._source.unshipped
        self.meta = MetaStream(settings, self.about, "watch", lambda: None)
        shipping.add(self.meta.about)
        state.earlier = [stream_id for stream_id in left if shipping.adopt(stream_id)]
        state.stream_id = self.about.stream_id
        self.stream_ids = [self.about.stream_id, *state.earlier]
        self.watcher = Watcher(
            folder,
            state,
            self._write,
            tell,
            started=self._started,
            wanted=wanted,
            only=only,
            run_id=run_id,
            agent_id=agent_id,
        )
        self._save()

    def turn(self, paths: set[Path] | None = None) -> bool:
        """Read what is new, and remember how far; whether there was anything."""
        found = self.watcher.poll(paths)
        if found:
            self._save_if_due()
        self._spool.sync_if_due()
        return found

    def end(self) -> None:
        """Nothing more will come: torn last lines are dead letters."""
        self.watcher.end()

    def close(self) -> None:
        """The spool is complete. The folder stays this process's own."""
        self._save()
        self._spool.finish()

    def shipped(self) -> None:
        """Kafka has acknowledged all of it."""
        self.watcher.state.stream_id, self.watcher.state.earlier = "", []
        self._save()

    def _write(self, lines: bytes) -> None:
        self._spool.append(lines, now_us())
        self._shipping.wake()

    def _started(self, run_id: str, name: str, format_: str) -> None:
        if self._announce:
            self.meta.say("run_started", run_id=run_id, name=name, format=format_)
            self._shipping.wake()

    def _save_if_due(self) -> None:
        """Saving takes at most a twentieth of the time."""
        if time.monotonic() >= self._due:
            self._save()

    def _save(self) -> None:
        began = time.monotonic()
        state = self.watcher.state
        state.segment, state.size = self._spool.position
        state.save(self._kept)
        ended = time.monotonic()
        self._due = ended + max(SAVE_SECONDS, 20 * (ended - began))


def recover(settings: Settings, state: State) -> None:
    """Take what the newest lines of the spool tell, which a killed process could not keep any more."""
    folder = settings.spool_dir / state.stream_id
    if not state.stream_id or About.read(folder) is None:
        return
    for first in segments(folder):
        if first < state.segment:
            continue
        with segment_path(folder, first).open("rb") as file:
            if first == state.segment:
                file.seek(state.size)
            for line in file:
                if line.endswith(b"\n") and MARK.encode() in line:
                    marked = _read_mark(line)
                    state.take(marked.watch_at, marked.run_id if marked.type == "rollout" else None)
