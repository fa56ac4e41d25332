"""Answers of Redis are decoded to deltas: gaps, thinning, cursors."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from dashboard.live import decode
from dashboard.live.cursor import Cursor, streams_of
from dashboard.live.news import Row
from dashboard.live.types import Delta, View
from schemas import live
from schemas.live import Keys, LiveStep

VIEW = View("run", "a")


def step(seq: int, reward: float | None = 0.0) -> LiveStep:
    """A step that has only a number and a reward."""
    return LiveStep("s", seq, 0, None, None, None, reward, None, None, None, None, None, None)


def entry(first: int, count: int, number: int = 1) -> Any:
    """An entry of a stream of steps."""
    packed = live.STEPS.pack(live.StepsEntry(first, [step(first + n) for n in range(count)]))
    return (f"{number}-0".encode(), {live.FIELD: packed})


def cursor(steps: int | None = None) -> Cursor:
    """A cursor that has read so many steps."""
    return Cursor(Cursor.of(VIEW), "e", counts={} if steps is None else {"steps": steps})


@pytest.mark.parametrize(
    ("before", "first", "gap", "missed", "reset"),
    [
        (None, 500, False, 0, False),
        (10, 10, False, 0, False),
        (10, 25, True, 15, False),
        (10, 0, False, 0, True),
    ],
    ids=["from scratch", "goes on", "trimmed", "counted anew"],
)
def test_gaps_are_seen_and_counted(
    before: int | None, first: int, gap: bool, missed: int, reset: bool
) -> None:
    """The steps missing before an entry are counted; an entry that starts at 0 again resets the page."""
    delta, at = Delta(cursor=""), cursor(before)
    decode.add(delta, at, "steps", [entry(first, 5)], VIEW)
    assert (delta.gap, delta.missed, delta.reset) == (gap, missed, reset)
    assert at.counts["steps"] == first + 5


def test_a_gap_between_two_entries() -> None:
    """A gap between two entries of one read is seen and counted, too."""
    delta = Delta(cursor="")
    decode.add(delta, cursor(0), "steps", [entry(0, 5, 1), entry(9, 5, 2)], VIEW)
    assert (delta.gap, delta.missed, len(delta.steps)) == (True, 4, 10)


@pytest.mark.parametrize("count", [1, 99, 100, 500, 501, 5_000])
@pytest.mark.parametrize("limit", [1, 100, 101, 500])
def test_thinning(count: int, limit: int) -> None:
    """Thinning keeps at most `limit` steps, in order, and always the newest."""
    steps = [step(n) for n in range(count)]
    kept = decode.thin(steps, limit)
    assert len(kept) <= limit
    assert [s.seq for s in kept] == sorted({s.seq for s in kept})
    assert kept[-1].seq == count - 1
    if count <= limit:
        assert kept == steps


def test_thinning_keeps_what_stands_out() -> None:
    """The best and the worst reward of a long stretch are still there; what was left out is counted."""
    rewards = [random.Random(n).random() for n in range(3_000)]
    rewards[1_111], rewards[222] = 99.0, -99.0
    steps = [step(n, reward) for n, reward in enumerate(rewards)]
    packed = live.STEPS.pack(live.StepsEntry(0, steps))
    delta = Delta(cursor="")
    decode.add(delta, cursor(), "steps", [(b"1-0", {live.FIELD: packed})], View("run", "a", max_steps=300))
    kept = {s.seq for s in delta.steps}
    assert {1_111, 222} <= kept
    assert len(kept) + delta.thinned == 3_000


def test_a_cursor_survives_the_page() -> None:
    """The text of a cursor reads back as the same cursor, but only for the same view."""
    made = cursor(7)
    made.ids["steps"] = "12-3"
    read = Cursor.read(made.text(), VIEW)
    assert read is not None
    assert (read.counts, read.ids, read.epoch) == ({"steps": 7}, {"steps": "12-3"}, "e")
    assert Cursor.read(made.text(), View("run", "b")) is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        "[]",
        '{"view": 1, "epoch": ""}',
        '{"view": ["run", "a"], "epoch": "e", "ids": {"steps": "$"}}',
        '{"view": ["run", "a"], "epoch": "e", "ids": {"steps": "1-1 COUNT"}}',
        '{"view": ["run", "a"], "epoch": "e", "ids": {"nonsense": "1-1"}}',
        '{"view": ["run", "a"], "epoch": "e"}' + " " * 20_000,
    ],
)
def test_a_cursor_that_is_none(text: str | None) -> None:
    """A text that is no cursor is read as none, so that the page begins from scratch."""
    assert Cursor.read(text, VIEW) is None


def test_what_a_view_waits_on() -> None:
    """A view waits only on the streams that are on screen."""
    keys = Keys("p:")
    assert set(streams_of(View(), keys)) == {"notification"}
    assert set(streams_of(View("run"), keys)) == {"notification"}
    whole = streams_of(View("run", "a", metrics=True, logs=True), keys)
    assert set(whole) == {"notification", "metrics", "logs", "steps", "episodes", "frame"}


def test_a_silent_run_is_lost() -> None:
    """A running run that was silent for too long is lost; an ended one stays what it is."""
    fields = {b"status": b"running", b"last_seen_at": b"1000", b"rate": b"5.5", b"steps": b"7"}
    row = decode.run_row("run", fields, agents=2, now_ms=11_000, lost_seconds=30)
    assert (row.status, row.silent_seconds, row.steps_per_second, row.steps) == ("running", 10.0, 5.5, 7)
    late = decode.run_row("run", fields, agents=2, now_ms=51_000, lost_seconds=30)
    assert (late.status, late.steps_per_second) == ("lost", 0.0)
    ended = fields | {b"status": b"completed"}
    assert decode.run_row("run", ended, agents=2, now_ms=51_000, lost_seconds=30).status == "completed"


def test_a_silent_agent_has_no_rate() -> None:
    """The rate of a silent agent is 0 though no record says so."""
    steps = live.AGENT_STEPS.pack(live.AgentSteps(9, 12.0, 1_000, 2_000))
    assert decode.agent_row("a", steps, None, now_ms=3_000).steps_per_second == 12.0
    assert decode.agent_row("a", steps, None, now_ms=9_000).steps_per_second == 0.0


def test_all_live_processes_together() -> None:
    """Lag and rate are sums over the live processes; a dead one does not count."""
    processes = {"a": (10_000, 5, 2.0), "b": (9_500, 7, 1.0), "dead": (0, 1_000, 9.0)}
    fields = {
        f"process:{name}".encode(): msgspec.json.encode(live.LiveProcess(*said))
        for name, said in processes.items()
    }
    row = decode.service_row(fields | {b"skipped": b"3"}, now_ms=11_000)
    assert (row.lag, row.rate, row.skipped, row.at, row.silent_seconds) == (12, 3.0, 3, 10_000, 1.0)


def test_a_delta_is_json() -> None:
    """A delta is valid JSON: NaN is null, a picture is base64."""
    delta = Delta(cursor="c", steps=[step(1, float("nan"))])
    delta.frame = live.LiveFrame(0, None, None, "image/png", 1, 1, 0, b"\x89PNG")
    made = msgspec.json.decode(msgspec.json.encode(delta))
    assert made["steps"][0][6] is None
    assert made["frame"][-1] == "iVBORw=="


def test_viewers_of_one_agent_share_what_was_read() -> None:
    """The rows of an entry are read once, and what is made of a row is made once for all viewers."""
    seen = []
    for _ in range(2):
        delta = Delta("")
        decode.add(delta, cursor(0), "steps", [entry(0, 5)], VIEW)
        seen.append(Row(delta.steps[-1], "a").once("made", lambda: seen))
    assert seen[0] is seen
    assert seen[1] is seen
