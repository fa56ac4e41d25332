"""Where persist resumes a partition, and when a silent run is lost; no test needs a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from consumers.persist.service import Resume, resume_at
from consumers.persist.sweep import SilenceWatch
from infra.sql.writers import Position
from schemas.topics import Partition, Watermarks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE, TWO = Partition("t", 0), Partition("t", 1)


@pytest.mark.parametrize(
    ("place", "marks", "expected"),
    [
        (None, Watermarks(0, 9), Resume(0)),
        (None, Watermarks(5, 9), Resume(5)),
        (Position(7, "id"), Watermarks(0, 9), Resume(7)),
        (Position(9, "id"), Watermarks(9, 9), Resume(9)),
        (Position(7, None), Watermarks(0, 9), Resume(7)),
        (Position(7, "other"), Watermarks(0, 9), Resume(0, remade=True)),
        (Position(10, "id"), Watermarks(2, 9), Resume(2, remade=True)),
        (Position(3, "id"), Watermarks(5, 9), Resume(5, gap=(3, 5))),
    ],
)
def test_where_a_partition_goes_on(place: Position | None, marks: Watermarks, expected: Resume):
    """Persist resumes at the stored offset, or at Kafka's first one if the topic is new or has a gap."""
    assert resume_at(place, "id", marks) == expected


def test_silence_counts_only_once_the_database_has_caught_up():
    """A persist that lags marks no run as lost before it has stored what Kafka held at that moment."""
    watch = SilenceWatch(30)
    assert watch.silent_since({ONE: 5}) is None
    watch.look(NOW, {ONE: 10, TWO: 3})
    assert watch.silent_since({ONE: 9, TWO: 3}) is None
    assert watch.silent_since({ONE: 10}) is None
    assert watch.silent_since({ONE: 12, TWO: 3}) == NOW - timedelta(seconds=30)
