"""The spool holds a worker's output byte for byte with its times, also if the disk fails."""

from __future__ import annotations

import errno
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from infra.lock import is_held
from infra.settings import Settings, load
from producers.forward.stream import Stream
from producers.spool.format import About, Checkpoint, about_new, segments
from producers.spool.reader import Chunk, Long, SpoolReader
from producers.spool.writer import SpoolWriter
from schemas.codec import Decoder
from schemas.errors import UsageError
from schemas.topics import Kind
from tests.support.windows import windows


def spooled(tmp_path: Path, **options: object) -> Settings:
    """Return settings with a home of their own."""
    return replace(load({"STEPSTREAM_HOME": str(tmp_path)}), **options)  # type: ignore[arg-type]


def read_all(
    folder: Path, place: Checkpoint | None = None, *, longest: int = 10**6, most: int = 7
) -> list[Chunk]:
    """Return every chunk of an ended stream."""
    about = About.read(folder)
    assert about is not None
    reader = SpoolReader(folder, about, place or Checkpoint(), longest, 10)
    chunks = []
    while (chunk := reader.read(most, final=True)) is not None:
        chunks.append(chunk)
    reader.close()
    return chunks


pieces = st.lists(
    st.lists(st.sampled_from([b"a", b"\n", b"bc", b"\0"]), max_size=12).map(b"".join), max_size=12
)


@examples(max_examples=150, deadline=None)
@given(pieces, st.integers(1, 40))
def test_lines_come_back_as_they_were_with_number_and_time(
    tmp_path_factory: pytest.TempPathFactory, reads: list[bytes], segment_bytes: int
) -> None:
    """Lines are read unchanged, with number and time, wherever a write or a segment cuts them."""
    settings = spooled(tmp_path_factory.mktemp("spool"), spool_segment_bytes=segment_bytes)
    spool = SpoolWriter(settings, about_new("run", None, None))
    arrivals: list[int] = []
    at_start = True
    for time, data in enumerate(reads, 100):
        spool.append(data, time)
        for byte in data:
            if at_start:
                arrivals.append(time)
            at_start = byte == ord("\n")
    spool.finish()
    content = b"".join(reads)
    expected = content.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    found = [line for chunk in read_all(spool.folder) for line in chunk.with_arrivals()]
    assert found == list(zip(expected, arrivals, strict=True))
    firsts = [chunk.first for chunk in read_all(spool.folder)]
    assert firsts == sorted(firsts)
    assert spool.lines == content.count(b"\n")


def test_each_of_many_lines_has_its_own_time(tmp_path: Path) -> None:
    """Each line that was flushed alone has its own time, also over many reads."""
    spool = SpoolWriter(spooled(tmp_path), about_new("run", None, None))
    for number in range(10_000):
        spool.append(b"x\n", number)
    spool.finish()
    found = [arrived for chunk in read_all(spool.folder, most=700) for _, arrived in chunk.with_arrivals()]
    assert found == list(range(10_000))


def test_a_reader_goes_on_from_any_place(tmp_path: Path) -> None:
    """A reader that resumes at any checkpoint gives the same numbers and times."""
    spool = SpoolWriter(spooled(tmp_path, spool_segment_bytes=30), about_new("run", None, None))
    for number in range(20):
        spool.append(b"line %d\n" % number, number)
    spool.finish()
    whole = [
        (chunk.first, *item) for chunk in read_all(spool.folder, most=1) for item in chunk.with_arrivals()
    ]
    about = About.read(spool.folder)
    assert about is not None
    reader = SpoolReader(spool.folder, about, Checkpoint(), 1000, 10)
    for done in range(1, 20):
        reader.read(1, final=True)
        place = Checkpoint(reader.segment, reader.offset, reader.line)
        rest = read_all(spool.folder, place, most=1)
        assert [(chunk.first, *item) for chunk in rest for item in chunk.with_arrivals()] == whole[done:]


def test_a_line_over_the_limit_is_given_as_its_head(tmp_path: Path) -> None:
    """A line over the limit is given as its head and length; the lines around it are whole."""
    spool = SpoolWriter(spooled(tmp_path), about_new("run", None, None))
    spool.append(b"a\n" + b"x" * 3_000_000 + b"\nb\n" + b"y" * 2_000_000, 1)
    spool.finish()
    chunks = read_all(spool.folder, longest=1_500_000)
    assert [chunk.lines for chunk in chunks] == [
        [b"a"],
        Long(b"x" * 10, 3_000_000),
        [b"b"],
        Long(b"y" * 10, 2_000_000),
    ]


