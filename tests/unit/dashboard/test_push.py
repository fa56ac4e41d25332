"""The order in which panels draw; a panel that fails or sleeps does not stop the others."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from dash import dcc, html
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from dashboard import charts, grids, plugins
from dashboard.address import Address
from dashboard.history import History
from dashboard.live.news import News, Row
from dashboard.page import Page, apart
from dashboard.panel import Panel, live
from dashboard.push.screen import Screen
from dashboard.push.slot import ENCODER, GuestSlot
from dashboard.push.turns import AHEAD_S, LATE_S, LONGEST_REST_S, SHARE, SOON_S, Turns
from schemas.live import LiveStep

STEP = LiveStep(
    "s", 1, 5_000, 0, 7, '"up"', 0.5, False, False, None, None, '{"loss": 0.25, "note": "x"}', None
)


class Waiting:
    """A panel that wants to draw."""

    waits = True

    def __init__(self, every: float, drawn: float) -> None:
        self.every, self.drawn = every, drawn


@given(st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 100)), min_size=1, max_size=6), st.floats(0, 110))
def test_who_waits_longest_draws_first(panels: list[tuple[float, float]], now: float) -> None:
    """The panel that is due the longest draws first; no panel draws before its time."""
    those, turns = [Waiting(*one) for one in panels], Turns()
    chosen = turns.next(those, now)
    due = [one.drawn + one.every for one in those if one.drawn + one.every <= now]
    assert (chosen is None) == (not due)
    if chosen is not None:
        assert chosen.drawn + chosen.every == min(due)


@given(st.floats(0.1, 400), st.floats(1, 200))
def test_after_a_draw_comes_a_rest(drew: float, paint: float) -> None:
    """The pause after a draw keeps all draws together within their share of the time."""
    turns = Turns()
    turns.drew(drew, paint, 10.0)
    left = turns.left([Waiting(0.0001, 0.0)], 10.0) or 0
    assert left >= min(drew / 1000 * (1 / SHARE - 1), LONGEST_REST_S) - 1e-9
    assert left <= LONGEST_REST_S


def test_a_row_has_the_columns_names_and_parses_when_asked() -> None:
    """Panels of users read steps by the names that SQL has."""
    row = Row(STEP, "ada")
    assert (row["agent_id"], row["step_index"], row["action"], row["event_time"]) == ("ada", 7, "up", 5.0)
    assert row.get("no such column") is None
    assert set(row) >= {"episode_index", "reward", "metrics", "terminated"}
    assert News(steps=[row]).metric("loss") == [0.25]
    assert News(steps=[row]).metric("note") == []


def test_a_copy_of_news_has_the_numbers_of_its_own_steps() -> None:
    """What is kept of a delta's steps is not taken for that of a copy with others."""
    news = News(steps=[Row(STEP, "ada")])
    without = structs.replace(news, steps=[])
    assert (without.numbers(), news.numbers()) == (set(), {"loss"})
    assert (structs.replace(news, steps=[]).numbers(), structs.replace(news, first=True).numbers()) == (
        set(),
        {"loss"},
    )


class OneRun:
    """A feed that gives one step at a time."""

    def __init__(self) -> None:
        self.moved: list[Address] = []

    async def first(self) -> News:
        """Return the first news."""
        return News(first=True, first_of_agent=True, agent="ada", steps=[Row(STEP, "ada")])

    async def next(self) -> News:
        """Return one more step after 10 ms."""
        await asyncio.sleep(0.01)
        return News(agent="ada", steps=[Row(STEP, "ada")])

    def moves(self, address: Address) -> bool:
        """Whether the address names another agent."""
        return address.get("agent") not in ("", "ada")

    def act(self, name: str, value: str) -> None:
        """Ignore controls: the tests use none."""

    async def stop(self) -> None:
        """Stop nothing: the feed holds no resources."""

    async def move(self, address: Address) -> News:
        """Return the first news of the new agent."""
        self.moved.append(address)
        return News(first_of_agent=True, agent=address.get("agent"))


class Seen(Panel):
    """Counts steps."""

    def reset(self) -> None:
        self.n, self.resets = 0, getattr(self, "resets", 0) + 1

    def layout(self) -> html.Div:
        return html.Div(live("seen"))

    def take(self, news: News) -> None:
        self.n += len(news.steps)

    def draw(self) -> dict[str, Any]:
        return {"seen": f"{self.n} steps"}


class OfRun(Seen):
    """Counts the steps of the whole run, whatever agent is open."""

    of_run = True

    def draw(self) -> dict[str, Any]:
        return {"of-run": f"{self.n} steps"}


