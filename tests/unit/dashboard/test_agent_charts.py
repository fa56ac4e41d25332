"""Charts of a series: read from SQL, extended by live values, drawn as the address says."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from dashboard.address import Address
from dashboard.history import History
from dashboard.live.news import Counters, News, Row
from dashboard.panels.agent_charts import Metric, OneChart, Return, Reward
from dashboard.panels.chart import At, Chart, Smoother
from dashboard.panels.chart_choice import Choice
from dashboard.panels.chart_clicks import clicked, zoomed
from dashboard.panels.episode_chart import EpisodeChart
from dashboard.sql.queries import Queries
from dashboard.time.past import Pasts
from infra.history.curves import SMOOTHINGS, Smoothing, reduce
from infra.history.series import Series
from infra.settings import load
from infra.sql.columns import Source
from schemas.live import LiveEpisode, LiveStep
from schemas.tables import Episode, Step
from tests.support.stored import event, write

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60)


def step(seq: int, episode: int, at: int, reward: float, loss: float) -> Row:
    """A live step."""
    told = f'{{"loss": {loss}}}'
    return Row(
        LiveStep("w", seq, 1_000_000 * seq, episode, at, None, reward, None, None, None, None, told, None),
        "a",
    )


def ended(seq: int, episode: int, value: float, length: int = 5) -> Row:
    """A live episode."""
    return Row(
        LiveEpisode(
            "w", seq, 1_000_000 * seq, None, episode, value, length, None, None, None, None, None, None
        ),
        "a",
    )


def opened(panel: OneChart, query: str = "") -> OneChart:
    """A panel on an open page of agent `a`."""
    panel.address = Address.of(f"/runs/run?agent=a{query}")
    panel.reset()
    return panel


async def loaded(panel: OneChart, queries: Queries) -> dict[str, Any]:
    """What a panel draws after its first read."""
    read = asyncio.Event()
    panel.wake = read.set
    reading = asyncio.create_task(panel.load(History(queries, Pasts(load({}), queries), "run", "a")))
    done, _ = await asyncio.wait([reading, asyncio.create_task(read.wait())], return_when="FIRST_COMPLETED")
    reading.cancel()
    for task in done:
        if task is reading:
            task.result()
    with suppress(asyncio.CancelledError):
        await reading
    return dict(panel.draw())


@given(NUMBERS, NUMBERS, st.sampled_from([name for name in SMOOTHINGS if name != "none"]))
def test_a_smoothed_line_goes_on_as_if_it_was_read_whole(
    before: list[float], after: list[float], name: str
) -> None:
    """Values from SQL and live values make the same line as all values at once."""
    smoothing, y = Smoothing.read(name), np.array(before)
    curve = reduce(np.arange(len(y), dtype=float), y, 1000, smoothing.of(y))
    smoother = Smoother(smoothing, curve, before[-int(max(smoothing.amount, 1)) :])
    whole = smoothing.of(np.array(before + after))[len(before) :]
    assert [smoother.next(value) for value in after] == pytest.approx(whole.tolist(), abs=1e-3)


@pytest.mark.parametrize("smooth", ["none", "ema:0.9", "mean:10"])
@pytest.mark.parametrize("axis", ["step", "episode", "relative", "time"])
def test_live_values_stand_where_sql_will_have_them(axis: str, smooth: str) -> None:
    """A live value has the same x as a stored one on each axis; a value that was read is not doubled."""
    choice = Choice.of(Address.of(f"/runs/run?x={axis}&smooth={smooth}"))
    chart = Chart(Series("run", "episodes", "episode_return", "a"))
    for n in range(10):
        chart.add([(At(1000.0 * (n + 1), 5, float(n)), float(n))], choice)
    wanted = {
        "step": [5.0 * (n + 1) for n in range(10)],
        "episode": [float(n) for n in range(10)],
        "relative": [float(n) for n in range(10)],
        "time": [1000.0 * (n + 1) for n in range(10)],
    }
    assert (chart.curve.x, chart.curve.y) == (wanted[axis], [float(n) for n in range(10)])
    read = reduce(np.array(chart.curve.x[:4]), np.array(chart.curve.y[:4]), 100)
    read.origin = chart.curve.origin
    x = list(chart.curve.x)
    chart.show(read, [], choice)
    assert chart.curve.x == (x if axis != "step" else x[:4])


class Counting(Metric):
    """The chart of the numbers `loss`; SQL is not asked, only counted."""

    def __init__(self) -> None:
        super().__init__(0)
        self.reads = 0

    def made(self, agent: str | None) -> Chart | None:
        """Its chart."""
        chart = super().made(agent)
        if chart is not None:
            chart.read = self._read  # type: ignore[method-assign]
        return chart

    async def _read(self, *_: Any) -> None:
        self.reads += 1


@pytest.mark.parametrize(
    ("query", "left_out", "again"),
    [("", False, False), ("", True, True), ("&zoom=step:1,5", False, True)],
    ids=["all came", "some were left out", "zoomed"],
)
async def test_a_chart_that_heard_all_is_not_read_again_so_soon(
    monkeypatch: pytest.MonkeyPatch, query: str, left_out: bool, again: bool
) -> None:
    """While each step comes live, SQL is not asked again for them; it is where the push left some out."""
    monkeypatch.setattr("dashboard.panels.chart.RELOAD_S", 0.001)
    panel = opened(Counting(), query)
    assert isinstance(panel, Counting)
    panel.wake = lambda: None
    panel.take(News(first=True, agent="a", run={"status": "running"}, steps=[step(1, 0, 0, 1.0, 0.5)]))
    reading = asyncio.create_task(panel.load(None))  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        while panel.reads < (3 if again else 1):
            panel.take(News(agent="a", steps=[step(2, 0, 1, 1.0, 0.5)], thinned=int(left_out)))
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    reading.cancel()
    assert (panel.reads == 1) == (not again)


def test_a_zoom_survives_more_steps_of_an_episode() -> None:
    """What Plotly keeps a zoom by stays while the episode grows, and changes with the axes."""
    chart, plain = (
        EpisodeChart(Series("run", "steps", "reward", "a"), None),
        Choice.of(Address.of("/runs/run")),
    )

    def revision(choice: Choice) -> str:
        chart.fresh = True
        figure = chart.drawn(choice)[chart.graph_id(choice)]["figure"]
        return str(figure["layout"]["uirevision"])

    chart.of_steps([(float(n), n * 1000.0, 0.5) for n in range(3)], plain)
    before = revision(plain)
    chart.of_steps([(float(n), n * 1000.0, 100.0) for n in range(50)], plain)
    assert revision(plain) == before
    assert revision(Choice.of(Address.of("/runs/run?log=1"))) != before


async def test_an_episode_of_a_run_that_began_again_is_the_newest_one(
    engine: Engine, queries: Queries
) -> None:
    """An episode whose number comes again in another attempt is one line, not both in one zigzag."""
    for attempt, stream in ((1, "first"), (2, "second")):
        told = [(n, 100 * attempt + n) for n in range(10 * attempt)]
        rows = [event(at, episode_index=3, step_index=n, reward=at, stream_id=stream) for n, at in told]
        write(engine, Step, rows)
    chart = EpisodeChart(Series("run", "steps", "reward", "a"), 3)
    history = History(queries, Pasts(load(), queries), "run", "a")
    await chart.read(history, Choice.of(Address.of("/runs/run")))
    assert (chart.curve.x, chart.curve.y) == ([*range(20)], [*range(200, 220)])


async def test_a_return_is_read_whole_and_grows(engine: Engine, queries: Queries) -> None:
    """The chart of returns reads all episodes from SQL, adds live ones, and shows the mean of 100."""
    write(engine, Episode, [event(n + 1, episode_index=n, episode_return=float(n)) for n in range(200)])
    panel = opened(Return())
    panel.take(News(first=True, first_of_agent=True, agent="a"))
    figure = (await loaded(panel, queries))[panel.chart.graph_id(panel.choice)]["figure"]  # type: ignore[union-attr]
    assert figure["data"][0]["y"] == [float(n) for n in range(200)]
    assert figure["data"][1]["y"][-1] == pytest.approx(149.5)
    assert "mean of 100" in figure["layout"]["title"]["text"]
    panel.take(News(agent="a", episodes=[ended(1000, 200, 500.0)]))
    drawn = panel.draw()
    assert drawn[f"value.{panel.chart.id}"] == "153.5"  # type: ignore[union-attr]


async def test_what_was_read_again_is_drawn_where_it_is_new(engine: Engine, queries: Queries) -> None:
    """A reading of SQL that brings nothing draws nothing: a redraw holds the page up."""
    write(engine, Episode, [event(n + 1, episode_index=n, episode_return=float(n)) for n in range(5)])
    panel = opened(Return())
    panel.take(News(first=True, first_of_agent=True, agent="a"))
    assert await loaded(panel, queries)
    panel.known = False
    assert await loaded(panel, queries) == {}
    panel.take(News(agent="a", episodes=[ended(1000, 5, 9.0)]))
    assert panel.draw()


@pytest.mark.parametrize("panel", [Return(), Reward(), Metric(0)], ids=["return", "reward", "metric"])
def test_what_comes_live_stands_on_the_clock(panel: OneChart) -> None:
    """On the time axis a live value has its x in ms since 1970, as in SQL."""
    opened(panel, "&x=time&metric=loss")
    panel.take(News(first=True, first_of_agent=True, agent="a"))
    panel.take(News(agent="a", steps=[step(7, 0, 0, 1.0, 2.0)], episodes=[ended(7, 0, 1.0)]))
    panel.draw()
    assert panel.chart is not None
    assert panel.chart.curve.x == [7000.0]


async def test_a_number_of_steps_is_drawn_from_the_first_to_the_newest(
    engine: Engine, queries: Queries
) -> None:
    """A number of steps is drawn over the global step from the first stored step on, then grows."""
    rows = [
        event(n + 1, episode_index=n // 10, step_index=n % 10, metrics={"loss": n / 2}) for n in range(50)
    ]
    write(engine, Step, rows)
    panel = opened(Metric(0))
    panel.take(
        News(
            first=True,
            first_of_agent=True,
            agent="a",
            steps=[step(51, 5, 0, 0.0, 25.0)],
            counters=Counters(51, 50, 0.0, 0),
        )
    )
    assert panel.draw() == {}  # the first delta alone is no chart: its steps may be a sample
    drawn = await loaded(panel, queries)
    chart = panel.chart
    assert chart is not None
    assert (chart.curve.x, chart.curve.y) == ([float(n) for n in range(51)], [n / 2 for n in range(51)])
    assert "metric-0" in drawn
    panel.take(News(agent="a", steps=[step(52, 5, 1, 0.0, 99.0)], counters=Counters(52, 51, 0.0, 0)))
    assert (chart.curve.x[-1], chart.curve.y[-1]) == (51.0, 99.0)


async def test_of_an_open_episode_its_own_steps_are_drawn(engine: Engine, queries: Queries) -> None:
    """The charts show reward and numbers over the steps of the episode that the address names."""
    rows = [
        event(n + 1, episode_index=n // 10, step_index=n % 10, reward=float(n), metrics={"loss": n / 2})
        for n in range(50)
    ]
    write(engine, Step, rows)
    for panel, values in ((Reward(), range(30, 40)), (Metric(0), [n / 2 for n in range(30, 40)])):
        opened(panel, "&episode=3")
        panel.take(News(first=True, first_of_agent=True, agent="a", steps=[step(51, 5, 0, 0.0, 25.0)]))
        await loaded(panel, queries)
        assert panel.chart is not None
        assert panel.chart.curve.x == [float(n) for n in range(10)]
        assert panel.chart.curve.y == [float(value) for value in values]


def test_the_newest_episode_is_drawn_as_it_is_played() -> None:
    """The newest episode's rewards are drawn step by step; the next episode starts a new line."""
    panel = opened(Reward())
    panel.take(
        News(first=True, first_of_agent=True, agent="a", steps=[step(n, 0, n, n, 0) for n in range(5)])
    )
    drawn = panel.draw()
    assert drawn["reward.title"] == "episode 0"
    panel.take(News(agent="a", steps=[step(9, 1, 0, 7.0, 0)]))
    assert panel.draw()["reward.title"] == "episode 1"
    assert panel.chart is not None
    assert (panel.chart.curve.x, panel.chart.curve.y) == ([0.0], [7.0])


