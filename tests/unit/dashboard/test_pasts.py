"""Pages share open histories; the least used one is forgotten, and closed when nobody reads it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator
from functools import partial

import pytest

from dashboard.live.news import News
from dashboard.sql.queries import Queries
from dashboard.time.past import OPEN, Pasts
from dashboard.time.waiting import LiveOrWoken, Share
from infra.settings import Settings
from schemas.errors import DatabaseError
from schemas.topics import Kind
from tests.support.processes import wait_for
from tests.support.replays import lines_of, store_lines

RUNS = [f"run-{number}" for number in range(OPEN + 1)]


@pytest.fixture
def pasts(database: Settings) -> Iterator[Pasts]:
    """The pasts of a database with one run."""
    store_lines(database, RUNS[0], lines_of(RUNS[0], "s1", 2))
    queries = Queries(database)
    made = Pasts(database, queries)
    yield made
    made.close()
    queries.close()


async def test_a_forgotten_past_is_read_to_the_end(database: Settings, pasts: Pasts) -> None:
    """A history that is forgotten while it is read is read to the end, and closed afterwards."""
    for run_id in RUNS[1:]:
        store_lines(database, run_id, lines_of(run_id, "s1", 2))
    first = await pasts.of(RUNS[0])
    for run_id in RUNS[1:]:
        await pasts.of(run_id)
    assert await pasts.of(RUNS[1]) is await pasts.of(RUNS[1])
    assert await first.read(partial(first.history.count, Kind.STEPS, first.history.index.ends())) == 8
    gone, close = weakref.ref(first.history), first.history.close
    assert close.alive
    del first
    wait_for(lambda: gone() is None, 30)  # the reading thread releases it, too
    assert not close.alive


async def test_who_does_not_wait_has_what_is_known(
    database: Settings, pasts: Pasts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting, a past is as it was known and is read meanwhile; its error comes later."""
    [run_id, *_] = RUNS
    past = await pasts.of(run_id)
    known = past.history.index.steps
    store_lines(database, run_id, lines_of(run_id, "s2", 2))
    assert (await pasts.fresh(run_id, 0, wait=False)).history.index.steps == known
    assert (await pasts.fresh(run_id, 60)).history.index.steps == 2 * known > 0

    def away() -> None:
        raise DatabaseError("SQL is away")

    monkeypatch.setattr(past.history, "refresh", away)
    assert await pasts.fresh(run_id, 0, wait=False) is past
    with pytest.raises(DatabaseError, match="away"):
        await pasts.fresh(run_id, 60)
    assert await pasts.fresh(run_id, 60) is not past


async def test_a_run_that_nothing_came_to_stays_as_it_was_read(database: Settings, pasts: Pasts) -> None:
    """What was read and drawn of a run stays while SQL has nothing new of it."""
    [run_id, *_] = RUNS
    past = await pasts.of(run_id)
    index, returns = past.history.index, past.returns("agent")
    assert await pasts.fresh(run_id, 0) is past
    assert (past.history.index, past.returns("agent"), past.generation) == (index, returns, 0)
    store_lines(database, run_id, lines_of(run_id, "s2", 2))
    await pasts.fresh(run_id, 0)
    assert past.history.index is not index
    assert past.generation == 1


def test_who_does_not_listen_takes_nothing_that_is_live() -> None:
    """Live news is not read until a viewer asks for it; a wake-up ends the wait at once."""
    asked = []

    async def live() -> News:
        asked.append(1)
        return News(agent="a")

    async def wait() -> None:
        waiting = LiveOrWoken(live)
        waiting.wake()
        assert await waiting.next(60, live=False) is None
        assert asked == []
        news = await waiting.next(60)
        assert news is not None
        assert (news.agent, asked) == ("a", [1])

    asyncio.run(wait())


def test_a_share_of_the_time_is_one_for_all() -> None:
    """One follows the other after a rest in proportion to what the last one took, failed or not.

    While another waits, the rest is longer, but never long; there is none where nobody else needs the time.
    """
    now, slept = 100.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    async def take(share: Share, seconds: float, *, rests: bool = True) -> None:
        nonlocal now
        async with share.taken(rests=rests):
            await asyncio.sleep(0)
            now += seconds
            raise ValueError

    async def both() -> None:
        nonlocal now
        share = Share(1 / 3, lambda: now, sleep)
        told = await asyncio.gather(take(share, 0.02), take(share, 0.01), return_exceptions=True)
        assert [type(error) for error in told] == [ValueError, ValueError]
        now += 0.015
        await asyncio.gather(take(share, 2), return_exceptions=True)
        await asyncio.gather(take(share, 1, rests=False), return_exceptions=True)
        await asyncio.gather(take(share, 1), return_exceptions=True)

    asyncio.run(both())
    assert slept == pytest.approx([0.1, 0.005, 0.5])
