"""Finds the run of a stream's first lines, when no option and no line before has named it."""

from __future__ import annotations

from pathlib import Path

from infra.settings import Settings
from producers.lines.json_text import NotJsonError, split
from producers.lines.normalise import BLANKS, BOM, HEAD_BYTES
from producers.lines.values import BadValueError, name_of
from producers.spool.format import About, Checkpoint, now_us
from producers.spool.reader import SpoolReader

UNNAMED_EVENT_US = 1_000_000
"""While the stream is written, an event without a run waits this long for a line that names one."""
UNNAMED_LOG_US = 5_000_000
"""The same for a log line: programs print while they start."""


class RunIdFinder:
    """Reads a stream from its first line until one names a run.

    Args:
        patient: wait until the stream's end, as it is a complete file.
    """

    def __init__(self, settings: Settings, folder: Path, about: About, *, patient: bool) -> None:
        self._reader = SpoolReader(folder, about, Checkpoint(), settings.max_line_bytes, HEAD_BYTES)
        self._most = settings.window_lines
        self._generated = about.generated_run_id
        self._patient = patient
        self._until: int | None = None
        self._found: str | None = None

    def decide(self, final: bool) -> str | None:
        """The run; None: wait for more lines.

        Args:
            final: no more lines will come, or there is no time to wait.
        """
        while self._found is None and (chunk := self._reader.read(self._most, final=final)) is not None:
            if not isinstance(chunk.lines, list):
                continue
            for line, arrived in chunk.with_arrivals():
                if (named := named_run(line)) is not None:
                    self._found = named
                    return named
                is_event = line.lstrip(BLANKS)[:1] == b"{"
                until = arrived + (UNNAMED_EVENT_US if is_event else UNNAMED_LOG_US)
                self._until = until if self._until is None else min(self._until, until)
        over = self._until is not None and not self._patient and now_us() >= self._until
        return self._found or (self._generated if final or over else None)

    def close(self) -> None:
        """Close the files."""
        self._reader.close()


def named_run(line: bytes) -> str | None:
    """The run that a line names, if any."""
    if b"run_id" not in line:
        return None
    try:
        fields = split(line.removeprefix(BOM).strip(BLANKS).decode())
        found = fields.get("run_id", "null")
        if found == "null" and fields.get("payload", "")[:1] == "{":
            found = split(fields["payload"]).get("run_id", "null")
        return name_of("run_id", found)
    except (NotJsonError, BadValueError, UnicodeDecodeError):
        return None
