"""Order without Kafka: streams by number, each other by time; what is missing is waited for, not for ever."""

from __future__ import annotations

import numpy as np
import pytest

from consumers.replay.play import PATIENCE_S, Tail
from consumers.replay.position import Beginning, End, Episode, Offset, Seq, Time, parse_position
from consumers.replay.tape import Item, Tape
from consumers.replay.window import Window
from schemas.codec import Encoder, checked_in
from schemas.errors import UsageError
from schemas.topics import Kind
from tests.support.records import record, step

ENCODERS = {kind: Encoder(kind) for kind in Kind}


def item(seq: int, kind: Kind = Kind.STEPS) -> Item:
    """A record that is known by its number."""
    return Item(kind, 0, seq, 0, seq, b"%d" % seq)


def numbers(items: list[Item]) -> list[int]:
    """Their numbers."""
    return [int(item.value) for item in items]


@pytest.fixture
def tape() -> Tape:
    """An empty tape."""
    return Tape(checked_in)


def put(tape: Tape, kind: Kind, stream: str, seq: int, event_time: int, **fields: object) -> None:
    """Put a record on a tape; its offset is its place there."""
    made = record(kind, "r", seq=seq, stream_id=stream, event_time=event_time, **fields)
    tape.add(kind, 0, len(tape), 0, ENCODERS[kind](made))


def played(tape: Tape) -> list[tuple[int, int]]:
    """Stream and number of each record, in order."""
    order = tape.ordered()
    return list(zip(order["stream"].tolist(), order["seq"].tolist(), strict=True))


def test_a_clock_that_jumps_back_does_not_disturb_a_stream(tape: Tape) -> None:
    """Lines keep their numbers' order; another stream's lines fall where they happened."""
    for seq, event_time in ((1, 10), (2, 50), (3, 20), (4, 60)):
        put(tape, Kind.STEPS, "a", seq, event_time)
    put(tape, Kind.STEPS, "b", 1, 30)
    assert played(tape) == [(0, 1), (1, 1), (0, 2), (0, 3), (0, 4)]


def test_a_picture_stands_behind_its_step(tape: Tape) -> None:
    """Both have the line's number; neither is taken for the other's repetition."""
    put(tape, Kind.FRAMES, "a", 1, 10, data=b"x")
    put(tape, Kind.STEPS, "a", 1, 10)
    put(tape, Kind.STEPS, "a", 1, 10)
    order = tape.ordered()
    assert [entry.kind for entry in order.items(np.arange(len(order)))] == [Kind.STEPS, Kind.FRAMES]


def test_bytes_that_are_no_record_are_counted_and_left_out(tape: Tape) -> None:
    """A foreign producer's record does not end a replay."""
    tape.add(Kind.STEPS, 0, 0, 0, b"hello")
    tape.add(Kind.STEPS, 0, 1, 0, ENCODERS[Kind.STEPS](step(1))[:12])
    assert (len(tape), tape.unreadable) == (0, 2)


def test_lines_between_episodes_belong_to_the_one_before(tape: Tape) -> None:
    """A window of one episode holds its metrics and log lines, and no other's."""
    for seq, kind, fields in (
        (1, Kind.LOGS, {}),
        (2, Kind.STEPS, {"episode_index": 0}),
        (3, Kind.METRICS, {}),
        (4, Kind.STEPS, {"episode_index": 1}),
        (5, Kind.LOGS, {}),
        (6, Kind.STEPS, {"episode_index": 2}),
    ):
        put(tape, kind, "a", seq, seq, **fields)
    order = tape.ordered()
    rows = Window(Episode(1), Episode(1)).rows(order)
    assert order["seq"][rows].tolist() == [4, 5]


def test_what_follows_is_given_in_order(tape: Tape) -> None:
    """A line that comes late is given before those that waited for it."""
    put(tape, Kind.STEPS, "a", 1, 1)
    tail = Tail(tape, tape.ordered())
    for seq in (3, 4):
        tail.push("a", seq, item(seq), True)
    assert tail.ready(0.0) == []
    tail.push("a", 2, item(2), True)
    assert numbers(tail.ready(0.1)) == [2, 3, 4]


def test_a_line_that_stays_away_is_passed_over_and_given_when_it_comes(tape: Tape) -> None:
    """Patience has an end; nothing is lost or doubled all the same."""
    put(tape, Kind.STEPS, "a", 1, 1)
    tail = Tail(tape, tape.ordered())
    tail.push("a", 3, item(3), True)
    assert tail.ready(0.0) == []
    assert numbers(tail.ready(PATIENCE_S)) == [3]
    tail.push("a", 2, item(2), True)
    tail.push("a", 2, item(2), True)
    tail.push("a", 1, item(1), True)
    assert numbers(tail.ready(PATIENCE_S + 1)) == [2]


def test_a_redriven_letter_is_given_as_what_it_became(tape: Tape) -> None:
    """The letter was given already: what it becomes has the same number."""
    tail = Tail(tape, tape.ordered())
    tail.push("a", 1, item(1, Kind.DLQ), True)
    assert numbers(tail.ready(0.0)) == [1]
    tail.push("a", 1, item(1), True)
    assert numbers(tail.ready(0.0)) == [1]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("beginning", Beginning()),
        ("end", End()),
        ("offset:2:1500", Offset(Kind.STEPS, 2, 1500)),
        ("offset:telemetry.episodes:0:3", Offset(Kind.EPISODES, 0, 3)),
        ("offset:dlq:0:3", Offset(Kind.DLQ, 0, 3)),
        ("time:1970-01-01T00:00:01", Time(1_000_000)),
        ("time:1970-01-01T01:00:01.5+01:00", Time(1_500_000)),
        ("time:1970-01-02", Time(86_400_000_000)),
        ("seq:7", Seq(7)),
        ("episode:0", Episode(0)),
    ],
)
def test_positions_are_read(text: str, position: object) -> None:
    """As the contract has them."""
    assert parse_position(text) == position


@pytest.mark.parametrize(
    "text",
    ["", "begin", "beginning:1", "offset:1", "offset:frames:0:1", "offset:a:b", "seq:", "seq:٣", "time:"],
)
def test_what_is_no_position_is_told(text: str) -> None:
    """With the forms that are."""
    with pytest.raises(UsageError, match=r"no position.*episode:N"):
        parse_position(text)
