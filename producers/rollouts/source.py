"""One file that a trainer writes: what is new in it, however it is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from producers.rollouts import tokenizer
from producers.rollouts.checkpoint import FileState, fingerprint
from producers.rollouts.model import Format, Place
from producers.rollouts.parsing import Finding, NotARowError, Parsing, decode
from producers.rollouts.recognise import table
from producers.spool.format import read_json

READ_BYTES = 256 * 1024
PRINT_BYTES = 4096

Tell = Callable[[str], None]


class Source:
    """A file of a known format.

    Args:
        path: where it is.
        shown: its path as formats see it.
        state: how far it is read; changed as it is read.
        tell: takes one sentence for the user.
    """

    def __init__(
        self, path: Path, shown: PurePosixPath, format_: Format, state: FileState, tell: Tell
    ) -> None:
        self.path, self.shown, self.format, self.state = path, shown, format_, state
        self.name = str(shown)
        self.root = format_.root(shown)
        """The folder of all files of the run."""
        self.holds_one = path.suffix == ".json"
        """It is one row."""
        self._tell = tell
        self._parsing: Parsing | None = None
        self._seen = (state.size, state.mtime)
        self.rows = 0
        """Rows read by this process, for the summary."""

    def changed(self) -> bool:
        """Whether it is other than when it was looked at last.

        Raises:
            OSError: it cannot be looked at.
        """
        status = self.path.stat()
        return (status.st_size, status.st_mtime_ns) != self._seen

    def read(self) -> Iterator[Finding]:
        """What is new.

        Raises:
            OSError: it cannot be read.
        """
        with self.path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if self.path.suffix == ".jsonl":
                yield from self._lines(file.fileno(), status.st_size)
            else:
                yield from self._whole(file.fileno(), status.st_size)
        # Only now: where a disk fails in between, the file is read again.
        self._seen = status.st_size, status.st_mtime_ns
        self._settle()

    def flush(self) -> Iterator[Finding]:
        """What the reader holds back, as the file is quiet."""
        if self._parsing is None or not self._parsing.holds:
            return
        row = self._parsing.rows
        for finding in self._new(self._parsing.flush()):
            self.state.flushes.append(row)
            yield finding
        self._settle()

    def end(self) -> Iterator[Finding]:
        """What the reader holds back, and a torn last line as a dead letter: nobody waits for its rest.

        Raises:
            OSError: it cannot be read.
        """
        state, size = self.state, self._seen[0]
        rest = b""
        if state.torn != size and state.offset < size:
            rest = self.path.read_bytes()[state.offset :]
        parsing = self._opened() if rest.strip() else self._parsing
        if parsing is not None and (complete := _complete(rest)) is not None:
            self.rows += 1
            yield from self._new(parsing.line(complete))
            state.offset = size
            self._remember()
        elif parsing is not None and rest.strip():
            self.rows += 1
            state.torn = size
            yield parsing.torn(rest)
        yield from self.flush()

    def _settle(self) -> None:
        """Only a file of which nothing is held back need not be read again after a restart."""
        if self._parsing is None or not self._parsing.holds:
            self.state.size, self.state.mtime = self._seen

    # Lines

    def _lines(self, file: int, size: int) -> Iterator[Finding]:
        state = self.state
        if state.offset and not self._goes_on(file, size):
            shrunk = size < state.offset
            self._tell(
                f"{self.shown} {'shrank' if shrunk else 'was written anew'}: what it holds is a new attempt."
            )
            self._begin(state.generation + 1)
        parsing = self._opened()
        at = state.offset if parsing.rows else 0  # after a restart from the start, without what is known
        while data := os.pread(file, READ_BYTES, at):
            end = data.rfind(b"\n")
            if end < 0:
                if len(data) < READ_BYTES:
                    break
                data = self._long(file, at)
                end = data.rfind(b"\n")
                if end < 0:
                    break
            lines = data.split(b"\n")
            del lines[-1]
            for line in lines:
                at += len(line) + 1
                again = at <= state.offset
                yield from self._new(parsing.line(line))
                self.rows += bool(not again and line.strip())
                if parsing.rows in state.flushes:
                    yield from self._new(parsing.flush())
            state.offset = max(state.offset, at)
        if state.offset:
            self._fingerprints(file)

    @staticmethod
    def _long(file: int, at: int) -> bytes:
        """A line longer than one read, up to its end where that is there."""
        parts: list[bytes] = []
        while data := os.pread(file, READ_BYTES, at):
            parts.append(data)
            at += len(data)
            if b"\n" in data:
                break
        return b"".join(parts)

    def _goes_on(self, file: int, size: int) -> bool:
        """Whether the bytes that were read are still there."""
        state = self.state
        if size < state.offset:
            return False
        if not state.head:  # known from the spool only
            return True
        head, tail = self._ends(file)
        return (head, tail) == (state.head, state.tail)

    def _ends(self, file: int) -> tuple[str, str]:
        offset = self.state.offset
        length = min(PRINT_BYTES, offset)
        return fingerprint(os.pread(file, length, 0)), fingerprint(os.pread(file, length, offset - length))

    def _fingerprints(self, file: int) -> None:
        self.state.head, self.state.tail = self._ends(file)

    def _remember(self) -> None:
        with self.path.open("rb", buffering=0) as file:
            self._fingerprints(file.fileno())

    # Files that are read as a whole

    def _whole(self, file: int, size: int) -> Iterator[Finding]:
        state = self.state
        content = os.pread(file, size, 0)
        digest = fingerprint(content)
        if digest == state.digest and self._parsing is not None:
            return
        findings = self._table() if self.path.suffix == ".parquet" else self._object(content)
        if findings is None:
            return  # it is not whole yet
        if state.digest and digest != state.digest and state.found:
            self._tell(f"{self.shown} was written anew: what it holds is a new attempt.")
            self._begin(state.generation + 1)
        state.digest, state.offset = digest, size
        for finding in findings:
            if finding.number > state.found:
                state.found = finding.number
                yield finding

    def _table(self) -> Iterator[Finding] | None:
        rows = table(self.path)
        if rows is None:
            return None

        def read() -> Iterator[Finding]:
            place = replace(self._place(), doubles=rows.doubles)
            parsing = self._parsing = Parsing(self.format, place, first=0)
            for row in rows:
                self.rows += 1
                yield from parsing.row(row)
            yield from parsing.flush()

        return read()

    def _object(self, content: bytes) -> Iterator[Finding] | None:
        try:
            row = decode(content)
        except NotARowError:
            return None

        def read() -> Iterator[Finding]:
            parsing = self._parsing = Parsing(self.format, self._place())
            self.rows += 1
            yield from parsing.row(row)
            yield from parsing.flush()

        return read()

    # Both

    def _opened(self) -> Parsing:
        if self._parsing is None:
            self._parsing = Parsing(self.format, self._place())
        return self._parsing

    def _begin(self, generation: int) -> None:
        """A new version of the file."""
        self.state.__dict__.update(FileState(self.state.format, generation).__dict__)
        self._parsing = None

    def _new(self, findings: list[Finding]) -> list[Finding]:
        """Without those that are in the spool."""
        state = self.state
        new = [finding for finding in findings if finding.number > state.found]
        if new:
            state.found = new[-1].number
        return new

    def _place(self) -> Place:
        folder = self.path.parent
        return Place(
            self.shown,
            beside=lambda name: read_json(folder / name),
            tokenizer=tokenizer.load(folder / "tokenizer" / "tokenizer.json")
            or tokenizer.load(folder / "tokenizer.json"),
        )


def _complete(rest: bytes) -> bytes | None:
    """A last line that lacks only its newline."""
    line = rest.strip(b"\r\n")
    try:
        decode(line)
    except NotARowError:
        return None
    return line
