"""The state that history gives for any step equals the live state after that step, in both databases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.history.items import Records
from infra.history.moment import FramePlace, History
from infra.history.reader import RunReader
from infra.history.sql_source import SqlSource
from infra.settings import Settings, load
from infra.sql.direct import DirectReader
from schemas.codec import Encoder, checked_in
from schemas.fold import Fold, columns
from schemas.positions import parse_position
from schemas.topics import LINES, Kind
from tests.support.records import record
from tests.support.replays import lines_of, store_lines

PLACES = 200
FRAMED = ("stream_id", "seq", "agent_id", "event_time", "episode_index", "step_index")
NEWEST = 20
KINDS = (*LINES, Kind.FRAMES)
ENCODERS = {kind: Encoder(kind) for kind in KINDS}


@pytest.fixture(params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a database of each kind, which holds run `r`: two agents in one stream, another stream."""
    url = f"sqlite:///{tmp_path / 'test.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres")
    settings = replace(load({}), database_url=url)
    lines = lines_of("r", "s1", 300) + lines_of("r", "s2", 100, every=2_003)
    for kind, fields in lines:
        if fields["stream_id"] == "s1" and fields["seq"] % 3 == 0:
            fields["agent_id"] = "b"
        if kind is Kind.EPISODES and fields["seq"] == 500:
            fields["episode_return"] = 1e6
    frames = [
        (Kind.FRAMES, record(Kind.FRAMES, "r", **{name: fields[name] for name in FRAMED}))
        for kind, fields in lines
        if kind is Kind.STEPS and fields["seq"] % 4 < 2
    ]
    lines += frames
    for n in range(1, 50):
        made = {"seq": n, "stream_id": "s3", "global_step": n, "metrics": f'{{"loss": {n}}}'}
        lines.append((Kind.METRICS, record(Kind.METRICS, "r", **made)))
    store_lines(settings, "r", lines)
    return settings


def live(settings: Settings) -> Iterator[tuple[int, Fold, list[Any], list[Any]]]:
    """Yield each step's number with the live path's fold, and agent `a`'s steps and curve so far."""
    reader = RunReader(settings, "r", checked_in, SqlSource(settings, "r"), kafka=False)
    records, fold, steps, curve, number = Records("r", checked_in), Fold(), [], [], 0
    for item in reader.items(dict.fromkeys(reader.index.streams, 0), None):
        made = records(item)
        fold.add(item.kind, made, item.time)
        mine = item.agent_id == "a"
        if mine and item.kind is Kind.EPISODES and made["episode_return"] == made["episode_return"]:
            curve.append((float(made["episode_index"]), made["episode_return"]))
        if item.kind is Kind.STEPS:
            steps += [made] if mine else []
            yield number, fold, steps, curve
            number += 1
    reader.close()


def test_a_replayed_moment_is_the_live_one(stored: Settings) -> None:
    """At 200 random steps the counters, curve, newest steps and picture equal those of the live path."""
    history = History(stored, "r")
    pictures = pointers(stored)
    total = history.state(parse_position("end"), "a").step
    places = {*random.sample(range(total), PLACES), 0, total - 1}
    for number, fold, steps, curve in live(stored):
        if number not in places:
            continue
        state = history.state(parse_position(f"step:{number}"), "a", NEWEST)
        assert state.step == number + 1
        assert counters(state.run) == counters(fold.runs["r"])
        assert counters(state.agent) == counters(fold.agents["r", "a"])
        assert sorted(state.returns) == sorted(curve)
        assert state.steps == steps[-NEWEST:]
        newest = steps[-1]["stream_id"]
        shown = [
            step["seq"] for step in steps if (newest, step["seq"]) in pictures and step["stream_id"] == newest
        ]
        assert state.frame == (
            FramePlace(newest, shown[-1], 0, pictures[newest, shown[-1]]) if shown else None
        )
    history.close()


def pointers(settings: Settings) -> dict[tuple[str, int], int]:
    """The offsets of agent `a`'s pictures, by stream and line."""
    reader = DirectReader(settings.sql_url)
    found = reader.rows("SELECT stream_id, seq, topic_offset FROM frames WHERE agent_id = 'a'")
    reader.close()
    return {(stream, seq): offset for stream, seq, offset in found}


def counters(state: Any) -> dict[str, Any]:
    """The columns of a state without Kafka's times, which SQL does not keep."""
    held = columns(state)
    return {
        name: pytest.approx(value, nan_ok=True) if isinstance(value, float) else value
        for name, value in held.items()
        if name not in ("first_seen_at", "last_seen_at")
    }
