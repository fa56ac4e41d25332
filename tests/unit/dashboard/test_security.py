"""The guard decides who may see the dashboard; a small app on a real server stands behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI, Request, WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dashboard.security import Guard, check_binding, is_loopback, local, script_hash
from infra.settings import Settings
from schemas.errors import UsageError
from tests.support.web import Server, served

TOKEN = "correct horse"


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start a small app behind the guard, with these settings."""
    with ExitStack() as started:
        yield lambda **options: started.enter_context(
            served(Guard(_app(), Settings(**options), [script_hash("let a = 1")]))
        )


def _app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def page() -> str:
        return "the page"

    @app.post("/change")
    async def change(request: Request) -> int:
        return len(await request.body())

    @app.get("/broken")
    async def broken() -> str:
        raise RuntimeError("a secret in a stack trace")

    @app.websocket("/ws")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text(await ws.receive_text())

    return app


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    """Only addresses and names that no other machine reaches are loopback."""
    assert is_loopback(host) is loopback


def test_beyond_loopback_it_needs_a_login() -> None:
    """Beyond loopback the dashboard starts only with a token or a proxy, else an error says what to set."""
    with pytest.raises(UsageError, match="STEPSTREAM_DASHBOARD_TOKEN"):
        check_binding(Settings(dashboard_host="0.0.0.0"))
    check_binding(Settings(dashboard_host="0.0.0.0", dashboard_token="x"))
    check_binding(Settings(dashboard_host="0.0.0.0", dashboard_user_header="X-User"))
    check_binding(Settings())


def test_loopback_needs_nothing(serve: Callable[..., Server]) -> None:
    """On loopback the page needs no login, and its headers keep other hosts out."""
    status, headers, text = serve().ask()
    assert (status, text) == (200, '"the page"')
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert script_hash("let a = 1") in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert "http" not in policy.replace("ws://127", "")
    assert headers["x-content-type-options"] == "nosniff"


def test_a_rebound_name_is_refused(serve: Callable[..., Server]) -> None:
    """A request for another site's name is refused, unless the name is an allowed origin's."""
    server = serve(dashboard_origins="https://boxes.example.org")
    assert server.ask(headers={"Host": "evil.example.org"})[0] == 403
    assert server.ask(headers={"Host": "evil.example.org:80@127.0.0.1"})[0] == 403
    assert server.ask(headers={"Host": "boxes.example.org"})[0] == 200
    assert server.ask(headers={"Host": f"localhost:{server.port}"})[0] == 200


def test_foreign_pages_change_nothing(serve: Callable[..., Server]) -> None:
    """Forms and scripts of a foreign origin change nothing; the page, allowed origins and curl may."""
    server = serve(dashboard_origins="https://boxes.example.org")
    own = f"http://127.0.0.1:{server.port}"
    for origin, expected in [
        (own, 200),
        ("https://boxes.example.org", 200),
        ("https://evil.example.org", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 403),
    ]:
        assert server.ask("/change", "POST", {"Origin": origin}, b"x")[0] == expected, origin
    assert server.ask("/change", "POST", {}, b"x")[0] == 200


def test_foreign_pages_get_no_socket(serve: Callable[..., Server]) -> None:
    """A WebSocket needs the page's own or an allowed origin; without any origin it is refused, too."""
    server = serve(dashboard_origins="https://boxes.example.org")
    for origin in (f"http://127.0.0.1:{server.port}", "https://boxes.example.org"):
        with server.socket(origin) as ws:
            ws.send("hello")
            assert ws.recv() == "hello"
    for origin in ("https://evil.example.org", "null", None):
        with pytest.raises(InvalidStatus), server.socket(origin):
            pass


