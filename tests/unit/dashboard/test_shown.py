"""Viewers of the same share a screen: who comes later or is slow knows the same, who moves parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from dash import Patch
from hypothesis import given
from hypothesis import strategies as st

from dashboard.address import Address
from dashboard.live.news import News
from dashboard.panel import Panel
from dashboard.push.said import MOST_PARTS, Message, Said
from dashboard.push.shown import MOST_BEHIND, Shown, Shows
from dashboard.push.slot import ENCODER, Pieces
from tests.unit.dashboard.test_push import Board, OneRun, Seen

HERE = Address("/runs/r")


def said(texts: dict[str, str] | None = None, props: Any = None, draw: Any = None) -> Message:
    """A message as a screen makes it."""
    pieces, heavy = Pieces(), Pieces()
    pieces.add(props or {})
    heavy.add(draw or {})
    return {"texts": texts or {}, "props": pieces.props, "draw": heavy.props}


class Painted:
    """A page as a browser keeps it: texts, and properties after all Patches."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.props: dict[str, dict[str, Any]] = {}

    def see(self, part: dict[str, Any]) -> None:
        """Set what a message says."""
        self.texts |= part["texts"]
        for when in ("props", "draw"):
            for id, values in part[when].items():
                of = self.props.setdefault(id, {})
                for name, value in values.items():
                    if name == "rowTransaction":
                        rows = {row["id"]: row for row in of["rowData"]}
                        rows |= {row["id"]: row for row in value["add"] + value["update"]}
                        of["rowData"] = [row for id, row in rows.items() if {"id": id} not in value["remove"]]
                        continue
                    of[name] = self._patched(of.get(name), value)

    @staticmethod
    def _patched(before: Any, value: Any) -> Any:
        if not (isinstance(value, dict) and "__dash_patch_update" in value):
            return value
        made = deepcopy(before) if before is not None else {"a": {}, "list": []}
        for part in value["operations"]:
            at = made
            for key in part["location"][:-1]:
                at = at[key]
            if part["operation"] == "Assign":
                at[part["location"][-1]] = part["params"]["value"]
            else:
                at[part["location"][-1]].append(part["params"]["value"])
        return made


def assigned(key: str, value: int) -> Patch:
    """A Patch that sets a part."""
    patch = Patch()
    patch["a"][key] = value
    return patch


def appended(value: int) -> Patch:
    """A Patch that grows a list."""
    patch = Patch()
    patch["list"].append(value)
    return patch


_values = st.one_of(
    st.integers().map(lambda n: {"a": {"z": n}, "list": []}),
    st.builds(assigned, st.sampled_from("xy"), st.integers(0, 9)),
    st.builds(appended, st.integers(0, 9)),
)
_rows = st.lists(st.integers(0, 4), max_size=3, unique=True)
_full = st.builds(lambda ids, n: [{"id": id, "n": n} for id in ids], _rows, st.integers(0, 9))
_tables = st.one_of(
    st.builds(lambda rows: {"rowData": rows}, _full),
    st.builds(
        lambda add, update, gone: {
            "rowTransaction": {"add": add, "update": update, "remove": [{"id": id} for id in gone]}
        },
        _full,
        _full,
        _rows,
    ),
)
_props = st.fixed_dictionaries(
    {}, optional={"g": st.fixed_dictionaries({"figure": _values}), "table": _tables}
)
_messages = st.builds(said, st.dictionaries(st.sampled_from("tu"), st.text(max_size=3)), _props, _props)


@given(st.lists(_messages, max_size=8))
def test_who_comes_later_knows_what_all_know(messages: list[Message]) -> None:
    """One who is told all at once has the same page as one who heard each message."""
    messages = [said(props={"table": {"rowData": []}}), *messages]
    always, later, all_of_it = Painted(), Painted(), Said({"table": "id"})
    for message in messages:
        always.see(msgspec.json.decode(ENCODER.encode(message)))
        all_of_it.add(message)
    assert all_of_it.whole
    for part in all_of_it.parts():
        later.see(msgspec.json.decode(ENCODER.encode(part)))
    assert (later.texts, later.props) == (always.texts, always.props)


def test_what_is_not_kept_is_known() -> None:
    """Rows that were added to a table, or a list that only grows, are not kept until they are set anew."""
    all_of_it = Said({})
    all_of_it.add(said(draw={"grid": {"rowTransaction": {"add": [{"id": 1}]}}}))
    assert not all_of_it.whole
    all_of_it.add(said(draw={"grid": {"rowData": [{"id": 1}]}}))
    assert all_of_it.whole
    for number in range(MOST_PARTS + 1):
        all_of_it.add(said(draw={"log": {"children": appended(number)}}))
    assert not all_of_it.whole


class Live(OneRun):
    """A feed of one who is where all are, until an act."""

    def __init__(self) -> None:
        super().__init__()
        self.own = False

    def act(self, name: str, value: str) -> None:
        """Go elsewhere."""
        self.own = True