class Raising(Seen):
    """Fails with each delta."""

    def take(self, news: News) -> None:
        raise ZeroDivisionError("no steps to divide by")


class Returning(Seen):
    """Returns what no component takes."""

    def draw(self) -> dict[str, Any]:
        return {"x": [1, 2]}


class Unserialisable(Seen):
    """Draws properties that are no JSON."""

    def draw(self) -> dict[str, Any]:
        return {"x": {"figure": object()}}


class Sleeping(Seen):
    """Sleeps while it takes news, and so holds up its thread."""

    def take(self, news: News) -> None:
        time.sleep(30)


class SleepingDraw(Seen):
    """Never ends drawing."""

    every = 0.01

    def take(self, news: News) -> None:
        self.dirty = True

    def draw(self) -> dict[str, Any]:
        time.sleep(30)
        return {}


class Counting(Panel):
    """Counts deltas."""

    count = 0

    def take(self, news: News) -> None:
        self.count += 1


class Board(Page):
    """A page of these panels."""

    def __init__(self, *own: Panel, guests: tuple[type[Panel], ...] = ()) -> None:
        super().__init__([plugins.Plugin(kind.__name__, lambda kind=kind: kind) for kind in guests])  # type: ignore[misc]
        self.own = own

    def panels(self, address: Address) -> list[Panel]:
        return list(self.own)

    def layout(self, address: Address) -> html.Div:
        return html.Div()

    def feed(self, feeds: Any, address: Address) -> Any:
        return OneRun()


class Shown:
    """A page that paints what it is sent."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.texts = screen, {}  # type: ignore[var-annotated]

    async def until(self, fits: Callable[[dict[str, str]], bool], messages: int = 400) -> None:
        """Take messages until the texts fit."""
        if not self.texts:
            self.texts |= (await self.screen.first())["texts"]
        for _ in range(messages):
            if fits(self.texts):
                return
            self.texts |= (await self.screen.next(10.0, 0.0)).get("texts", {})
        raise AssertionError(self.texts)


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[Page], Shown]]:
    """Opens pages, and closes them."""
    screens: list[Screen] = []

    class NoFeeds:
        queries: Any = None
        pasts: Any = None

    def open_one(page: Page) -> Shown:
        screens.append(Screen(page, NoFeeds(), Address("/runs/r"), {}))  # type: ignore[arg-type]
        return Shown(screens[-1])

    yield open_one
    for screen in screens:
        await screen.stop()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Raising, "Raising (Raising): ZeroDivisionError: no steps to divide by"),
        (Returning, "Returning (Returning): TypeError: draw() returned a list for 'x'"),
        (Unserialisable, "Unserialisable (Unserialisable): TypeError: draw() returned a object"),
    ],
)
@pytest.mark.parametrize("guest", [False, True])
async def test_a_panel_that_fails_is_named_and_fails_alone(
    opened: Callable[[Page], Shown], broken: type[Panel], said: str, guest: bool
) -> None:
    """A panel that fails is named with its error, and the other panels go on."""
    page = Board(OfRun(), guests=(broken,)) if guest else Board(OfRun(), broken())
    shown, key = opened(page), f"failed.{broken.__name__.lower()}"
    await shown.until(lambda texts: texts.get(key, "").startswith(said) and texts["of-run"] >= "3 steps")


@pytest.mark.parametrize("sleeping", [Sleeping, SleepingDraw])
async def test_a_panel_of_a_user_that_sleeps_holds_up_nobody(
    opened: Callable[[Page], Shown], sleeping: type[Panel]
) -> None:
    """A sleeping panel is named as slow; deltas arrive as they do without it."""
    shown = opened(Board(OfRun(), guests=(sleeping, Seen)))
    begun, key = time.monotonic(), f"failed.{sleeping.__name__.lower()}"
    await shown.until(lambda texts: "slow" in texts.get(key, "") and "seen" in texts)
    assert time.monotonic() - begun < 20
    assert "of-run" in shown.texts


class Emptied(deque[News]):
    """Deltas that a thread takes just before the second is there."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.none = threading.Event(), threading.Event()

    def append(self, news: News) -> None:
        if len(self) > 0:
            self.second.set()
            assert self.none.wait(10)
        super().append(news)

    def popleft(self) -> News:
        assert self.second.wait(10)
        try:
            return super().popleft()
        except IndexError:
            self.none.set()
            raise


async def test_each_delta_reaches_a_panel_of_a_user() -> None:
    """The thread of a user's panel takes each delta, also one that comes as it finds no more."""
    panel = Counting()
    slot = GuestSlot(panel, lambda: None)
    slot._news = Emptied()
    slot.take(News())
    slot.take(News())
    deadline = time.monotonic() + 10
    while panel.count < 2:
        assert time.monotonic() < deadline, f"{panel.count} of 2 were taken"
        await asyncio.sleep(0.01)
    slot.stop()


