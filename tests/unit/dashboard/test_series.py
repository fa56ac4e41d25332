"""History for charts: any series, whole or in part, from either database."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from dashboard.sql.queries import Queries, Series
from infra.history import series
from infra.history.curves import AXES, Axis, Curve, Smoothing
from infra.sql import columns
from infra.sql.columns import Source
from schemas.tables import Agent, Episode, Metrics, Run, Step
from tests.support.stored import T0, agent, event, run, steps, write

HOSTILE = "x'; DROP TABLE runs; --<script>\"%_"


def returns_of(engine: Engine, values: list[float]) -> None:
    """Episodes with these returns."""
    rows = [event(n + 1, episode_index=n, episode_return=value) for n, value in enumerate(values)]
    write(engine, Episode, rows)


async def test_a_curve_keeps_its_extremes(engine: Engine, queries: Queries) -> None:
    """A curve of few points still shows the best and the worst episode, in order."""
    returns = [float(n % 50) for n in range(3_000)]
    returns[1234], returns[2345] = 999.0, -999.0
    returns_of(engine, returns)
    curve = await queries.return_curve("run", "a", points=200)
    assert (curve.total, curve.reduced, curve.sampled) == (3_000, True, False)
    assert len(curve.x) <= 200
    assert (max(curve.y), min(curve.y)) == (999.0, -999.0)
    assert curve.x == sorted(curve.x)
    assert curve.x[curve.y.index(999.0)] == 1234
    assert (await queries.return_curve("run", "a", points=10_000)).y == returns


async def test_a_part_is_seen_in_full(engine: Engine, queries: Queries) -> None:
    """A zoomed part has every point, and its smoothed line is that of the whole series."""
    returns_of(engine, [float(n % 7) for n in range(3_000)])
    whole = Series("run", "episodes", "episode_return", "a", "episode")
    smoothing = Smoothing("mean", 7)
    part = await queries.minmax(whole, 1000, 1100, 500, smoothing)
    assert part.x == [float(n) for n in range(1000, 1101)]
    assert part.y == [float(n % 7) for n in range(1000, 1101)]
    assert part.mean == pytest.approx([3.0] * 101)


async def test_episodes_without_numbers_are_counted(engine: Engine, queries: Queries) -> None:
    """Where a worker numbers no episodes, a curve's x counts them."""
    write(engine, Episode, [event(n, episode_return=float(n)) for n in range(1, 6)])
    curve = await queries.return_curve("run", "a")
    assert (curve.x, curve.y) == ([0.0, 1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0, 5.0])


async def test_metrics_by_name(engine: Engine, queries: Queries) -> None:
    """Names may hold slashes, quotes and dots; values that are no numbers are left out."""
    names = ["train/loss", 'a"b', "x.y[0]", "time", HOSTILE]
    told = [
        event(n, global_step=n * 10, metrics=dict.fromkeys(names, n / 2) | {"odd": "NaN", "yes": True})
        for n in range(1, 5)
    ]
    write(engine, Metrics, told)
    assert sorted(await queries.names("run", "metrics")) == sorted([*names, "odd", "yes"])
    curves = await asyncio.gather(*(queries.minmax(Series("run", "metrics", name)) for name in names))
    for curve in curves:
        assert (curve.x, curve.y) == ([10.0, 20.0, 30.0, 40.0], [0.5, 1.0, 1.5, 2.0])
    for name in ("odd", "yes", "nobody"):
        assert (await queries.minmax(Series("run", "metrics", name))).y == []
    assert (await queries.minmax(Series(HOSTILE, "metrics", "train/loss"))).y == []


