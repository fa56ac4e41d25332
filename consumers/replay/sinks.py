"""Where a replay goes: JSONL on a stream, or nowhere. Topics, SQL and the dashboard are other modules."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from consumers.replay.lines import as_line
from infra.history.items import Item, Records
from schemas.codec import Record
from schemas.errors import StepstreamError
from schemas.topics import BESIDE, Kind


class NullSink:
    """Only counts."""

    def write(self, items: list[Item]) -> None:
        """Take records."""

    def close(self) -> None:
        """Nothing is held back."""


class JsonlSink:
    """Lines that can be ingested again.

    Args:
        records: how items are read.
        out: where to; a file is left with whole lines where its disk is full.
    """

    def __init__(self, records: Records, out: BinaryIO) -> None:
        self._records = records
        self._out = out
        self._beside: dict[tuple[str, int], dict[Kind, Record]] = {}
        """What stands beside lines of the last writing that were not in it, by stream and line."""
        self.lost = 0
        """Rollouts and tokens that came without their line."""

    def write(self, items: list[Item]) -> None:
        """Write a line for each record that was a worker's line, with what stands beside it.

        Raises:
            BrokenPipeError: the reader has left.
            StepstreamError: the file cannot be written; whole lines stay.
        """
        text = b"".join(line + b"\n" for line in self._lines(items) if line is not None)
        end = self._end()
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            if end is not None:
                os.ftruncate(self._out.fileno(), end)
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())  # what is buffered goes nowhere
            raise StepstreamError(f"The output cannot be written: {error.strerror}.") from error

    def close(self) -> None:
        """Nothing is held back."""
        self.lost += sum(map(len, self._beside.values()))

    def _lines(self, items: list[Item]) -> Iterator[bytes | None]:
        records, early, self._beside = self._records, self._beside, {}
        for item in items:
            if item[0] in BESIDE:
                self._beside.setdefault((item.stream_id, item.seq), {})[item.kind] = records(item)
        if not early and not self._beside:
            yield from (as_line(item.kind, records(item)) for item in items)
            return
        for item in items:
            if item[0] not in BESIDE:
                key = (item.stream_id, item.seq)
                beside = early.pop(key, {}) | self._beside.pop(key, {})
                yield as_line(item.kind, records(item), beside)
        self.lost += sum(map(len, early.values()))

    def _end(self) -> int | None:
        """Bytes of the file so far; None: it is no file."""
        try:
            file = os.fstat(self._out.fileno())
        except (OSError, ValueError):
            return None
        return file.st_size if stat.S_ISREG(file.st_mode) else None
