"""Each mutated line of a real worker becomes a record or a dead letter with a reason, never an exception.

`--fuzzed=1000000` tries a million.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from infra.settings import load
from producers.forward.stream import Stream
from producers.spool.format import about_new, now_us
from producers.spool.writer import SpoolWriter
from schemas.codec import Decoder
from schemas.topics import LINES, Kind
from tests.support.fuzzed import fuzzed_lines
from tests.support.windows import windows


@pytest.mark.timeout(0)
@pytest.mark.parametrize("writer", ["ingest", "sdk"])
def test_mutated_lines_of_real_workers(writer: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each mutated line gives one record, in order, and each dead letter has a reason."""
    count = request.config.getoption("--fuzzed")
    settings = load({"STEPSTREAM_HOME": str(tmp_path)})
    spool = SpoolWriter(settings, about_new(writer, "r", None))
    for line in fuzzed_lines(count):
        spool.append(line + b"\n", now_us())
    spool.finish()
    source = Stream.claim(settings, spool.folder)
    assert source is not None
    letters, kinds, expected = Decoder(Kind.DLQ), Counter[Kind](), fuzzed_lines(count)
    for window in windows(source, settings.window_lines):
        for kind, _, value, _, line in window.items:
            if kind is Kind.FRAMES:
                continue
            assert line == next(expected)
            kinds[kind] += 1
            if kind is Kind.DLQ:
                letter = letters(value)
                assert letter["reason"]
                assert letter["message"]
                assert (letter["raw"], letter["seq"]) == (line, kinds.total())
    source.release()
    print(dict(kinds))
    assert sum(kinds[kind] for kind in LINES) == count == source.checkpoint.line
    assert kinds[Kind.STEPS] > count / 10
    assert kinds[Kind.DLQ] > count / 10
