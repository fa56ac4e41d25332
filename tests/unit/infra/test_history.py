"""A run's order without Kafka: lines of a stream by number, streams by time, and positions in both."""

from __future__ import annotations

import itertools
import resource
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.history.clock import micros
from infra.history.finder import Finder, OutsideError
from infra.history.index import Index, Line, Moment
from infra.history.items import Item
from infra.history.lines import heads_once, hole_in, items_once
from infra.history.log_source import LogSource
from infra.kafka.log_reader import Entry
from schemas.codec import Encoder, checked_in
from schemas.errors import StepstreamError
from schemas.positions import EPOCH, parse_position
from schemas.topics import META_SUFFIX, Kind
from tests.support.records import record, step

ENCODERS = {kind: Encoder(kind) for kind in Kind}


Order = list[tuple[Moment, Line]]


class Log:
    """Records of one run, each at the next offset of its topic."""

    def __init__(self) -> None:
        self.source = LogSource("r", checked_in)
        self._offsets = dict.fromkeys(Kind, 0)

    def put(self, kind: Kind, stream: str, seq: int, event_time: int, **fields: Any) -> None:
        """Append a record."""
        made = record(kind, "r", seq=seq, stream_id=stream, event_time=event_time, **fields)
        self.source.add([Entry(kind, 0, self._offsets[kind], 0, ENCODERS[kind](made))])
        self._offsets[kind] += 1

    def index(self) -> Index:
        """Return the index of all records that were put."""
        return Index(self.source.points(), lambda *place: heads_once(self.source.heads(*place)))

    def finder(self, agent_id: str | None = None) -> Finder:
        """Return a finder over all records that were put."""

        def extreme(best: bool, agent: str | None) -> tuple[str, int] | None:
            found = self.source.extreme_episode(best=best, agent_id=agent)
            return found[1:] if found else None

        return Finder(self.index(), extreme, "telemetry.", agent_id)

    def played(self, start: str, stop: str, agent_id: str | None = None) -> list[tuple[str, int]]:
        """Return stream and number of the lines between two positions."""
        finder = self.finder(agent_id)
        first, behind = finder.start(parse_position(start)), finder.stop(parse_position(stop))
        return [(stream, seq) for (_, stream, seq), _ in finder.index.lines(first) if seq < behind[stream]]


@pytest.fixture
def log() -> Log:
    """Return an empty log."""
    return Log()


def test_a_clock_that_jumps_back_does_not_disturb_a_stream(log: Log) -> None:
    """Lines of a stream stay in the order of their numbers; lines of other streams are sorted in by time."""
    for seq, event_time in ((1, 10), (2, 50), (3, 20), (4, 60)):
        log.put(Kind.STEPS, "a", seq, event_time)
    log.put(Kind.STEPS, "b", 1, 30)
    assert log.played("beginning", "end") == [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("a", 4)]


def test_a_time_is_sought_not_filtered_by(log: Log) -> None:
    """All lines behind a position in time are played, also those with an earlier time."""
    for seq, event_time in enumerate((1, 2, 3, 1, 2, 4), start=1):
        log.put(Kind.STEPS, "a", seq, event_time)
    assert log.played("time:1970-01-01T00:00:00.000003", "end") == [("a", 3), ("a", 4), ("a", 5), ("a", 6)]


def test_streams_of_equal_times_have_one_order(log: Log) -> None:
    """Streams with equal times are ordered by name, whichever reached Kafka first."""
    for stream in ("b", "a"):
        for seq in (1, 2):
            log.put(Kind.STEPS, stream, seq, 7)
    assert log.played("beginning", "end") == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


def test_a_picture_stands_behind_its_step(log: Log) -> None:
    """A picture follows the step of the same line; neither is dropped as a repetition of the other."""
    log.put(Kind.FRAMES, "a", 1, 10, data=b"x")
    log.put(Kind.STEPS, "a", 1, 10)
    log.put(Kind.STEPS, "a", 1, 10)
    assert [item.kind for item in items_once(log.source.page("a", 0, 9))] == [Kind.STEPS, Kind.FRAMES]


@given(st.lists(st.tuples(st.integers(1, 8), st.booleans())), st.integers(0, 9))
def test_a_picture_hides_no_missing_line(seen: list[tuple[int, bool]], expected: int) -> None:
    """The first missing line is found, however many records stand beside those that are there."""
    kinds = {True: Kind.FRAMES, False: Kind.STEPS}
    page = items_once([Item(kinds[picture], "s", seq, 0, "a", 0, 0, 0, b"") for seq, picture in seen])
    lines = {seq for seq, _ in seen}
    missing = [seq for seq in range(max(expected, 1), max(lines, default=0)) if seq not in lines]
    assert hole_in(page, expected) == (missing[0] if missing else None)


