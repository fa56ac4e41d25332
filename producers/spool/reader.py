"""Reads a spool: lines in order, with number and time of arrival, also while they are written."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from producers.spool.format import PAIR, READ_BYTES, About, Checkpoint, segment_path, segments

TIMES_BYTES = 4096 * PAIR.size

_offset = itemgetter(0)


@dataclass(frozen=True)
class Long:
    """A line over the size limit: its head and its length."""

    head: bytes
    length: int


@dataclass
class Chunk:
    """Lines of one segment, as they follow each other, with their place and times of arrival.

    Args:
        start: byte offset of the first.
        first: number of the first in the stream.
        times: (offset, µs) pairs, in order; the arrival of a line is that of the last pair at or below
            its start.
    """

    lines: list[bytes] | Long
    start: int
    first: int
    times: list[tuple[int, int]]

    def with_arrivals(self) -> Iterator[tuple[bytes, int]]:
        """Each line with its time of arrival, µs since 1970."""
        assert isinstance(self.lines, list)
        pairs = iter(self.times)
        _, arrived = next(pairs)
        following = next(pairs, None)
        start = self.start
        for line in self.lines:
            while following is not None and following[0] <= start:
                arrived = following[1]
                following = next(pairs, None)
            yield line, arrived
            start += len(line) + 1


class SpoolReader:
    """Reads a stream's lines in order, from a place on, while they are written.

    Args:
        longest: a longer line is given as its head.
        head: of so many bytes.
    """

    def __init__(self, folder: Path, about: About, place: Checkpoint, longest: int, head: int) -> None:
        self.folder = folder
        self.segment, self.offset, self.line = place.segment, place.offset, place.line
        self._longest, self._head = longest, head
        self._created = about.created_us
        self._file = self._times_file = -1
        self._times: list[tuple[int, int]] = []
        self._times_read = 0
        self._scanned = 0

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._file, self._times_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._times_file = -1

    def read(self, most: int, *, final: bool) -> Chunk | None:
        """The next complete lines; None: there are none yet.

        Args:
            most: so many lines at most.
            final: nobody writes any more, so a last line without newline counts.
        """
        while self._file >= 0 or self._open(self.segment):
            complete = False
            while True:
                data = os.pread(self._file, READ_BYTES, self.offset)
                end = data.rfind(b"\n")
                if end >= 0:
                    return self._lines(data[:end].split(b"\n"), most)
                following = self._following()
                if following is None or complete:
                    break
                complete = True  # a newer segment exists: drain this one first
            if data:
                return self._long(len(data), final=final or complete)
            if following is None:
                return None
            self._move(following)
        return None

    def _lines(self, lines: list[bytes], most: int) -> Chunk:
        del lines[most:]
        if self._longest < READ_BYTES:  # else no line of one read is too long
            at = next((i for i, line in enumerate(lines) if len(line) > self._longest), len(lines))
            if at == 0:
                return self._one(len(lines[0]), 1)
            del lines[at:]
        length = sum(map(len, lines)) + len(lines)
        return self._chunk(lines, length, len(lines))

    def _chunk(self, lines: list[bytes] | Long, length: int, count: int) -> Chunk:
        start, first = self.offset, self.line + 1
        arrivals = self._arrivals(start, start + length)  # first: where it fails, nothing is read yet
        self.offset += length
        self.line += count
        self._scanned = 0
        return Chunk(lines, start, first, arrivals)

    def _long(self, have: int, *, final: bool) -> Chunk | None:
        """A line longer than one read, or a last one without newline."""
        scanned = max(self._scanned, have)
        while data := os.pread(self._file, READ_BYTES, self.offset + scanned):
            end = data.find(b"\n")
            if end >= 0:
                return self._one(scanned + end, 1)
            scanned += len(data)
        self._scanned = scanned
        return self._one(scanned, 0) if final else None

    def _one(self, length: int, newline: int) -> Chunk:
        if length > self._longest:
            head = os.pread(self._file, min(self._head, length), self.offset)
            return self._chunk(Long(head, length), length + newline, 1)
        line = os.pread(self._file, length, self.offset)
        return self._chunk([line], length + newline, 1)

    def _open(self, first: int) -> bool:
        if not first:
            found = segments(self.folder)
            if not found:
                return False
            first = found[0]
        try:
            opened = os.open(segment_path(self.folder, first), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            self._times_file = os.open(segment_path(self.folder, first, "times"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._times_file = -1
        except OSError:
            os.close(opened)
            raise
        self.segment, self._file = first, opened
        self._times, self._times_read = [], 0
        return True

    def _following(self) -> int | None:
        """The next segment, which is there once this one is complete."""
        return next((first for first in segments(self.folder) if first > self.segment), None)

    def _move(self, following: int) -> None:
        self.close()
        self.segment, self.offset, self._scanned = following, 0, 0

    def _arrivals(self, start: int, end: int) -> list[tuple[int, int]]:
        """The pair at or before `start`, and those up to `end`."""
        if self._times_file < 0:
            return [(start, self._created)]
        # A worker may flush each line, so that there are a million pairs: no more of them than needed.
        while not self._times or self._times[-1][0] < end:
            more = os.pread(self._times_file, TIMES_BYTES, self._times_read)
            more = more[: len(more) - len(more) % PAIR.size]
            if not more:
                break
            self._times_read += len(more)
            self._times += PAIR.iter_unpack(more)
        below = bisect_right(self._times, start, key=_offset)
        within = bisect_left(self._times, end, key=_offset)
        found = self._times[max(below - 1, 0) : max(within, below)]
        del self._times[: max(below - 1, 0)]
        return found if below else [(start, self._created), *found]