def test_a_token_is_asked_for(serve: Callable[..., Server]) -> None:
    """Without the token there is only the login page; the token gives a cookie that scripts cannot read."""
    server = serve(dashboard_host="0.0.0.0", dashboard_token=TOKEN)
    status, _, text = server.ask("/deep?a=1")
    assert status == 401
    assert 'value="/deep?a=1"' in text
    assert server.ask("/change", "POST", {}, b"x")[0] == 401
    status, headers, _ = server.ask("/deep?a=1&" + urlencode({"token": TOKEN}))
    assert (status, headers["location"]) == (303, "/deep?a=1")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert TOKEN not in cookie
    assert server.ask(headers={"Cookie": cookie.split(";")[0]})[0] == 200
    assert server.ask(headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200
    for wrong in (
        {"Authorization": "Bearer no"},
        {"Cookie": "stepstream="},
        {"Cookie": f"stepstream={TOKEN}"},
    ):
        assert server.ask(headers=wrong)[0] == 401


def test_the_login_page(serve: Callable[..., Server]) -> None:
    """The form logs in and leads to the wanted page, never to another site."""
    server = serve(dashboard_host="0.0.0.0", dashboard_token=TOKEN)
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    def log_in(**fields: str) -> tuple[int, dict[str, str], str]:
        return server.ask("/login", "POST", form, urlencode(fields))

    status, headers, _ = log_in(token=TOKEN, next="/runs/r")
    assert (status, headers["location"]) == (303, "/runs/r")
    assert log_in(token=TOKEN, next="//evil.example.org")[1]["location"] == "/"
    assert log_in(token=TOKEN, next="https://evil.example.org")[1]["location"] == "/"
    status, headers, text = log_in(token="wrong", next='/"><script>')
    assert (status, "set-cookie" in headers) == (401, False)
    assert "<script>" not in text
    assert log_in()[0] == 401
    assert log_in(token="x" * 10_000)[0] == 413


def test_sockets_need_the_login_too(serve: Callable[..., Server]) -> None:
    """A socket needs the cookie as well as an allowed origin."""
    server = serve(dashboard_host="0.0.0.0", dashboard_token=TOKEN)
    own = f"http://127.0.0.1:{server.port}"
    with pytest.raises(InvalidStatus), server.socket(own):
        pass
    cookie = server.ask("/?" + urlencode({"token": TOKEN}))[1]["set-cookie"].split(";")[0]
    with server.socket(own, Cookie=cookie) as ws:
        ws.send("hello")
        assert ws.recv() == "hello"
    with pytest.raises(InvalidStatus), server.socket("https://evil.example.org", Cookie=cookie):
        pass


def test_a_proxy_names_the_user(serve: Callable[..., Server]) -> None:
    """With a user header set, a request is let in if the proxy names a user, and refused otherwise."""
    server = serve(dashboard_host="0.0.0.0", dashboard_user_header="X-Forwarded-User")
    assert server.ask(headers={"X-Forwarded-User": "ada"})[0] == 200
    assert server.ask(headers={"X-Forwarded-User": " "})[0] == 401
    status, _, text = server.ask()
    assert (status, "proxy" in text) == (401, True)


def test_the_api_is_refused_in_json(serve: Callable[..., Server]) -> None:
    """The API refuses with a sentence under `error`, not with the login page; the token lets in."""
    server = serve(dashboard_token=TOKEN)
    status, headers, text = server.ask("/api/v1/runs")
    assert (status, headers["content-type"]) == (401, "application/json")
    assert "Bearer" in json.loads(text)["error"]
    assert server.ask("/api/v1/runs", headers={"Authorization": f"Bearer {TOKEN}"})[0] == 404
    status, _, text = serve().ask("/api/v1/runs", headers={"Host": "evil.example"})
    assert status == 403
    assert "evil.example" in json.loads(text)["error"]


def test_no_stack_trace(serve: Callable[..., Server]) -> None:
    """An error in the app is answered by a plain sentence without a stack trace."""
    status, _, text = serve().ask("/broken")
    assert status == 500
    assert "secret" not in text
    assert "Traceback" not in text


def test_size_limits(serve: Callable[..., Server]) -> None:
    """A body over 1 MiB, whole or in pieces, and a message over 64 KiB are refused."""
    server = serve()
    assert server.ask("/change", "POST", {}, b"x" * 2**20)[2] == str(2**20)
    assert server.ask("/change", "POST", {}, b"x" * (2**20 + 1))[0] == 413
    pieces = iter([b"x" * 2**18] * 6)
    assert (
        server.ask("/change", "POST", {"Transfer-Encoding": "chunked"}, pieces, encode_chunked=True)[0] == 413
    )
    with server.socket(f"http://127.0.0.1:{server.port}") as ws:
        ws.send("x" * 70_000)
        with pytest.raises(ConnectionClosed):
            ws.recv()


def test_where_a_login_leads() -> None:
    """A login leads only to a path on this server."""
    assert local("/runs/a?b=c") == "/runs/a?b=c"
    for target in ("//evil", "/\\evil", "https://evil", "evil", "", "/a\r\nSet-Cookie: x=y"):
        assert local(target) == "/"
