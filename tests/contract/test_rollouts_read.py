"""The queries that pages make on rollouts give the same answers in both databases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dashboard.sql.queries import PageRequest, Queries
from dashboard.sql.rollouts import Chosen, Key
from infra.settings import load
from infra.sql.writers import Writer
from tests.support.rollout_rows import rollout, store

RUN = Chosen("run")
HOSTILE = "x'; DROP TABLE runs; --<script>%_"


@pytest.fixture
def queries(writer: Writer) -> Iterator[Queries]:
    """The pages' queries, on the database of the writer."""
    made = Queries(replace(load({}), database_url=writer.engine.url.render_as_string(hide_password=False)))
    yield made
    made.close()


def of_steps(steps: int, samples: int) -> list[dict[str, Any]]:
    """Rollouts in the order of their lines."""
    return [
        rollout(step * samples + i + 1, step, f"answer {step} {i}")
        for step in range(steps)
        for i in range(samples)
    ]


async def pages(queries: Queries, chosen: Chosen, size: int, **request: Any) -> list[int]:
    """The `seq` of every row of a list, read page by page."""
    found: list[int] = []
    while True:
        page = await queries.rollouts(chosen, PageRequest(len(found), len(found) + size, **request))
        found += [row["seq"] for row in page.rows]
        if not page.rows:
            assert len(found) == page.total
            return found


@pytest.mark.parametrize("way", ["asc", "desc"])
async def test_any_page_in_the_order_of_training_steps(writer: Writer, queries: Queries, way: str) -> None:
    """Pages list training steps newest first, in file order, or reversed; rows without a step are last."""
    rows = of_steps(7, 5)
    rows += [rollout(100 + i, 0, "no step", training_step=None) for i in range(4)]
    random.Random(1).shuffle(rows)
    store(writer, rows)
    expected = [step * 5 + i + 1 for step in range(6, -1, -1) for i in range(5)]
    expected = expected if way == "desc" else expected[::-1]
    sort = [{"colId": "training_step", "sort": way}]
    for size in (1, 4, 13, 100):
        assert await pages(queries, RUN, size, sort=sort) == [*expected, 103, 102, 101, 100]


async def test_what_is_superseded_is_listed_where_it_is_wanted(writer: Writer, queries: Queries) -> None:
    """A list leaves out the rows of an older attempt, or includes and marks them where asked to."""
    store(writer, of_steps(2, 3))
    again = [rollout(10 + i, 1, "again", sample_id=str(i), group_id="0", generation=2) for i in range(2)]
    store(writer, [row | {"scope": "1.jsonl"} for row in again])
    assert await pages(queries, RUN, 4) == [10, 11, 1, 2, 3]
    assert await pages(queries, Chosen("run", superseded=True), 4) == [4, 5, 6, 10, 11, 1, 2, 3]
    page = await queries.rollouts(Chosen("run", superseded=True), PageRequest(0, 5))
    assert [(row["superseded"], row["attempt"]) for row in page.rows] == [(True, 1)] * 3 + [(False, 1)] * 2


async def test_sorted_and_filtered_by_any_column(writer: Writer, queries: Queries) -> None:
    """A list is sorted and filtered by numbers, words, computed values and each reward function."""
    store(writer, of_steps(4, 8))
    every = await queries.rollouts(RUN, PageRequest(0, 100))
    for name in (
        "reward",
        "advantage",
        "output_tokens",
        "staleness",
        "rewards/length",
        "stop_reason",
        "sample_id",
    ):
        for way, sign in (("asc", 1), ("desc", -1)):
            page = await queries.rollouts(RUN, PageRequest(0, 100, [{"colId": name, "sort": way}]))
            values = [row[name] for row in page.rows]
            assert values == sorted(values)[::sign], name
            assert {row["seq"] for row in page.rows} == {row["seq"] for row in every.rows}
    filters = {
        "rewards/length": {"filterType": "number", "type": "greaterThan", "filter": 4},
        "status": {"filterType": "text", "type": "equals", "filter": "ok"},
    }
    page = await queries.rollouts(RUN, PageRequest(0, 100, [], filters))
    wanted = {row["seq"] for row in every.rows if row["rewards/length"] > 4 and row["status"] == "ok"}
    assert {row["seq"] for row in page.rows} == wanted
    assert page.total == len(wanted)
    assert (await queries.rollouts(Chosen("other"), PageRequest(0, 9))).total == 0


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("weather", [2]),
        ("WEATHER bergen", [2]),
        ("weath", [2]),
        ('"weather in bergen"', [2]),
        ('"bergen in weather"', []),
        ("prompted", [1]),
        ("nabla", [3]),
        ("lines", [3]),
        ("main.py", [3]),
        ("naïve", [4]),
        ("答案", [4]),
        ("length", [5]),
        ("deep_thought", [5]),
        ("tail", [6]),
        ("sunshine", []),
        ("!?", []),
        (HOSTILE, []),
        ("* OR (weather) & :*", []),
    ],
)
async def test_words_of_any_text_are_found(
    writer: Writer, queries: Queries, words: str, found: list[int]
) -> None:
    """A search finds words of prompts, answers and paths, beside escapes, and at both ends of a text."""
    said = "two\nlines \\nabla x in /src/main.py <div>"
    store(
        writer,
        [
            rollout(1, 1, "plain", messages='[{"role":"user","content":"prompted"}]'),
            rollout(2, 1, "The weather in Bergen"),
            rollout(3, 1, said),
            rollout(4, 1, "naïve 答案 3.14"),
            rollout(5, 1, "cut", stop_reason="length", group_id="deep_thought"),
            rollout(6, 1, "head " + "much " * 60_000 + "tail"),
            rollout(7, 1, "The weather in Bergen", run_id="other"),
        ],
    )
    page = await queries.rollouts(Chosen("run", words), PageRequest(0, 10))
    assert [row["seq"] for row in page.rows] == found
    assert page.total == len(found)


async def test_one_rollout_and_those_beside_it(writer: Writer, queries: Queries) -> None:
    """One rollout is read whole and with its group; the previous and the next one follow the list's order."""
    store(writer, of_steps(3, 16))
    row = await queries.rollout("run", Key("stream", 20))
    assert row is not None
    assert (row["training_step"], row["final_text"]) == (1, "answer 1 3")
    assert [one["seq"] for one in await queries.siblings(row)] == list(range(17, 25))
    assert await queries.rollout("run", Key("stream", 999)) is None
    searched = Chosen("run", "answer 1")
    oldest = {"sort": [{"colId": "training_step", "sort": "asc"}]}
    by_reward = {"sort": [{"colId": "reward", "sort": "desc"}]}
    for chosen, request in ((RUN, {}), (RUN, oldest), (RUN, by_reward), (searched, {})):
        listed = await pages(queries, chosen, 50, **request)
        for at, seq in enumerate(listed):
            found = await queries.rollout_beside(chosen, PageRequest(**request), Key("stream", seq))
            beside = [listed[at - 1] if at else None, listed[at + 1] if at + 1 < len(listed) else None]
            assert [one and one.seq for one in found] == beside