async def test_another_agent_resets_what_is_the_agents(opened: Callable[[Page], Shown]) -> None:
    """Another agent resets the panels of an agent; panels of the run keep their state."""
    own, of_run = Seen(), OfRun()
    shown = opened(Board(own, of_run))
    await shown.until(lambda texts: texts.get("seen", "") >= "3 steps")
    shown.screen.move(Address.of("/runs/r?agent=bob"), {})
    await shown.until(lambda texts: texts["seen"] in ("0 steps", "1 steps"))
    assert (own.resets, of_run.resets) == (2, 1)
    assert of_run.n >= 3


class Heavy(Seen):
    """Takes turns, and writes down what it is asked for."""

    every = 0.001

    def reset(self) -> None:
        super().reset()
        self.asked = ["reset"]

    def take(self, news: News) -> None:
        super().take(news)
        self.dirty = True
        self.asked.append("take")

    async def load(self, history: History) -> None:
        self.asked.append("load")

    def draw(self) -> dict[str, Any]:
        return {"heavy": f"{self.n} steps"}


async def test_what_is_heavy_is_taken_and_drawn_while_the_page_paints(
    opened: Callable[[Page], Shown],
) -> None:
    """A number waits for no chart: a panel that takes turns takes a delta after it was sent."""
    heavy = Heavy()
    screen = opened(Board(OfRun(), heavy)).screen
    first = await screen.first()
    assert (first["texts"]["of-run"], first["texts"]["heavy"]) == ("1 steps", "1 steps")
    screen.prepare()
    sent = await screen.next(10.0, 0.0)
    assert (sent["texts"]["of-run"], heavy.n) == ("2 steps", 1)
    screen.prepare()
    assert heavy.n == 2
    assert (await screen.next(10.0, 0.0))["texts"]["heavy"] == "2 steps"


class Drawing(Heavy):
    """Takes turns, and draws a component."""

    def draw(self) -> dict[str, Any]:
        return {"chart": {"figure": self.n}}


