"""Pictures of past steps, asked for over HTTP as the page asks, out of a real Kafka."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import uvicorn
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from PIL import Image

from dashboard import app
from dashboard.sql import frames
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
    """A dashboard on a loopback port."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str, **query: Any) -> tuple[int, Any]:
        """Status, and the JSON of an answer (its text where it has none)."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("GET", f"{path}?{urlencode(query, errors='surrogatepass')}")
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, json.loads(text) if text[:1] in "{n[" else text

    def frame(self, run: str, step: dict[str, Any]) -> dict[str, Any]:
        """What is said of a step's picture."""
        status, answer = self.get("/frame", run=run, stream=step["stream_id"], seq=step["seq"])
        assert status == 200
        found: dict[str, Any] = answer
        return found


@pytest.fixture
def serve() -> Iterator[Callable[[Settings], Page]]:
    """Start a dashboard with these settings."""
    started: list[tuple[uvicorn.Server, threading.Thread]] = []

    def begin(settings: Settings) -> Page:
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app.create(settings), log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        started.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return Page(listening.getsockname()[1])

    yield begin
    for server, thread in started:
        server.should_exit = True
        thread.join(10)


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
    _, step = page.get("/first-step", run=run, agent=agent, episode=episode)
    walked = []
    while step is not None:
        walked.append(step)
        _, step = page.get("/step", run=run, stream=step["stream_id"], seq=step["seq"], beside="after")
    return walked


def shade(frame: dict[str, Any]) -> int:
    """The colour of a picture."""
    with Image.open(io.BytesIO(base64.b64decode(frame["base64"]))) as image:
        red: int = image.convert("RGB").getpixel((0, 0))[0]  # type: ignore[index]
        return red


def test_a_step_has_the_newest_picture_of_its_episode_at_or_before_it(
    settings: Settings, told: str, serve: Callable[[Settings], Page]
) -> None:
    """Else the episode's next; whatever clock the lines have; never another agent's, or episode's."""
    page = serve(settings)
    for episode in range(EPISODES):
        steps = steps_of(page, told, "a", episode)
        assert [step["step"] for step in steps] == list(range(LENGTH))
        answers = [page.frame(told, step) for step in steps]
        assert [shade(answer["frame"]) for answer in answers] == [
            10 * episode + step for step in (1, 1, 1, 3, 3, 5)
        ]
    first = steps_of(page, told, "b", 1)[0]
    assert page.frame(told, first) == {"frame": None, "said": frames.NONE}


def test_steps_are_walked_within_their_episode(
    settings: Settings, told: str, serve: Callable[[Settings], Page]
) -> None:
    """Backwards as forwards; another agent's lines between them are passed over."""
    page = serve(settings)
    steps = steps_of(page, told, "b", 1)
    back, step = [], steps[-1]
    while step is not None:
        back.append(step)
        _, step = page.get("/step", run=told, stream=step["stream_id"], seq=step["seq"], beside="before")
    assert back == steps[::-1]
    assert {step["agent"] for step in steps} == {"b"}


def test_pictures_that_kafka_deleted_are_said_to_be_gone(
    settings: Settings, told: str, serve: Callable[[Settings], Page]
) -> None:
    """SQL keeps the step longer than Kafka the picture."""
    page = serve(settings)
    step = steps_of(page, told, "a", 2)[3]
    assert page.frame(told, step)["frame"] is not None
    topic = Kind.FRAMES.topic(settings.topic_prefix)
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    places = [TopicPartition(topic, number, -1) for number in range(settings.partitions)]
    for deleted in admin.delete_records(places).values():
        deleted.result(30)
    assert page.frame(told, step)["frame"] is not None, "what was read is kept for the steps beside it"
    fresh = serve(settings)
    assert fresh.frame(told, step) == {"frame": None, "said": frames.GONE}


def test_without_kafka_one_sentence_says_so(
    settings: Settings, told: str, serve: Callable[[Settings], Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step itself comes from SQL as ever."""
    monkeypatch.setattr(kafka, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    page = serve(replace(settings, bootstrap_servers=f"127.0.0.1:{port}"))
    step = steps_of(page, told, "a", 0)[1]
    assert page.frame(told, step) == {"frame": None, "said": frames.AWAY}
    page = serve(replace(settings, bootstrap_servers=""))
    assert page.frame(told, step) == {"frame": None, "said": frames.AWAY}


HOSTILE = ("", "x'; DROP TABLE steps; --", "../../etc/passwd", "a\0b", "\ud800", "<script>", "я" * 2000)
NO_NUMBER = ("-1", "1.5", "NaN", "1e3", str(2**63), str(10**40), "", "' OR 1=1")
TAKES = {
    "/frame": (("run", "stream"), "seq"),
    "/step": (("run", "stream"), "seq"),
    "/first-step": (("run", "agent"), "episode"),
}


@pytest.mark.parametrize("path", TAKES)
def test_hostile_parameters_find_nothing_and_break_nothing(
    settings: Settings, told: str, serve: Callable[[Settings], Page], path: str
) -> None:
    """Text is looked up as text; what is no number of a line is refused; no answer tells of our insides."""
    page = serve(settings)
    step = steps_of(page, told, "a", 1)[1]
    good = {"run": told, "stream": step["stream_id"], "seq": step["seq"], "agent": "a", "episode": 1}
    texts, number = TAKES[path]
    for name in texts:
        for text in HOSTILE:
            assert page.get(path, **good | {name: text}) == (200, None), (name, text)
    for text in NO_NUMBER:
        status, answer = page.get(path, **good | {number: text})
        assert status == 422
        assert "Traceback" not in str(answer)
    assert page.get("/step", **good | {"beside": "x"})[0] == 422
    status, answer = page.get(path, **good)
    assert status == 200
    assert answer is not None