@given(st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))))
def test_times_of_sqlite_are_read_to_the_microsecond(times: list[datetime]) -> None:
    """Whatever the time before it was, and also numbers, as PostgreSQL gives them."""
    wanted = [(time - EPOCH) // timedelta(microseconds=1) for time in times]
    kept = [f"{time.replace(tzinfo=None).isoformat(' ', 'microseconds')}+00:00" for time in times]
    assert micros(kept) == micros(wanted) == wanted


def test_bytes_that_are_no_record_are_counted_and_left_out(log: Log) -> None:
    """Bytes that are no record are counted, left out and do not end a replay."""
    log.source.add([Entry(Kind.STEPS, 0, 0, 0, b"hello")])
    log.source.add([Entry(Kind.STEPS, 0, 1, 0, ENCODERS[Kind.STEPS](step(1))[:12])])
    assert (log.source.points(), log.source.unreadable) == ([], 2)


def test_lines_between_episodes_belong_to_the_one_before(log: Log) -> None:
    """The window of an episode holds the lines up to the next episode, and no others."""
    for seq, kind, fields in (
        (1, Kind.LOGS, {}),
        (2, Kind.STEPS, {"episode_index": 0}),
        (3, Kind.METRICS, {}),
        (4, Kind.STEPS, {"episode_index": 1}),
        (5, Kind.LOGS, {}),
        (6, Kind.STEPS, {"episode_index": 2}),
    ):
        log.put(kind, "a", seq, seq, **fields)
    assert log.played("episode:1", "episode:1") == [("a", 4), ("a", 5)]


def test_named_episodes(log: Log) -> None:
    """Best and worst are chosen by return without NaN; latest is the newest episode that has steps."""
    seq = itertools.count(1)
    for number, value in enumerate((3.0, 9.0, float("nan"), -1.0)):
        for _ in range(2):
            log.put(Kind.STEPS, "a", next(seq), 0, episode_index=number)
        log.put(Kind.EPISODES, "a", next(seq), 0, episode_index=number, episode_return=value)
    log.put(Kind.STEPS, "a", next(seq), 0, episode_index=4)
    assert log.played("best", "best") == [("a", 4), ("a", 5), ("a", 6)]
    assert log.played("worst", "worst") == [("a", 10), ("a", 11), ("a", 12)]
    assert log.played("latest", "latest") == [("a", 13)]
    assert log.played("best+1", "worst-1") == [("a", seq) for seq in range(5, 9)]
    assert log.played("end-2", "end") == [("a", 11), ("a", 12), ("a", 13)]


def test_a_position_outside_says_what_there_is(log: Log) -> None:
    """The error on a position outside the run names the ranges that the run holds."""
    for seq in range(1, 8):
        log.put(Kind.STEPS, "a", seq, seq * 1_000_000, episode_index=seq // 3)
    holds = r"lines 1 to 7, episodes 0 to 2, steps 0 to 6, times 1970-01-01T00:00:01Z to 1970-01-01T00:00:07Z"
    for words in ("seq:8", "episode:3", "step:7", "time:2026-01-01", "beginning-1", "end+1", "seq:3+5"):
        with pytest.raises(OutsideError, match=holds):
            log.finder().start(parse_position(words))
    with pytest.raises(OutsideError, match=r"holds the offsets 0 to 6 of the run: 9 is outside"):
        log.finder().start(parse_position("offset:0:9"))
    with pytest.raises(
        OutsideError, match=r"Partition 3 .* has no record of the run: it has partition 0 at 0 to 6"
    ):
        log.finder().start(parse_position("offset:3:0"))


def test_lines_of_a_batch_that_came_before_are_left_out_of_the_next(log: Log) -> None:
    """Lines of overlapping batches are kept once, and the seek points count them once."""
    for seqs in (range(1, 6), range(3, 9), (8, 2)):
        entries = [
            Entry(Kind.STEPS, 0, seq, 0, ENCODERS[Kind.STEPS](step(seq, "r", stream_id="a"))) for seq in seqs
        ]
        log.source.add(entries)
    assert [item.seq for item in items_once(log.source.page("a", 2, 7))] == list(range(2, 8))
    assert sum(point.records for point in log.source.points()) == 8
    assert log.source.first_seq("a", Kind.STEPS) == 1
    log.source.drop("a", 0, log.source.heads("a", 0, 5))
    assert [item.seq for item in items_once(log.source.page("a", 0, 99))] == [6, 7, 8]


def test_a_full_disk_is_named(log: Log) -> None:
    """If the disk is too full for the temporary file, one sentence names the variable that moves it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(StepstreamError, match=r"does not fit into .* set TMPDIR"):
            log.put(Kind.STEPS, "a", 1, 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


_times = st.integers(0, 40)
_lines = st.tuples(
    st.sampled_from("abc"),
    _times,
    st.sampled_from("xy"),
    st.sampled_from([Kind.STEPS, Kind.STEPS, Kind.LOGS]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_lines, min_size=1, max_size=40), st.integers(0, 40), _times, st.integers(-9, 9))
def test_every_place_is_where_a_scan_finds_it(
    lines: list[tuple[str, int, str, Kind]], number: int, time: int, shift: int
) -> None:
    """Seek points find the same steps, times and offsets as a scan over all lines in order."""
    with pytest.MonkeyPatch.context() as patched:
        for module in ("index", "log_source"):
            patched.setattr(f"infra.history.{module}.BLOCK", 3)
        log = Log()
        seqs = {stream: itertools.count(1) for stream in "abc"}
        for stream, at, agent, kind in lines:
            fields = {"episode_index": at // 5} if kind is Kind.STEPS else {}
            log.put(kind, stream, next(seqs[stream]), at, agent_id=agent, **fields)
        index = log.index()
        order = list(index.lines(dict.fromkeys(index.streams, 0)))
        assert [moment for moment, _ in order] == sorted(moment for moment, _ in order)
        assert len(order) == len(lines)
        steps = [moment for moment, line in order if line.kind is Kind.STEPS]
        assert index.step(number) == (steps[number] if number < len(steps) else None)
        _agree(index, order, steps, number, time)
        _agree_on_agents(log, order, number, shift)


def _agree(
    index: Index, order: list[tuple[Moment, Line]], steps: list[Moment], number: int, time: int
) -> None:
    cut = {stream: index.first_at_time(stream, time) for stream in index.streams}
    assert {moment for moment, _ in order if moment[2] >= cut[moment[1]]} == {
        moment for moment, _ in order if moment[0] >= time
    }
    assert index.steps_before(cut) == sum(moment[2] < cut[moment[1]] for moment in steps)
    at_offset = [moment for moment, line in order if line.kind is Kind.STEPS and line.offset >= number]
    assert index.first_at_offset(Kind.STEPS, 0, number) == (at_offset[0] if at_offset else None)
    before = [moment for moment, line in order if line.kind is Kind.STEPS and line.offset <= number]
    assert index.last_at_offset(Kind.STEPS, 0, number) == (before[-1] if before else None)
    if order:
        some = order[number % len(order)][0]
        cut = index.cut(some)
        assert [moment for moment, _ in order if moment[2] >= cut[moment[1]]] == [
            moment for moment, _ in order if moment >= some
        ]


def _agree_on_agents(log: Log, order: Order, number: int, shift: int) -> None:
    """Compare a position so many steps of an agent before or behind an offset with a scan."""
    line = order[number % len(order)][1]
    begin = next(
        i for i, (_, each) in enumerate(order) if each.kind is line.kind and each.offset >= line.offset
    )
    words = f"offset:{line.kind}:0:{line.offset}{shift:+d}"
    mine = [
        (moment, i)
        for i, (moment, each) in enumerate(order)
        if (each.kind, each.agent_id) == (Kind.STEPS, "x")
    ]
    before = sum(i < begin for _, i in mine)
    wanted = before + shift
    if shift == 0:
        return
    finder = log.finder("x")
    if 0 <= wanted < len(mine):
        assert finder.start(parse_position(words)) == finder.index.cut(mine[wanted][0])
    else:
        with pytest.raises(OutsideError):
            finder.start(parse_position(words))


def test_stepstreams_own_lines_come_along(log: Log) -> None:
    """A window over a worker's lines includes the heartbeats between its first and its last line."""
    for seq in range(1, 6):
        log.put(Kind.STEPS, "a", seq, seq * 10)
    for seq in range(1, 8):
        log.put(Kind.RUNS, f"a{META_SUFFIX}", seq, seq * 10 - 5, event="heartbeat")
    assert log.played("seq:2", "seq:3") == [("a", 2), (f"a{META_SUFFIX}", 3), ("a", 3)]