class Shared(Board):
    """A page that counts how often its panels were made."""

    made = 0

    def __init__(self, feed: type[Live] = Live) -> None:
        super().__init__()
        self._feed = feed

    def panels(self, address: Address) -> list[Panel]:
        """Make a panel, and count it."""
        self.made += 1
        return [Seen()]

    def feed(self, feeds: Any, address: Address) -> Any:
        """Return a feed of its kind."""
        return self._feed()

    def key(self, address: Address) -> str:
        """Identify a run's page."""
        return f"run {address.run}"


class Looker:
    """One who looks, and counts what becomes of him."""

    def __init__(self) -> None:
        self.count, self.anew, self.ended = 0, 0, 0
        self.page = Painted()

    def again(self) -> None:
        """Count that another has taken the screen."""
        self.anew += 1

    def end(self) -> None:
        """Count that the screen has failed."""
        self.ended += 1

    async def see(self, shown: Shown) -> None:
        """Take what was said since."""
        self.count, parts = await asyncio.wait_for(shown.since(self.count), 5)
        for part in msgspec.json.decode(b"[" + parts + b"]"):
            self.page.see(part)
        shown.painted(10.0, 0.0)


@pytest.fixture
async def shows() -> AsyncIterator[Shows]:
    """Screens, ended at last."""

    class NoFeeds:
        queries: Any = None
        pasts: Any = None

    made = Shows(NoFeeds())  # type: ignore[arg-type]
    yield made
    for shown in list(made._shown.values()):
        await shown.stop()


async def test_who_looks_at_the_same_shares_a_screen(shows: Shows) -> None:
    """A second viewer is told what the first one knows, and hears what follows; panels are made once."""
    page, first, second = Shared(), Looker(), Looker()
    shown = shows.join(first, page, HERE, {})
    for _ in range(3):
        await first.see(shown)
    assert shows.join(second, page, HERE, {}) is shown
    await second.see(shown)
    assert second.page.texts == first.page.texts
    await asyncio.gather(first.see(shown), second.see(shown))
    assert second.page.texts == first.page.texts
    assert page.made == 1
    assert shows.join(Looker(), page, HERE, {"buffer": [10, {}]}) is not shown
    assert shows.join(Looker(), page, Address("/runs/other"), {}) is not shown


async def test_who_is_slow_misses_nothing(shows: Shows) -> None:
    """One who paints seldom gets all messages since, and everything at once when they are too many."""
    quick, slow = Looker(), Looker()
    shown = shows.join(quick, Shared(), HERE, {})
    shows.join(slow, Shared(), HERE, {})
    await slow.see(shown)
    for messages in (5, MOST_BEHIND + 20):
        for _ in range(messages):
            await quick.see(shown)
        await slow.see(shown)
        assert slow.page.texts == quick.page.texts


@pytest.mark.parametrize(
    "leaves",
    [
        lambda shown: shown.screen.act("pause", ""),
        lambda shown: shown.screen.move(Address.of("/runs/r?agent=b"), {}),
        lambda shown: shown.screen.lead(),
    ],
)
async def test_nobody_joins_who_is_elsewhere(leaves: Callable[[Shown], None], shows: Shows) -> None:
    """A screen that was paused, moved, or is to be followed is its viewer's own."""
    shown = shows.join(Looker(), Shared(), HERE, {})
    leaves(shown)
    other = shows.join(Looker(), Shared(), HERE, {})
    assert other is not shown
    await shown.stop()


async def test_a_screen_that_fails_ends_all_its_viewers(shows: Shows) -> None:
    """Each page of a screen that fails is ended, so that it comes again by itself."""

    class Fails(Live):
        async def next(self) -> News:
            raise RuntimeError("gone")

    viewers = [Looker(), Looker()]
    page = Shared(Fails)
    for viewer in viewers:
        shown = shows.join(viewer, page, HERE, {})
    await viewers[0].see(shown)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(shown.since(viewers[0].count), 0.5)
    assert [viewer.ended for viewer in viewers] == [1, 1]
    assert not shown.open


async def test_an_act_on_a_screen_that_cannot_begin_ends(shows: Shows) -> None:
    """A control that is used before a screen begins waits no longer than until it has failed."""

    class Fails(Live):
        async def first(self) -> News:
            raise RuntimeError("gone")

    viewer = Looker()
    shown = shows.join(viewer, Shared(Fails), HERE, {})
    await asyncio.wait_for(shown.act("pause", ""), 5)
    assert viewer.ended == 1


async def test_a_screen_ends_with_its_last_viewer(shows: Shows) -> None:
    """When the last viewer leaves, the screen ends; the next one gets a new one."""
    viewers = [Looker(), Looker()]
    shown = shows.join(viewers[0], Shared(), HERE, {})
    shows.join(viewers[1], Shared(), HERE, {})
    await shows.leave(viewers[0], shown)
    assert shown.open
    await shows.leave(viewers[1], shown)
    assert not shown.open
    assert shows.join(Looker(), Shared(), HERE, {}) is not shown