async def test_names_are_read_once_for_all_pages(
    engine: Engine, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that were read a moment ago are not read again; of another run or source, and later, they are."""
    write(engine, Metrics, [event(1, metrics={"loss": 1.0})])
    assert await queries.names("run", "metrics") == ["loss"]
    write(engine, Metrics, [event(2, metrics={"kl": 1.0}), event(1, run_id="other", metrics={"x": 1.0})])
    assert await queries.names("run", "metrics") == ["loss"]
    assert await queries.names("run", "steps", "a") == []
    assert await queries.names("other", "metrics") == ["x"]
    monkeypatch.setattr("dashboard.sql.queries.NAMES_S", 0)
    assert await queries.names("run", "metrics") == ["loss", "kl"]


async def test_numbers_that_steps_carry(engine: Engine, queries: Queries) -> None:
    """A number of steps has a name and a curve over the steps of the whole run, across all episodes."""
    write(engine, Step, [row | {"metrics": {"epsilon": row["seq"] / 100}} for row in steps(30)])
    assert await queries.names("run", "steps", "a") == ["epsilon"]
    epsilon = await queries.minmax(Series("run", "steps", "epsilon", "a"))
    assert epsilon.x == [float(n) for n in range(30)]
    assert epsilon.y == pytest.approx([n / 100 for n in range(1, 31)])
    reward = await queries.minmax(Series("run", "steps", "reward", "a", "episode"))
    assert reward.x == [float(n // 7) for n in range(30)]


async def test_the_axes(engine: Engine, queries: Queries) -> None:
    """The same values are drawn by steps, by episode, by time, or by time since the beginning."""
    rows = [event(n, episode_index=n, episode_return=1.0, episode_length=10 * n) for n in range(1, 4)]
    write(engine, Episode, rows)

    async def x_of(axis: Any) -> list[float]:
        return (await queries.minmax(Series("run", "episodes", "episode_return", "a", axis))).x

    begin = T0.timestamp() * 1000
    assert await x_of("step") == [10.0, 30.0, 60.0]
    assert await x_of("episode") == [1.0, 2.0, 3.0]
    assert await x_of("time") == pytest.approx([begin + 1000, begin + 2000, begin + 3000], abs=1)
    assert await x_of("relative") == pytest.approx([0.0, 1.0, 2.0], abs=0.001)


async def test_workers_side_by_side_are_one_line(engine: Engine, queries: Queries) -> None:
    """Two streams of one run are one line in order of their global step, whichever was written first."""
    told = [
        event(n, stream_id=stream, global_step=2 * n + (stream == "b"), metrics={"loss": float(n)})
        for stream in ("b", "a")
        for n in range(5)
    ]
    write(engine, Metrics, told)
    curve = await queries.minmax(Series("run", "metrics", "loss"))
    assert curve.x == [float(n) for n in range(10)]


async def test_what_comes_later_is_read_then(
    engine: Engine, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series that was read before reads only new rows, in pages, each row once."""
    monkeypatch.setattr(series, "PAGE", 7)
    monkeypatch.setattr(series, "FRESH_S", -1.0)
    asked = Series("run", "metrics", "loss")
    for begin in (0, 20, 40):
        rows = [event(n, global_step=n, metrics={"loss": float(n)}) for n in range(begin, begin + 20)]
        write(engine, Metrics, rows)
        curve = await queries.minmax(asked)
        assert curve.y == [float(n) for n in range(begin + 20)]
    assert (await queries.latest(asked, 3)).x == [57.0, 58.0, 59.0]
    assert (await queries.latest(asked, 1000)).total == 60


async def test_a_long_series_is_not_waited_for(
    engine: Engine, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long series gives a sample first and says so, then every point."""
    monkeypatch.setattr(series, "PAGE", 50)
    write(engine, Run, [run(metrics=1000)])
    write(engine, Metrics, [event(n, global_step=n, metrics={"loss": float(n)}) for n in range(1000)])
    asked = Series("run", "metrics", "loss")
    first = await queries.minmax(asked, pixels=1000)
    assert first.sampled
    assert 20 < len(first.x) < 100
    assert (await whole(queries, asked)).total == 1000


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(
    ("source", "name"), [("metrics", "loss"), ("steps", "reward"), ("episodes", "episode_return")]
)
async def test_a_sample_is_as_wide_as_the_series(
    engine: Engine, queries: Queries, monkeypatch: pytest.MonkeyPatch, source: Source, name: str, axis: Axis
) -> None:
    """A sample's x goes from end to end of the series on every axis, also where x only counts rows."""
    monkeypatch.setattr(series, "PAGE", 50)
    write(engine, Run, [run(metrics=1000, steps=1000, episodes=1000)])
    write(engine, Metrics, [event(n, global_step=n, metrics={"loss": 1.0}) for n in range(1000)])
    write(engine, Step, [event(n, reward=1.0) for n in range(1000)])
    write(engine, Episode, [event(n, episode_return=1.0, episode_length=5 + n % 3) for n in range(1000)])
    asked = Series("run", source, name, axis=axis)
    sample, newest, part = await asyncio.gather(
        queries.minmax(asked), queries.latest(asked, 1), queries.minmax(asked, begin=1e300)
    )
    every = await whole(queries, asked)
    assert (sample.sampled, every.sampled) == (True, False)
    assert len(sample.x) < 100
    near = 0.05 * (every.x[-1] - every.x[0])
    assert (sample.x[0], sample.x[-1]) == pytest.approx((every.x[0], every.x[-1]), abs=near)
    assert newest.x[-1] == sample.x[-1]
    assert (sample.total, newest.total, part.total) == (every.total, every.total, 0)


async def whole(queries: Queries, asked: Series) -> Curve:
    """Every point of a long series: it is asked for until it is no sample, as a page does."""
    async with asyncio.timeout(60):
        while (curve := await queries.minmax(asked, pixels=1000)).sampled:  # noqa: ASYNC110 - as a page does
            await asyncio.sleep(0.01)
    return curve


async def test_a_sample_sees_lines_of_every_kind(engine: Engine, queries: Queries) -> None:
    """A sample sees a kind of line that a worker prints only every second time."""
    write(engine, Agent, [agent("a", steps=500)])
    write(engine, Step, [event(2 * n, reward=1.0) for n in range(500)])
    place = columns.Place("run", "a", "steps")
    found = await queries._ask(columns.sample, place, ["reward"], 50)
    assert 30 < len(found) < 100


@pytest.mark.parametrize("apart", [1, 2, 9], ids=["alone", "dense", "sparse"])
@pytest.mark.parametrize("streams", [["one"], ["one", "two", "three"]], ids=["a worker", "three workers"])
async def test_a_sample_is_even(engine: Engine, queries: Queries, apart: int, streams: list[str]) -> None:
    """A sample has about as many rows as were asked for, from each tenth of each worker's lines."""
    write(engine, Agent, [agent("a", steps=2000 * len(streams))])
    write(engine, Step, [event(apart * n, reward=n, stream_id=one) for one in streams for n in range(2000)])
    place = columns.Place("run", "a", "steps")
    found = await queries._ask(columns.sample, place, ["reward"], 200 * len(streams))
    assert 150 * len(streams) < len(found) < 300 * len(streams)
    assert found.each == pytest.approx(10, rel=0.35)
    tenths = np.bincount((found.value("reward") // 200).astype(int), minlength=10)
    assert min(tenths) >= 10 * len(streams)


async def test_what_nobody_looks_at_is_forgotten(
    engine: Engine, queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Series in memory have a limit in bytes; a series that was forgotten is read again."""
    monkeypatch.setattr(series, "MAX_BYTES", 10_000)
    for name in ("r1", "r2", "r3"):
        rows = [event(n, name, global_step=n, metrics={"loss": 1.0}) for n in range(300)]
        write(engine, Metrics, rows)
        assert (await queries.minmax(Series(name, "metrics", "loss"))).total == 300
    assert [place.run_id for place in queries._series._held] == ["r3"]
    assert (await queries.minmax(Series("r1", "metrics", "loss"))).total == 300


async def test_the_run_before(engine: Engine, queries: Queries) -> None:
    """The run before is one of the same project and environment; the first run has none."""
    runs = [
        run("old", project="p", env_id="E", started_at=T0, config={"lr": 1}),
        run("other", project="q", env_id="F", started_at=T0 + timedelta(hours=1), config={"lr": 2}),
        run("new", project="p", env_id="E", started_at=T0 + timedelta(hours=2), config={"lr": 3}),
    ]
    write(engine, Run, runs)
    before = await queries.before("new")
    assert before is not None
    assert (before["run_id"], before["config"]) == ("old", '{"lr": 1}')
    assert await queries.before("old") is None
    assert await queries.before("nobody") is None
