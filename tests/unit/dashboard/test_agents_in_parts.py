"""A thousand agents come in parts, and none of what changed is left out."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.address import Address
from dashboard.live.buffer import AGENTS_AT_ONCE, _some
from dashboard.live.cursor import Cursor
from dashboard.live.news import News
from dashboard.live.types import AgentRow
from dashboard.panels.agents import MANY as LISTED_FROM
from dashboard.panels.agents import Agents

MANY = 4 * AGENTS_AT_ONCE + 50


def rows_of(steps: list[int], seen: list[int]) -> list[AgentRow]:
    """All agents as Redis holds them."""
    pairs = zip(steps, seen, strict=True)
    rows = [AgentRow(f"a{i}", steps=count, last_seen_at=at) for i, (count, at) in enumerate(pairs)]
    return sorted(rows, key=lambda row: row.agent_id)


@given(changes=st.lists(st.sets(st.integers(0, MANY - 1), max_size=MANY), max_size=8), still=st.booleans())
def test_whatever_changes_between_two_parts_arrives(changes: list[set[int]], still: bool) -> None:
    """Parts come one by one while rows change; once the changes stop, the page has all rows."""
    steps, seen, page = [1] * MANY, [1000] * MANY, dict[str, int]()
    cursor, at = Cursor([], ""), 1000

    def read() -> int:
        some = _some(rows_of(steps, seen), cursor)
        page.update({row.agent_id: row.steps for row in some})
        return len(some)

    assert read() == MANY
    for changed in changes:
        at += 0 if still else 1  # changes within one millisecond, or each in a later one
        for i in changed:
            steps[i], seen[i] = steps[i] + 1, at
        assert read() <= MANY // 4 + 1
    for _ in range(10):
        read()
    assert page == {f"a{i}": count for i, count in enumerate(steps)}


def test_a_hundred_come_at_once() -> None:
    """Up to a hundred agents come in one part."""
    cursor, few = Cursor([], ""), AGENTS_AT_ONCE
    assert len(_some(rows_of([1] * few, [1000] * few), cursor)) == few
    assert len(_some(rows_of([2] * few, [1001] * few), cursor)) == few
    assert not cursor.agents_due


@pytest.mark.parametrize("count", [1, 2, LISTED_FROM + 1])
def test_an_agent_that_the_run_does_not_have(count: int) -> None:
    """An address may name anybody: who is there is listed, and keys lead to the list's ends."""
    panel = Agents()
    panel.address = Address.of("/runs/run?agent=nobody")
    panel.reset()
    panel.take(News(agents=[AgentRow(f"a{i}", 1) for i in range(count)], agent="nobody"))
    drawn = panel.draw()
    assert drawn["agents.count"] == f"{count:,}"
    assert ("nobody" in drawn["agents.none"]) == (count <= LISTED_FROM)  # more of them come in parts
    assert "a0" in drawn["agents.next"]
    assert f"a{count - 1}" in drawn["agents.previous"]


def test_the_list_sends_the_rows_that_look_different() -> None:
    """Of a long list of agents that all act, the page gets those alone whose row shows something new."""
    panel, now = Agents(), round(time.time() * 1000)
    panel.address = Address.of("/runs/run")
    panel.reset()

    def came(steps: int, returns: dict[int, list[float]]) -> dict[str, Any]:
        """What the page gets when every agent has taken steps, and some have ended an episode."""
        rows = [
            AgentRow(f"a{i}", steps, steps_per_second=steps / 3, returns=returns.get(i, []), last_seen_at=now)
            for i in range(LISTED_FROM + 1)
        ]
        panel.take(News(agents=rows, agent="a0"))
        return dict(panel.draw().get("agent-list", {}))

    assert len(came(1, {})["rowData"]) == LISTED_FROM + 1
    came(2, {})
    assert came(3, {}) == {}
    sent = came(4, {3: [1.0, 2.0]})["rowTransaction"]
    assert [row["agent_id"] for row in sent["update"]] == ["a3"]
    assert came(5, {3: [1.0, 2.0]}) == {}
