"""Lines of real workers, mutated: each is a record, or a dead letter with a reason; none is an exception.

`--fuzzed=1000000` tries a million.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from infra.settings import load
from producers.forward.stream import Coder, Stream
from producers.spool.format import about_new, now_us
from producers.spool.writer import SpoolWriter
from schemas.codec import Decoder, current_id
from schemas.topics import LINES, Kind
from tests.support.fuzzed import fuzzed_lines


@pytest.mark.timeout(0)
@pytest.mark.parametrize("writer", ["ingest", "sdk"])
def test_mutated_lines_of_real_workers(writer: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """As many records as lines, in order, and a reason with each dead letter."""
    count = request.config.getoption("--fuzzed")
    settings = load({"STEPSTREAM_HOME": str(tmp_path)})
    spool = SpoolWriter(settings, about_new(writer, "r", None))
    for line in fuzzed_lines(count):
        spool.append(line + b"\n", now_us())
    spool.finish()
    source = Stream.claim(settings, spool.folder)
    assert source is not None
    coder, letters = Coder({kind: current_id(kind) for kind in Kind}), Decoder(Kind.DLQ)
    kinds: Counter[Kind] = Counter()
    slowest, expected = 0.0, fuzzed_lines(count)
    while not source.ended:
        began = time.perf_counter()
        for kind, _, value, line, _ in source.read(settings.window_lines, coder) or ():
            slowest = max(slowest, time.perf_counter() - began)
            assert line == next(expected)
            kinds[kind] += 1
            if kind is Kind.DLQ:
                letter = letters(value)
                assert letter["reason"]
                assert letter["message"]
                assert (letter["raw"], letter["seq"]) == (line, kinds.total())
            began = time.perf_counter()
    source.release()
    print(f"slowest line: {slowest * 1000:.1f} ms; {dict(kinds)}")
    assert sum(kinds[kind] for kind in LINES) == count == source.snapshot().line
    assert kinds[Kind.STEPS] > count / 10
    assert kinds[Kind.DLQ] > count / 10
