"""The inputs of `ingest`: files, compressed or not, pipes and stdin."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from cli.waiting import say
from producers.capture.decoding import Decoder
from producers.capture.file_input import FollowedFile
from producers.forward.run_id import named_run
from producers.forward.stream import Stream
from producers.ledger import Entry, Progress
from producers.spool.format import READ_BYTES, Checkpoint
from schemas.errors import UsageError

HEAD_BYTES = 4096
FOLLOW_SECONDS = 0.02


class Given(Protocol):
    """A source of lines."""

    name: str
    live: bool
    before: Checkpoint | None

    def chunks(self, over: Callable[[], bool], *, follow: bool) -> Iterator[bytes]:
        """The next bytes; empty while there are none."""

    def shipped(self, stream: Stream, runs: list[str]) -> None:
        """Called when its stream is in the spool and shipped; `runs` are those in its lines."""


class Input:
    """A file, compressed or not, a pipe or stdin.

    Raises:
        UsageError: it cannot be read, or looks like no text.
    """

    def __init__(self, name: str, *, force: bool) -> None:
        self.name, self.live, self.head = name, name == "-", b""
        self.before: Checkpoint | None = None
        """What the lines that were ingested before named."""
        self.progress = Progress()
        self._entry: Entry | None = None
        self.skipped = 0
        """Bytes at its beginning that were ingested before."""
        self._descriptor = 0
        if self.live:
            if sys.stdin is None or sys.stdin.name != "<stdin>":  # stdin was closed before we started
                raise UsageError(
                    "stdin is closed: name a file, or pipe lines in: worker | stepstream ingest -"
                )
            return
        path = Path(name)
        try:
            if not path.is_file() and not path.is_fifo():
                raise UsageError(f"{name} is no file." if path.exists() else f"There is no file {name}.")
            if path.is_fifo():
                self.live, self._descriptor = True, os.open(name, os.O_RDONLY | os.O_CLOEXEC)
                return
            self.head = self._peek()
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror or error}.") from None
        if b"\0" in self.head and not force:
            raise UsageError(f"{name} looks like no text (a NUL byte in its first 4 KiB): --force takes it.")

    def first_run(self) -> str | None:
        """The run that one of its first lines names, if any."""
        named = (named_run(line) for line in self.head.split(b"\n")[:-1])
        return next((run_id for run_id in named if run_id is not None), None)

    def compare(self, entry: Entry, *, again: bool) -> bool:
        """Compare the file with what was ingested of it before; it is read from where that ended.

        Args:
            again: read it from its beginning nevertheless.

        Returns:
            Whether there is more to read.
        """
        self._entry, said = entry, entry.said
        if again or not entry.taken_us:
            return True
        there, rest = Progress(), b""
        missing, longest = said["bytes"], said["rest"]
        for data in self._decoded(lambda: False, follow=False, quiet=True):
            there.take(data[:missing])
            rest += data[missing:]
            missing -= min(len(data), missing)
            if len(rest) > longest:
                break
        if there.bytes != said["bytes"] or there.digest() != said["digest"]:
            return True
        self.progress, self.skipped = there, there.bytes
        self.before = Checkpoint(run_id=said["run_id"], context=said["context"])
        return bool(len(rest) != longest or there.digest(rest) != said["all"])

    def chunks(self, over: Callable[[], bool], *, follow: bool) -> Iterator[bytes]:
        """The next bytes, and with `follow` what is appended; empty while there are none."""
        skip = self.skipped
        for data in self._decoded(over, follow=follow):
            if rest := data[skip:] if skip else data:
                yield rest
                self.progress.take(rest)  # the last chunk is in the spool now
            elif not data:
                yield data
            skip = max(skip - len(data), 0)

    def shipped(self, stream: Stream, runs: list[str]) -> None:
        """Remember how far it was ingested, and what its lines named."""
        if self._entry is not None:
            self._entry.said = {
                "runs": runs,
                "from": str(Path(self.name).absolute()),
                "run_id": stream.checkpoint.run_id,
                "context": stream.context.to_json(),
                **self.progress.said(),
            }
            self._entry.write()

    def _peek(self) -> bytes:
        decoder, head = Decoder(), b""
        with open(self.name, "rb") as opened:
            while len(head) < HEAD_BYTES and (data := opened.read(HEAD_BYTES)):
                head += b"".join(decoder.feed(data))
        head += b"".join(decoder.finish()) if len(head) < HEAD_BYTES else b""
        return head[:HEAD_BYTES]

    def _decoded(self, over: Callable[[], bool], *, follow: bool, quiet: bool = False) -> Iterator[bytes]:
        """Lines in UTF-8; empty bytes while there are none."""
        decoder, last = Decoder(), b"\n"
        for raw in self._raw(over, follow=follow):
            if raw is None:  # the file begins again: an incomplete line is dropped
                yield from decoder.finish()
                if not last.endswith(b"\n"):
                    yield b"\n"
                decoder, last, self.progress = Decoder(), b"\n", Progress()
            elif not raw:
                yield b""
            else:
                for data in decoder.feed(raw):
                    last = data
                    yield data
        yield from decoder.finish()
        if decoder.cut and not quiet and not over():
            say(f"{self.name} cannot be read to its end: {decoder.cut}. The lines before are taken.")

    def _raw(self, over: Callable[[], bool], *, follow: bool) -> Iterator[bytes | None]:
        """The next bytes as they are; empty while there are none; None: the file begins again."""
        return self._piped(over) if self.live else self._stored(over, follow=follow)

    def _piped(self, over: Callable[[], bool]) -> Iterator[bytes]:
        while not over():
            if not select.select([self._descriptor], [], [], FOLLOW_SECONDS)[0]:
                yield b""
            elif data := os.read(self._descriptor, READ_BYTES):
                yield data
            else:
                return

    def _stored(self, over: Callable[[], bool], *, follow: bool) -> Iterator[bytes | None]:
        file = FollowedFile(self.name)
        try:
            while not over():
                if data := file.read():
                    yield data
                elif not follow:
                    return
                elif happened := file.begins_anew():
                    say(
                        f"{self.name} was {happened}: it is read from its beginning. Lines that were written "
                        "and taken away since it was read last are lost."
                    )
                    yield None
                else:
                    time.sleep(FOLLOW_SECONDS)
                    yield b""
        finally:
            file.close()
