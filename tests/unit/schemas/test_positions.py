"""Positions are read from the words that users write, and written in the same words."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.positions import (
    WORDS,
    Ago,
    Beginning,
    End,
    Episode,
    Named,
    Offset,
    Position,
    Seq,
    Step,
    Time,
    ends_before_it_begins,
    parse_position,
)
from schemas.topics import LINES, Kind


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("beginning", Position(Beginning())),
        ("end", Position(End())),
        ("end-100", Position(End(), -100)),
        ("offset:2:1500", Position(Offset(Kind.STEPS, 2, 1500))),
        ("offset:telemetry.episodes:0:3", Position(Offset(Kind.EPISODES, 0, 3))),
        ("offset:dlq:0:3+7", Position(Offset(Kind.DLQ, 0, 3), 7)),
        ("time:1970-01-01T00:00:01", Position(Time(1_000_000))),
        ("time:1970-01-01T01:00:01.5+01:00", Position(Time(1_500_000))),
        ("time:1970-01-02", Position(Time(86_400_000_000))),
        ("time:1970-01-02T00:00:00Z-20", Position(Time(86_400_000_000), -20)),
        ("time:-5m", Position(Ago(300_000_000))),
        ("time:-1.5s+2", Position(Ago(1_500_000), 2)),
        ("seq:7", Position(Seq(7))),
        ("episode:0", Position(Episode(0))),
        ("episode:7-20", Position(Episode(7), -20)),
        ("step:144", Position(Step(144))),
        ("best", Position(Named("best"))),
        ("worst+3", Position(Named("worst"), 3)),
        ("latest-1", Position(Named("latest"), -1)),
    ],
)
def test_positions_are_read(text: str, position: Position) -> None:
    """Each form of a position is read as the contract defines it."""
    assert parse_position(text) == position


_small = st.integers(0, 10**12)
_anchors = st.one_of(
    st.sampled_from(list(WORDS.values())),
    st.builds(Seq, _small),
    st.builds(Episode, _small),
    st.builds(Step, _small),
    st.builds(Offset, st.sampled_from(LINES), _small, _small),
    st.builds(Time, st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)),
    st.builds(Ago, _small),
)


@given(st.builds(Position, _anchors, st.integers(-(10**9), 10**9)))
def test_a_position_is_read_from_its_own_words(position: Position) -> None:
    """The text of any position is read as the same position."""
    assert parse_position(str(position)) == position


@pytest.mark.parametrize(
    "text",
    ["", "begin", "beginning:1", "offset:1", "offset:frames:0:1", "offset:a:b", "seq:", "seq:٣", "time:",
     "best:1", "step:", "step:-3", "episode:7+-2", "time:-5", "time:5m", "+3", "seq:" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_position_is_told(text: str) -> None:
    """The error on a text that is no position names the valid forms."""
    with pytest.raises(UsageError, match=r"no position.*episode:N"):
        parse_position(text)


@given(st.text(max_size=30))
def test_any_text_is_a_position_or_told(text: str) -> None:
    """Any text gives a position or a UsageError, and no other error."""
    with contextlib.suppress(UsageError):
        parse_position(text)


@pytest.mark.parametrize(
    ("start", "stop", "wrong"),
    [
        ("seq:10", "seq:5", True),
        ("seq:10", "seq:10", False),
        ("episode:3", "episode:2", True),
        ("step:3", "step:2+9", False),
        ("time:-5m", "time:-6m", True),
        ("time:-6m", "time:-5m", False),
        ("time:1970-01-02", "time:1970-01-01", True),
        ("offset:0:7", "offset:0:6", True),
        ("offset:0:7", "offset:1:6", False),
        ("best+5", "best-5", True),
        ("episode:3", "seq:1", False),
    ],
)
def test_an_end_before_the_beginning_is_seen_in_the_words(start: str, stop: str, wrong: bool) -> None:
    """An end before the start is found from the two texts, as far as they can be compared."""
    assert ends_before_it_begins(parse_position(start), parse_position(stop)) is wrong
