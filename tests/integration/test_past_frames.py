"""The page gets the pictures of past steps from a real Kafka."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from PIL import Image

from dashboard.address import Address
from dashboard.sql import frames
from dashboard.sql.frames import Answer, Frames
from dashboard.sql.queries import Queries
from infra.kafka import client as kafka
from infra.settings import Settings
from schemas.topics import Kind
from tests.support.processes import wait_for

EPISODES, LENGTH = 3, 6
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def picture(shade: int) -> bytes:
    """A picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


def lines(agents: tuple[str, ...] = ("a", "b")) -> str:
    """Steps of two agents, one second apart by their own clock; every second step of `a` has a picture."""
    out = []
    for episode in range(EPISODES):
        for step in range(LENGTH):
            for agent in agents:
                moment = LONG_AGO + timedelta(seconds=episode * LENGTH + step)
                line: dict[str, Any] = {"type": "step", "agent_id": agent, "episode_index": episode}
                line |= {"step_index": step, "reward": 1.0, "ts": moment.isoformat()}
                if agent == "a" and step % 2:
                    line["rgb_b64"] = base64.b64encode(picture(10 * episode + step)).decode()
                out.append(json.dumps(line))
    return "\n".join(out)


class Page:
    """What a page of a dashboard process reads: steps out of SQL, their pictures off Kafka."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.Runner()
        self.queries = Queries(settings)
        self._frames = Frames(settings, self.queries)

    def get(self, question: Any) -> Any:
        """The answer to one of the `queries`."""
        return self._loop.run(question)

    def frame(self, run: str, step: dict[str, Any]) -> Answer | None:
        """The answer about a step's picture."""
        return self.get(self._frames.of(run, step["stream_id"], step["seq"]))  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the connections to the database."""
        self._loop.close()
        self.queries.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Settings], Page]]:
    """Read as a dashboard process with these settings does."""
    started: list[Page] = []

    def begin(settings: Settings) -> Page:
        started.append(Page(settings))
        return started[-1]

    yield begin
    for page in started:
        page.close()


@pytest.fixture
def told(settings: Settings, run_cli: Callable[..., Any], spawn_cli: Callable[..., Any]) -> str:
    """A run in SQL and on Kafka."""
    for command in (("topics", "create"), ("db", "upgrade")):
        assert run_cli(*command).returncode == 0
    spawn_cli("persist")
    assert run_cli("ingest", "-", "--run-id", "told", input=lines()).returncode == 0

    def stored() -> bool:
        shown = run_cli("runs", "show", "told", "--json")
        return shown.returncode == 0 and json.loads(shown.stdout)["steps"] == 2 * EPISODES * LENGTH

    wait_for(stored, 60)
    return "told"


def steps_of(page: Page, run: str, agent: str, episode: int) -> list[dict[str, Any]]:
    """The steps of an episode, as the page walks through them."""
    step = page.get(page.queries.step_of_episode(run, agent, episode))
    walked = []
    while step is not None:
        walked.append(step)
        step = page.get(page.queries.step_beside(run, step["stream_id"], step["seq"], after=True))
    return walked


def shade(answer: Answer | None) -> int:
    """The colour of a picture."""
    assert answer is not None
    assert answer.frame is not None
    with Image.open(io.BytesIO(answer.frame.data)) as image:
        red: int = image.convert("RGB").getpixel((0, 0))[0]  # type: ignore[index]
        return red


def test_a_step_has_the_newest_picture_of_its_episode_at_or_before_it(
    settings: Settings, told: str, serve: Callable[[Settings], Page]
) -> None:
    """A step has the newest picture at or before it, else the next, always of its agent and episode."""
    page = serve(settings)
    for episode in range(EPISODES):
        steps = steps_of(page, told, "a", episode)
        assert [step["step_index"] for step in steps] == list(range(LENGTH))
        answers = [page.frame(told, step) for step in steps]
        assert [shade(answer) for answer in answers] == [10 * episode + step for step in (1, 1, 1, 3, 3, 5)]
    first = steps_of(page, told, "b", 1)[0]
    assert page.frame(told, first) == (None, frames.NONE)


def test_steps_are_walked_within_their_episode(
    settings: Settings, told: str, serve: Callable[[Settings], Page]
) -> None:
    """The steps of an episode are walked both ways, past another agent's lines between them."""
    page = serve(settings)
    steps = steps_of(page, told, "b", 1)
    back, step = [], steps[-1]
    while step is not None:
        back.append(step)
        step = page.get(page.queries.step_beside(told, step["stream_id"], step["seq"], after=False))
    assert back == steps[::-1]
    assert {step["agent_id"] for step in steps} == {"b"}


def test_pictures_that_kafka_deleted_are_said_to_be_gone(
    settings: Settings, told: str, serve: Callable[[Settings], Page]
) -> None:
    """The answer says that a picture is gone when Kafka has deleted it and SQL still has the step."""
    page = serve(settings)
    step = steps_of(page, told, "a", 2)[3]
    assert shade(page.frame(told, step)) == 23
    topic = Kind.FRAMES.topic(settings.topic_prefix)
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    places = [TopicPartition(topic, number, -1) for number in range(settings.partitions)]
    for deleted in admin.delete_records(places).values():
        deleted.result(30)
    assert shade(page.frame(told, step)) == 23, "what was read is kept for the steps beside it"
    fresh = serve(settings)
    assert fresh.frame(told, step) == (None, frames.GONE)


def test_without_kafka_one_sentence_says_so(
    settings: Settings, told: str, serve: Callable[[Settings], Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a Kafka the answer says that it is away; the step itself still comes from SQL."""
    monkeypatch.setattr(kafka, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    page = serve(replace(settings, bootstrap_servers=f"127.0.0.1:{port}"))
    step = steps_of(page, told, "a", 0)[1]
    assert page.frame(told, step) == (None, frames.AWAY)
    page = serve(replace(settings, bootstrap_servers=""))
    assert page.frame(told, step) == (None, frames.AWAY)


HOSTILE = ("", "x'; DROP TABLE steps; --", "../../etc/passwd", "a\0b", "\ud800", "<script>", "я" * 2000)


def as_an_address_brings_it(text: str) -> str:
    """The text as the page reads it from its address, which holds no half of a surrogate pair."""
    return Address.of(f"/?at={quote(text, errors='surrogatepass')}").get("at")


@pytest.mark.parametrize("what", ["frame", "step", "step_beside", "step_of_episode"])
def test_hostile_names_find_nothing_and_break_nothing(
    settings: Settings, told: str, serve: Callable[[Settings], Page], what: str
) -> None:
    """Hostile names in an address find nothing, and good names are still found afterwards."""
    page = serve(settings)
    step = steps_of(page, told, "a", 1)[1]
    good = (told, "a", 1) if what == "step_of_episode" else (told, step["stream_id"], step["seq"])

    def ask(run: str, name: str, number: int) -> Any:
        if what == "frame":
            return page.frame(run, {"stream_id": name, "seq": number})
        more = {"after": True} if what == "step_beside" else {}
        return page.get(getattr(page.queries, what)(run, name, number, **more))

    for text in map(as_an_address_brings_it, HOSTILE):
        assert ask(text, *good[1:]) is None, text
        assert ask(good[0], text, good[2]) is None, text
    assert ask(*good) is not None
