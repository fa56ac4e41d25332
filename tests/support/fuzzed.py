"""Lines of real workers, with random changes."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "contract" / "samples"
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


def _corpus() -> list[bytes]:
    """The samples' lines; a line with a picture is cut to its head, as pixels add nothing new."""
    lines: list[bytes] = []
    for path in sorted(SAMPLES.iterdir()):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        lines += {line[:3000] if len(line) > 20_000 else line for line in content.split(b"\n")}
    return sorted(lines)


def _mutated(line: bytes, choose: random.Random) -> bytes:
    """A line with some of it cut, doubled, replaced or put elsewhere."""
    for _ in range(choose.choice((0, 1, 1, 2, 4))):
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


def fuzzed_lines(count: int) -> Iterator[bytes]:
    """`count` lines without their newlines; the same each time."""
    choose = random.Random(4711)
    lines = _corpus()
    for _ in range(count):
        yield _mutated(choose.choice(lines), choose)