def test_what_is_done_in_a_chart_is_in_the_address() -> None:
    """The address holds a zoom with its axis; a double click removes it; a click opens an episode."""
    address = Address.of("/runs/run?agent=a&at=w/7")
    assert zoomed(address, "step", {"xaxis.range[0]": 1.5, "xaxis.range[1]": 9}).endswith(
        "zoom=step%3A1.5%2C9"
    )
    dates = {"xaxis.range[0]": "2026-11-29 10:00", "xaxis.range[1]": "2026-11-29 10:00:01.5"}
    zoom = Choice.of(Address.of(f"/{zoomed(address, 'time', dates)}"))
    assert zoom.zoomed == "time"
    assert zoom.zoom is not None
    assert zoom.zoom[1] - zoom.zoom[0] == 1500
    assert "zoom" not in zoomed(Address.of("/runs/run?zoom=step:1,2"), "step", {"xaxis.autorange": True})
    assert Address.of(f"/{clicked(address, 'episode', {'points': [{'x': 3}]})}").number("episode") == 3
    assert not isinstance(clicked(address, "step", {"points": [{"x": 3}]}), str)
    assert not isinstance(zoomed(address, "step", {"autosize": True}), str)


def test_a_zoom_is_of_the_charts_with_its_axis() -> None:
    """An axis of episodes and one of steps do not share a zoom."""
    choice = Choice.of(Address.of("/runs/run?zoom=episode:5,9"))
    of = {source: Chart(Series("run", source, "reward", "a")) for source in ("episodes", "steps")}  # type: ignore[arg-type]
    assert [chart.zoom(choice) for chart in of.values()] == [(5.0, 9.0), None]


@pytest.mark.parametrize(
    ("source", "axis"), [("metrics", "step"), ("steps", "episode"), ("episodes", "episode")]
)
def test_an_axis_is_what_it_is_called(source: Source, axis: str) -> None:
    """Metrics are of no episode: over the episode they stand over the step, and the chart says so."""
    chart, choice = Chart(Series("run", source, "loss", "a")), Choice.of(Address.of("/runs/run?x=episode"))
    assert (chart.axis(choice), chart.scale(choice).title.lower()) == (axis, axis)