async def test_a_chart_comes_with_numbers_where_numbers_come(
    opened: Callable[[Page], Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the page draws it paints nothing: so a chart waits for numbers, and follows them."""
    coming = asyncio.Event()
    given = OneRun.next

    async def when_it_comes(feed: OneRun) -> News:
        await coming.wait()
        return await given(feed)

    panel = Drawing()
    monkeypatch.setattr(OneRun, "next", when_it_comes)
    monkeypatch.setattr(Turns, "alone", lambda turns, now: now + 60.0)
    screen = opened(Board(OfRun(), panel)).screen
    await screen.first()
    panel.dirty = True
    sent = asyncio.create_task(screen.next(10.0, 0.1))
    await asyncio.sleep(0.1)
    assert not sent.done()
    coming.set()
    message = await sent
    assert (message["texts"]["of-run"], list(message["draw"])) == ("2 steps", ["chart"])


def ids(part: Any) -> list[str]:
    """The ids of the components in a layout."""
    return re.findall(r'"id":"([^"]+)"', ENCODER.encode(part).decode())


class WithTable(Board):
    """A page of a table above a chart."""

    def layout(self, address: Address) -> html.Div:
        return html.Div([grids.grid("table", [], "params.data.id"), html.Div(charts.graph("chart"))])


class Listing(Drawing):
    """Draws rows, then a figure."""

    def draw(self) -> dict[str, Any]:
        return {"table": {"rowData": []}} | super().draw()


async def test_charts_and_tables_come_after_the_numbers(opened: Callable[[Page], Shown]) -> None:
    """The page begins without them; then each chart, what is drawn, and each table, all once."""
    page = WithTable(OfRun(), Listing())
    layout = page.layout(Address())
    begun, heavy = apart(layout)
    assert ids(begun) == [*heavy] == ["place-table", "place-chart"]
    assert ids(layout) == ["table", "chart"]
    message = await opened(page).screen.first()
    assert message["texts"]["of-run"] == "1 steps"
    assert list(message["draw"]) == ["place-chart", "chart", "place-table", "table"]
    graph = json.loads(ENCODER.encode(message["draw"]["place-chart"]))["children"]
    assert (graph["type"], graph["props"]["id"]) == ("Graph", "chart")


@given(st.lists(st.text(min_size=1) | st.fixed_dictionaries({"name": st.text()}), unique_by=str))
def test_no_two_charts_share_a_place(named: list[Any]) -> None:
    """Each has a place of its own whatever it is called, and Dash takes that for an id."""
    begun, heavy = apart(html.Div([dcc.Graph(id=id) for id in named]))
    assert [graph.id for graph in heavy.values()] == named
    assert not [place for place in ids(begun) if set(place) & set(".{")]


async def test_a_page_says_where_it_is(opened: Callable[[Page], Shown]) -> None:
    """What the page before has written beside the brand does not stay; a panel may know a better name."""

    class Named(OfRun):
        def draw(self) -> dict[str, Any]:
            return {"page.crumb": "my run"}

    assert (await opened(Board(OfRun())).screen.first())["texts"]["page.crumb"] == ""
    assert (await opened(Board(Named())).screen.first())["texts"]["page.crumb"] == "my run"


async def test_a_chart_comes_alone_where_no_number_comes(
    opened: Callable[[Page], Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chart waits a moment only: where nothing more comes, it is drawn all the same."""

    async def never(feed: OneRun) -> News:
        return await asyncio.get_running_loop().create_future()

    panel = Drawing()
    screen = opened(Board(panel)).screen
    await screen.first()
    monkeypatch.setattr(OneRun, "next", never)
    panel.dirty = True
    sent = await screen.next(10.0, 0.1)
    assert (sent["texts"], list(sent["draw"])) == ({}, ["chart"])


class Queued(Board):
    """A page whose news are those that the test puts."""

    def __init__(self, *own: Panel) -> None:
        super().__init__(*own)
        self.news: asyncio.Queue[News] = asyncio.Queue()

    def feed(self, feeds: Any, address: Address) -> Any:
        feed = OneRun()
        feed.next = self.news.get  # type: ignore[method-assign]
        return feed

    async def put(self, *news: News) -> None:
        """Put them, and let who waits take the first."""
        for one in news:
            self.news.put_nowait(one)
            await asyncio.sleep(0.01)


def a_step(**more: Any) -> News:
    """News of one step."""
    return News(agent="ada", steps=[Row(STEP, "ada")], **more)


@pytest.mark.parametrize("more", [0, 1])
async def test_what_came_while_the_page_drew_comes_with_the_newest(
    opened: Callable[[Page], Shown], more: int
) -> None:
    """News that came while the page drew are not sent before those that came since, nor twice, nor lost."""
    panel = Drawing()
    page = Queued(OfRun(), panel)
    screen = opened(page).screen
    await screen.first()
    panel.dirty = True
    assert list((await screen.next(10.0, 0.1))["draw"]) == ["chart"]  # alone: now the page draws
    await page.put(*[a_step(notice="late")] * (1 + more))
    message = await screen.next(10.0, 40.0)
    assert message["texts"]["of-run"] == f"{2 + more} steps"
    assert message["texts"]["page.notice"] == "late"
    screen.prepare()
    assert panel.n == 2 + more


async def test_news_of_everything_overtake_what_came_before(opened: Callable[[Page], Shown]) -> None:
    """News that hold everything replace those that came just before them."""
    panel, own = Drawing(), Seen()
    page = Queued(own, panel)
    screen = opened(page).screen
    await screen.first()
    panel.dirty = True
    await screen.next(10.0, 0.1)
    await page.put(a_step(), a_step(first=True, first_of_agent=True))
    assert (await screen.next(10.0, 40.0))["texts"]["seen"] == "1 steps"
    screen.prepare()
    assert (own.n, panel.n) == (1, 1)


async def test_a_chart_waits_for_a_step_that_is_about_to_come(
    opened: Callable[[Page], Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn with other news it would hold up the step; it goes with the step."""
    monkeypatch.setattr(Turns, "holds", lambda turns, now: True)
    panel = Drawing()
    page = Queued(OfRun(), panel)
    screen = opened(page).screen
    await screen.first()
    await page.put(News(agent="ada"))
    await screen.next(10.0, 0.0)
    screen.prepare()  # it is drawn ahead
    await page.put(News(agent="ada"))
    assert (await screen.next(10.0, 0.1))["draw"] == {}
    await page.put(a_step())
    assert list((await screen.next(10.0, 0.1))["draw"]) == ["chart"]


@given(st.floats(0.001, 20), st.floats(0, 40))
def test_the_next_step_is_due_after_as_long_as_the_last(gap: float, later: float) -> None:
    """What is drawn is held around the time at which the next step should come, and never for long."""
    turns = Turns()
    turns.stepped(100.0)
    turns.stepped(100.0 + gap)
    now, due = 100.0 + gap + later, 100.0 + 2 * gap
    assert turns.holds(now) == (due - AHEAD_S < now < due + LATE_S)
    assert now + SOON_S <= turns.alone(now) + 1e-9 <= now + SOON_S + AHEAD_S + LATE_S + 2e-9


async def test_another_agents_numbers_come_before_its_charts(opened: Callable[[Page], Shown]) -> None:
    """Of another agent, a panel that takes turns takes, reads and draws after the numbers were sent."""
    heavy, own = Heavy(), Seen()
    screen = opened(Board(own, heavy)).screen
    await screen.first()
    screen.prepare()
    screen.move(Address.of("/runs/r?agent=bob"), {})
    sent = await screen.next(10.0, 0.0)
    assert (sent["texts"]["seen"], heavy.asked) == ("0 steps", ["reset"])
    screen.prepare()
    await asyncio.sleep(0)
    assert heavy.asked == ["reset", "take", "load"]
    assert (await screen.next(10.0, 0.0))["texts"]["heavy"] == "0 steps"


class Builder(Heavy):
    """Builds a component once, and then says its values."""

    built = False

    def draw(self) -> dict[str, Any]:
        built, self.built, self.dirty = self.built, True, False
        return {"box": {"title": self.n} | ({} if built else {"children": "table"})}


@pytest.mark.parametrize("seek", [True, False])
async def test_what_was_built_is_not_lost_by_a_jump(seek: bool, opened: Callable[[Page], Shown]) -> None:
    """A component that a panel built just before another agent or moment came is on the page."""
    builder = Builder()
    screen = opened(Board(Seen(), builder)).screen
    await screen.first()
    builder.built, builder.dirty, screen._heavy = False, True, False  # the page has drawn
    await asyncio.sleep(2 * builder.every)
    screen.prepare()
    assert builder.built
    sent = screen._message(News(first_of_agent=True, seek=seek, agent="ada", steps=[Row(STEP, "ada")]))
    box = json.loads(ENCODER.encode(sent["draw"]["box"]))
    assert box["children"] == "table"
    assert ("title" in box) == seek


async def test_what_the_page_could_not_set_is_named(opened: Callable[[Page], Shown]) -> None:
    """A component that the page cannot set is named with the panel that drew it."""

    class Figure(Seen):
        def draw(self) -> dict[str, Any]:
            return {"nowhere": {"figure": {}}}

    shown = opened(Board(Figure()))
    await shown.until(lambda texts: "failed.figure" in texts)
    shown.screen.failed({"nowhere": "no such component"})
    await shown.until(lambda texts: "no such component" in texts["failed.figure"], 5)


class NoDraw(Panel):
    """Has no draw."""

    def layout(self) -> html.Div:
        return html.Div()


class NoLayout(Panel):
    """Has no layout."""

    def draw(self) -> dict[str, Any]:
        return {}


class SlowLayout(Seen):
    """Builds its layout for ever."""

    def layout(self) -> html.Div:
        time.sleep(60)
        return html.Div()


class TextLayout(Seen):
    """Returns a text as its layout."""

    def layout(self) -> Any:
        return "<b>text</b>"


class Elsewhere(Seen):
    """Asks for a place that does not exist."""

    place = "sidebar"  # type: ignore[assignment]


HERE = "tests.unit.dashboard.test_push"


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("no_such_module:Panel", "No module named 'no_such_module'"),
        (f"{HERE}:NoSuchClass", "NoSuchClass"),
        (HERE, "module:Class"),
        (f"{HERE}:STEP", "no class derived from dashboard.panel.Panel"),
        (f"{HERE}:NoDraw", "it has no draw()"),
        (f"{HERE}:NoLayout", "NoLayout has no layout()"),
        (f"{HERE}:SlowLayout", "layout() took longer"),
        (f"{HERE}:TextLayout", "layout() returned a str, no Dash component"),
        (f"{HERE}:Elsewhere", "its place is 'sidebar', not agent, run or home"),
        (f"{HERE}:Seen, {HERE}:Seen", "the same name"),
    ],
)
def test_a_panel_that_cannot_be_used_says_why(named: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unusable panel says why in one sentence in its place, and the dashboard still starts."""
    monkeypatch.setattr(plugins, "LAYOUT_S", 0.2)
    *_, refused = plugins.load(named, [])
    assert not refused.usable
    assert said in refused.error
    assert said in str(refused.layout())


def test_panels_come_by_entry_points_too() -> None:
    """An installed distribution can name a panel by an entry point."""

    class Point:
        value = f"{HERE}:Seen"

        def load(self) -> type[Panel]:
            return Seen

    (found,) = plugins.load("", [Point()])
    assert found.usable
    assert isinstance(found.panel(), Seen)
