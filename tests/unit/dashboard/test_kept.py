"""Scripts are made once, and are the same for each visit."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections import Counter

import pytest
from fastapi import FastAPI, Response
from fastapi.middleware.gzip import GZipMiddleware

from dashboard.kept import Kept
from dashboard.security import Guard
from infra.settings import Settings
from tests.support.web import Server, served

SCRIPT = "let a = 1;" * 1000


def _ask(server: Server, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=names)
    try:
        with urllib.request.urlopen(request) as answer:
            code, said, body = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        code, said, body = error.code, error.headers, error.read()
    told = {name.lower(): text.replace(str(server.port), "PORT") for name, text in said.items()}
    told.pop("date", None)
    return code, told, body


@pytest.mark.parametrize("headers", [{}, {"Accept_Encoding": "gzip"}], ids=["plain", "gzip"])
@pytest.mark.parametrize("path", ["/_dash-component-suites/a.js", "/static/1f/a.js"])
def test_a_script_is_made_once(path: str, headers: dict[str, str]) -> None:
    """Each visit gets the status, headers and bytes that the app gives; the app is asked once."""
    app, asked = _app()
    with served(Guard(app, Settings())) as bare:
        expected = _ask(bare, path, **headers)
    asked.clear()
    with served(Guard(Kept(app), Settings())) as server:
        assert [_ask(server, path, **headers) for _ in range(3)] == [expected] * 3
    assert asked == {path: 1}


def test_what_is_not_the_whole_is_not_kept() -> None:
    """Pages, errors, and answers to what a browser has already, are the app's each time."""
    app, asked = _app()
    with served(Guard(Kept(app), Settings())) as server:
        for _ in range(2):
            assert _ask(server, "/static/none.js")[0] == 404
            assert _ask(server, "/static/a.js", If_None_Match="old")[0] == 304
            assert _ask(server, "/page")[0] == 200
        assert _ask(server, "/static/a.js")[0] == 200
    assert asked == {"/static/none.js": 2, "/static/a.js": 3, "/page": 2}


def _app() -> tuple[FastAPI, Counter[str]]:
    """An app of scripts, pages and errors that compresses, and how often it was asked for what."""
    app, asked = FastAPI(), Counter[str]()
    app.add_middleware(GZipMiddleware, minimum_size=500)

    @app.middleware("http")
    async def count(request, then):  # type: ignore[no-untyped-def]
        asked[request.url.path] += 1
        if "if-none-match" in request.headers:
            return Response(status_code=304)
        return await then(request)

    for path in ("/_dash-component-suites/a.js", "/static/1f/a.js", "/static/a.js", "/page"):
        app.get(path)(lambda: Response(SCRIPT, headers={"ETag": "1"}, media_type="text/javascript"))
    return app, asked