@given(st.lists(st.integers(0, 12), max_size=20), st.integers(1, 9))
@examples(max_examples=60, deadline=None)
def test_a_limit_below_one_read_holds_for_each_line(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], longest: int
) -> None:
    """Each line over the limit is given as its head, and each other line whole, under its own number."""
    spool = SpoolWriter(spooled(tmp_path_factory.mktemp("spool")), about_new("run", None, None))
    lines = [b"x" * length for length in lengths]
    spool.append(b"".join(line + b"\n" for line in lines), 100)
    spool.finish()
    found = {}
    for chunk in read_all(spool.folder, longest=longest):
        parts = chunk.lines if isinstance(chunk.lines, list) else [chunk.lines]
        found |= dict(enumerate(parts, chunk.first))
    assert found == {
        number: Long(line[:10], len(line)) if len(line) > longest else line
        for number, line in enumerate(lines, 1)
    }


def test_a_line_is_read_once_it_is_complete(tmp_path: Path) -> None:
    """A line is read only when its end is written, also if it is longer than a read."""
    spool = SpoolWriter(spooled(tmp_path), about_new("run", None, None))
    reader = SpoolReader(spool.folder, spool.about, Checkpoint(), 10**7, 10)
    for part in (b"he", b"l" * 2_500_000):
        spool.append(part, 1)
        assert reader.read(10, final=False) is None
    spool.append(b"o\nnext", 2)
    chunk = reader.read(10, final=False)
    assert chunk is not None
    assert chunk.lines == [b"he" + b"l" * 2_500_000 + b"o"]
    assert reader.read(10, final=False) is None
    spool.close()


def test_the_writers_lock_tells_whether_it_lives(tmp_path: Path) -> None:
    """The lock is held while the writer lives, and a second writer is refused."""
    settings, about = spooled(tmp_path), about_new("run", None, None)
    spool = SpoolWriter(settings, about)
    assert is_held(spool.folder / "writer.lock")
    with pytest.raises(OSError, match="another process"):
        SpoolWriter(settings, about)
    spool.close()
    assert not is_held(spool.folder / "writer.lock")


def test_a_stream_gone_on_with_has_lost_only_a_torn_line(tmp_path: Path) -> None:
    """A writer that resumes a stream drops the torn last line and continues the numbers."""
    settings, about = spooled(tmp_path, spool_segment_bytes=10), about_new("run", None, None)
    spool = SpoolWriter(settings, about)
    spool.append(b"one\ntwo\nthree\ntorn", 1)
    spool.close()
    again = SpoolWriter(settings, about)
    assert again.lines == 3
    again.append(b"four\n", 2)
    again.finish()
    assert [line for chunk in read_all(again.folder) for line in chunk.lines] == [  # type: ignore[union-attr]
        *(b"one", b"two", b"three", b"four")
    ]


@pytest.mark.parametrize("torn", [b"", b'{"segment": 1', b"[]"])
def test_a_torn_place_is_the_beginning(tmp_path: Path, torn: bytes) -> None:
    """A damaged checkpoint file is read as the beginning; SQL ignores the lines that are sent again."""
    (tmp_path / "place.json").write_bytes(torn)
    assert Checkpoint.load(tmp_path) == Checkpoint()
    Checkpoint(3, 4, 5, "r", {"run_id": "r"}, {"steps": 1}).save(tmp_path)
    assert Checkpoint.load(tmp_path) == Checkpoint(3, 4, 5, "r", {"run_id": "r"}, {"steps": 1})


def test_a_full_disk_drops_whole_lines_and_counts_them(tiny_disk: Path) -> None:
    """With `spool_full=drop`, a full disk drops and counts whole lines, and the worker goes on."""
    settings = spooled(tiny_disk, spool_full="drop", spool_fsync="never")
    spool = SpoolWriter(settings, about_new("run", None, None))
    data = b"".join(b'{"n": %d, "pad": "%s"}\n' % (number, b"x" * 900) for number in range(3000))
    for start in range(0, len(data), 7001):
        spool.append(data[start : start + 7001], 1)
    assert spool.dropped > 0
    (first,) = segments(spool.folder)
    kept = (spool.folder / f"{first:020d}.jsonl").read_bytes().splitlines()
    assert len(kept) == spool.lines
    assert len(kept) + spool.dropped == 3000
    assert all(json.loads(line) for line in kept)
    spool.close()


def test_a_full_disk_keeps_no_place_and_ends_nothing(tiny_disk: Path) -> None:
    """A full disk saves no checkpoint and raises no error; the next one is saved once there is room."""
    settings = spooled(tiny_disk, spool_fsync="never")
    spool = SpoolWriter(settings, about_new("run", None, None))
    source = Stream.claim(settings, spool.folder)
    assert source is not None
    filler = tiny_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 4_000_000)
    source.acknowledge(Checkpoint(1, 2, 3))
    assert Checkpoint.load(spool.folder) == Checkpoint()
    filler.unlink()
    source.acknowledge(Checkpoint(1, 2, 4))
    assert Checkpoint.load(spool.folder) == Checkpoint(1, 2, 4)
    source.release()
    spool.close()


