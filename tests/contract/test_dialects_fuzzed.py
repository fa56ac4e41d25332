"""Lines of real workers, mutated: each is a record, or a dead letter with a reason; none is an exception."""

from __future__ import annotations

import gzip
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from producers.context import Identity
from producers.normalise import Normaliser
from producers.source import Coder
from schemas.codec import current_id
from schemas.topics import LINES, Kind

SAMPLES = Path(__file__).parent / "samples"
COUNT = int(os.environ.get("STEPSTREAM_TEST_FUZZED_LINES", "5000"))
"""A million in a longer run."""
TOKENS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"NaN", b"-Infinity", b"null", b"true", b"1e999"),
    *(
        b"9223372036854775808",
        b'"ts"',
        b'"reward"',
        b'"run_id"',
        b'"type":"step",',
        b"\xff",
        b"\0",
        b"\xed\xa0\x80",
    ),
    *(
        b"\\ud800",
        b'"done":true,',
        b'"episode_id":"w0-ep1",',
        b'"metadata":{"episode_index":3},',
        b"\r",
        b"{}",
    ),
]


def corpus() -> list[bytes]:
    """The samples' lines; of those with pictures the heads, as their pixels say nothing new."""
    lines: list[bytes] = []
    for path in sorted(SAMPLES.iterdir()):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        lines += {line[:3000] if len(line) > 20_000 else line for line in content.split(b"\n")}
    return sorted(lines)


def mutated(line: bytes, choose: random.Random) -> bytes:
    """A line with some of it cut, doubled, replaced or put elsewhere."""
    for _ in range(choose.randint(0, 4)):
        at, end = sorted((choose.randint(0, len(line)), choose.randint(0, len(line))))
        how = choose.randint(0, 4)
        if how == 0:
            line = line[:at] + choose.choice(TOKENS) + line[at:]
        elif how == 1:
            line = line[:at] + line[min(end, at + 20) :]
        elif how == 2:
            line = line[:at] + bytes([choose.randint(0, 255)]) + line[at + 1 :]
        elif how == 3:
            line = line[:at] + line[at : min(end, at + 200)] + line[at:]
        else:
            line = line[:at]
    return line.replace(b"\n", b" ")


@pytest.mark.parametrize("sdk", [False, True])
def test_mutated_lines_of_real_workers(sdk: bool) -> None:
    """As many records as lines, and a reason with each dead letter."""
    choose = random.Random(4711 + sdk)
    lines = corpus()
    coder = Coder({kind: current_id(kind) for kind in Kind})
    normalise = Normaliser(Identity("S", "r", sdk=sdk))
    kinds: Counter[Kind] = Counter()
    for seq in range(1, COUNT + 1):
        line = mutated(choose.choice(lines), choose)
        event = normalise(line, seq, 1_795_000_000_000_000)
        kind, _, value, _, _ = coder(event, line)
        kinds[kind] += 1
        assert value
        if kind is Kind.DLQ:
            assert event.record["reason"]
            assert event.record["message"]
            assert event.record["raw"] == line
    assert sum(kinds[kind] for kind in LINES) == COUNT
    assert kinds[Kind.STEPS] > COUNT / 10
    assert kinds[Kind.DLQ] > COUNT / 10
