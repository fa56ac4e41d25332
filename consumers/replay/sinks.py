"""Where a replay goes: JSONL on a stream, another topic."""

from __future__ import annotations

from typing import BinaryIO

from consumers.replay.lines import as_line
from consumers.replay.tape import Item
from infra.registry import Registry
from infra.settings import Settings
from schemas.codec import Decoder
from schemas.topics import LINES, Kind


class JsonLines:
    """Lines that can be ingested again. A reader that leaves early (`| head`) ends the replay quietly."""

    kinds: tuple[Kind, ...] = LINES

    def __init__(self, settings: Settings, out: BinaryIO) -> None:
        lookup = Registry(settings).schema
        self._decoders = {kind: Decoder(kind, lookup) for kind in LINES}
        self._out = out

    def write(self, items: list[Item]) -> None:
        """Write a line for each record that was a worker's line."""
        lines = (as_line(item.kind, self._decoders[item.kind](item.value)) for item in items)
        self._out.write(b"".join(line + b"\n" for line in lines if line is not None))
        self._out.flush()

    def close(self) -> None:
        """Nothing is held back."""
