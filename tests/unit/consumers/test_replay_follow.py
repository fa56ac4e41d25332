"""A replay plays new records in order, waits a limited time for missing ones and shortens pauses."""

from __future__ import annotations

import threading

import pytest

from consumers.replay.follow import PATIENCE_S, Arrived, Mark, Sequencer
from consumers.replay.pace import Pace
from infra.history.items import Item
from schemas.positions import parse_position
from schemas.topics import Kind


def arrived(seq: int, kind: Kind = Kind.STEPS, time: int = 0, episode: int | None = None) -> Arrived:
    """Return a record of stream `a`."""
    return Arrived(Item(kind, "a", seq, time or seq, "agent", 0, seq, 0, b"%d" % seq), episode)


def numbers(found: list[Arrived]) -> list[int]:
    """Return the line numbers of records."""
    return [each.item.seq for each in found]


def test_what_follows_is_given_in_order() -> None:
    """A late line is played before the lines that waited for it."""
    sequencer = Sequencer({"a": 2}, {})
    for seq in (3, 4):
        sequencer.push(arrived(seq))
    assert sequencer.ready(0.0) == []
    sequencer.push(arrived(2))
    assert numbers(sequencer.ready(0.1)) == [2, 3, 4]


def test_a_line_that_stays_away_is_passed_over_and_given_when_it_comes() -> None:
    """The others are played after the time limit; the missing line is played once when it comes."""
    sequencer = Sequencer({"a": 2}, {})
    sequencer.push(arrived(3))
    assert sequencer.ready(0.0) == []
    assert numbers(sequencer.ready(PATIENCE_S)) == [3]
    for seq in (2, 2, 1):
        sequencer.push(arrived(seq))
    assert numbers(sequencer.ready(PATIENCE_S + 1)) == [2]


@pytest.mark.parametrize("letters", [{}, {"a": {1}}])
def test_a_redriven_letter_is_given_as_what_it_became(letters: dict[str, set[int]]) -> None:
    """After a dead letter was played, the record that a redrive makes of its line is played, too."""
    sequencer = Sequencer({"a": 2} if letters else {}, letters)
    if not letters:
        sequencer.push(arrived(1, Kind.DLQ))
        assert numbers(sequencer.ready(0.0)) == [1]
    sequencer.push(arrived(1))
    assert numbers(sequencer.ready(0.0)) == [1]


@pytest.mark.parametrize(
    ("words", "reached", "passed"),
    [
        ("seq:3", [3, 4, 5, 6], [4, 5, 6]),
        ("time:1970-01-01T00:00:00.000003", [3, 4, 5, 6], [4, 5, 6]),
        ("episode:1", [2, 3, 4, 5, 6], [4, 5, 6]),
        ("step:12", [3, 4, 5, 6], [4, 5, 6]),
        ("offset:0:4", [4, 5, 6], [5, 6]),
        ("beginning", [], []),
    ],
)
def test_a_place_ahead_is_known_when_it_comes(words: str, reached: list[int], passed: list[int]) -> None:
    """A position that lies ahead is recognised in the record that reaches it and in those behind it."""
    mark = Mark(parse_position(words), 10)
    found = [(seq, *mark.place(arrived(seq, episode=seq // 2))) for seq in range(1, 7)]
    assert [seq for seq, is_reached, _ in found if is_reached] == reached
    assert [seq for seq, _, is_passed in found if is_passed] == passed


def test_pauses_are_shortened() -> None:
    """A pause is shortened to `--skip-idle` seconds of the run; the rest keeps its pace."""
    pace = Pace(1000.0, 5.0, threading.Event(), lambda note: None)
    assert pace.early(0) == 0.0
    assert 0 < pace.early(3600_000_000) <= 0.005
    assert pace.early(3601_000_000) <= 0.006


def test_a_long_pause_is_said() -> None:
    """The note on a long pause says how long it is and names the option that shortens it."""
    notes: list[str] = []
    stop = threading.Event()
    stop.set()
    pace = Pace(2.0, None, stop, notes.append)
    pace.early(0)
    pace.wait(pace.early(7200_000_000))
    assert "2:00:00" in notes[0]
    assert "--skip-idle" in notes[0]