def test_checkpoints_of_small_windows_are_saved_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 0.1 s one checkpoint is saved, unless it is many lines or a segment on; the last one at rest."""
    now = 100.0
    monkeypatch.setattr("producers.forward.stream.time.monotonic", lambda: now)
    settings = spooled(tmp_path, spool_fsync="never")
    spool = SpoolWriter(settings, about_new("run", None, None))
    source = Stream.claim(settings, spool.folder)
    assert source is not None
    for acknowledged, saved, waited in (
        (Checkpoint(1, 10, 1), 1, 0.0),
        (Checkpoint(1, 20, 2), 1, 0.0),
        (Checkpoint(1, 30, 3), 1, 0.09),
        (Checkpoint(1, 40, 4), 4, 0.02),
        (Checkpoint(1, 5000, 504), 504, 0.0),
        (Checkpoint(505, 0, 504), 504, 0.0),
        (Checkpoint(505, 10, 505), 504, 0.0),
    ):
        now += waited
        source.acknowledge(acknowledged)
        assert Checkpoint.load(spool.folder).line == saved
        assert source.checkpoint == acknowledged
    assert Checkpoint.load(spool.folder).segment == 505
    source.save()
    assert Checkpoint.load(spool.folder) == Checkpoint(505, 10, 505)
    source.acknowledge(Checkpoint(505, 20, 506))
    source.release()
    assert Checkpoint.load(spool.folder) == Checkpoint(505, 20, 506)
    spool.close()


def test_a_disk_that_spools_alone_have_filled_has_room_again(tiny_disk: Path) -> None:
    """On a disk that spools filled, acknowledged segments are deleted at once, which makes room."""
    settings = spooled(tiny_disk, spool_full="drop", spool_fsync="never", spool_segment_bytes=200_000)
    spool = SpoolWriter(settings, about_new("run", None, None))
    source = Stream.claim(settings, spool.folder)
    assert source is not None
    spool.append(b"first\n", 1)
    source.acknowledge(Checkpoint(1, 6, 1))
    while not spool.dropped:
        spool.append(b"x" * 999 + b"\n", 1)
    with pytest.raises(OSError, match="No space"):
        (tiny_disk / "filler").write_bytes(b"x" * 4_000_000)  # also fills the rest of a block
    first, second, *_ = segments(spool.folder)
    source.acknowledge(Checkpoint(first, 100_006, 101))
    assert Checkpoint.load(spool.folder) == Checkpoint(1, 6, 1)
    acknowledged = Checkpoint(second, 0, second - 1)
    source.acknowledge(acknowledged)
    assert Checkpoint.load(spool.folder) == acknowledged
    assert segments(spool.folder)[0] == second
    spool.append(b"y" * 999 + b"\n", 1)
    assert (spool.dropped, spool.waiting) == (1, "")
    source.release()
    spool.close()


def test_the_oldest_line_that_is_not_acknowledged_is_known(tmp_path: Path) -> None:
    """The time of the oldest line that is not acknowledged is known over segments, and 0 without one."""
    settings = spooled(tmp_path, spool_fsync="never", spool_segment_bytes=10)
    spool = SpoolWriter(settings, about_new("run", None, None))
    source = Stream.claim(settings, spool.folder)
    assert source is not None
    assert source.oldest_unshipped() == 0
    for moment in (1, 2, 3):
        spool.append(b"12345\n", moment)
    first, second = segments(spool.folder)
    for checkpoint, oldest in (
        (Checkpoint(), 1),
        (Checkpoint(first, 6, 1), 2),
        (Checkpoint(first, 12, 2), 3),
        (Checkpoint(second, 6, 3), 0),
    ):
        source.acknowledge(checkpoint)
        assert source.oldest_unshipped() == oldest
    source.release()
    spool.close()


def test_a_full_disk_pauses_until_there_is_room(tiny_disk: Path) -> None:
    """With `spool_full=pause`, the writer waits for room and loses no line."""
    import threading

    filler = tiny_disk / "filler"
    filler.write_bytes(b"x" * 600_000)
    spool = SpoolWriter(spooled(tiny_disk, spool_fsync="never"), about_new("run", None, None))
    data = b"".join(b"%06d %s\n" % (number, b"y" * 90) for number in range(6000))

    def write() -> None:
        for start in range(0, len(data), 50_000):
            spool.append(data[start : start + 50_000], 1)

    writer = threading.Thread(target=write)
    writer.start()
    while not spool.waiting:
        assert writer.is_alive()
    filler.unlink()
    writer.join(20)
    assert not writer.is_alive()
    assert (spool.folder / f"{1:020d}.jsonl").read_bytes() == data
    spool.close()


@examples(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.text("ab", min_size=1, max_size=9), st.booleans()), max_size=25),
    st.lists(st.integers(1, 12), min_size=1, max_size=40),
)
def test_a_spool_that_is_full_drops_whole_lines_wherever_it_fills(
    tmp_path_factory: pytest.TempPathFactory, given_lines: list[tuple[str, bool]], cuts: list[int]
) -> None:
    """A spool that fills inside a line drops the whole line and counts it; the next line is whole."""
    settings = spooled(tmp_path_factory.mktemp("spool"), spool_full="drop", spool_max_bytes=1)
    spool = SpoolWriter(settings, about_new("run", None, None))
    full = iter([refused for _, refused in given_lines] * 20)
    spool.unshipped = lambda: 2 * next(full, False)
    lines = [f"{number}{text}".encode() for number, (text, _) in enumerate(given_lines)]
    data, at = b"".join(line + b"\n" for line in lines), 0
    for cut in cuts * 10:
        spool.append(data[at : at + cut], 1)
        at += cut
    spool.append(data[at:], 1)
    spool.finish()
    found = [line for chunk in read_all(spool.folder) for line, _ in chunk.with_arrivals()]
    assert set(found) <= set(lines)
    assert len(found) + spool.dropped == len(lines)


def test_a_file_that_may_not_grow_is_followed_by_the_next(tmp_path: Path) -> None:
    """Under `ulimit -f` segments end early and no line is lost; too long a line raises an error."""
    import resource
    import signal

    settings = spooled(tmp_path, spool_fsync="never")
    spool = SpoolWriter(settings, about_new("run", None, None))
    lines = [b"%04d " % number + b"x" * 90 for number in range(2000)]
    content = b"".join(line + b"\n" for line in lines)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        for start in range(0, len(content), 7001):
            spool.append(content[start : start + 7001], 1)
        with pytest.raises(OSError, match="ulimit -f"):
            spool.append(b"y" * 30_000, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    spool.close()
    found = [line for chunk in read_all(spool.folder) for line, _ in chunk.with_arrivals()]
    assert found[:2000] == lines
    assert len(segments(spool.folder)) > 5


@pytest.mark.parametrize("call", ["open", "pread", "listdir", "replace"])
def test_a_disk_that_refuses_for_a_while_costs_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """If a disk call fails for a while, every line still comes once, in order, with its time."""
    whole = getattr(os, call)
    for moment in range(12):
        settings = spooled(tmp_path / str(moment), spool_segment_bytes=40)
        spool = SpoolWriter(settings, about_new("run", None, None))
        for number in range(12):
            spool.append(b"line %d\n" % number, 1000 + number)
        spool.finish()
        calls = itertools.count()

        def refuse(*arguments: Any, moment: int = moment, calls: Any = calls, **options: Any) -> Any:
            if moment <= next(calls) < moment + 2:
                raise OSError(errno.EIO, "the disk refuses")
            return whole(*arguments, **options)

        source = Stream.claim(settings, spool.folder)
        assert source is not None
        monkeypatch.setattr(os, call, refuse)
        found = everything(source)
        monkeypatch.undo()
        source.release()
        assert found == [(f"line {number}", 1000 + number) for number in range(12)]
        assert source.checkpoint.line == 12


def everything(source: Stream) -> list[tuple[str, int]]:
    """Return line and time of all records of an ended stream, read as the forwarder does."""
    decode = Decoder(Kind.LOGS)
    records = [decode(value) for window in windows(source, 3) for _, _, value, _, _ in window.items]
    return [(record["line"], record["event_time"]) for record in records]


def test_a_writer_of_whom_nobody_knows_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock or a checkpoint that cannot be read raises an error."""
    spool = SpoolWriter(spooled(tmp_path), about_new("run", None, None))
    source = Stream.claim(spooled(tmp_path), spool.folder)
    assert source is not None

    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        patched.setattr(Path, "read_bytes", refuse)
        with pytest.raises(OSError, match="too many"):
            source.writer_is_gone()
        with pytest.raises(OSError, match="too many"):
            Checkpoint.load(spool.folder)
    assert not source.writer_is_gone()
    source.release()
    spool.close()


def test_an_id_too_long_for_any_table_is_refused_at_once() -> None:
    """A run id or an agent id of more than 300 characters is refused."""
    assert about_new("run", "x" * 300, "y" * 300).run_id == "x" * 300
    for ids in (("x" * 301, None), (None, "x" * 301)):
        with pytest.raises(UsageError, match="300"):
            about_new("run", *ids)
