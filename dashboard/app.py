"""The web application: Dash on FastAPI, our routes beside it.

The shell is plain HTML (`assets/shell.html`), so the page stands at once and needs no component for what
comes in numbers. Dash is what reads SQL into its table; what is live comes over `/live`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from dash import Dash, html
from fastapi import FastAPI, Query, WebSocket
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from dashboard import dialogs
from dashboard.live import wire
from dashboard.live.buffer import LiveBuffer
from dashboard.live.feeds import Feeds
from dashboard.push import socket as push
from dashboard.security import Guard
from dashboard.sql import download, history
from dashboard.sql.frames import Frames
from dashboard.sql.queries import Queries
from infra.settings import Settings
from schemas.errors import StepstreamError

ASSETS = Path(__file__).parent / "assets"

Seq = Annotated[int, Query(ge=0, lt=2**62)]
"""A number that SQL's whole numbers hold."""
Beside = Literal["before", "after"] | None


class Assets(StaticFiles):
    """Files under a path that changes with their contents: a browser keeps them for good."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file, to be kept."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def create(settings: Settings) -> Guard:
    """The application. Connects to nothing before the first request."""
    queries, buffer = Queries(settings), LiveBuffer(settings)
    feeds = Feeds(settings, buffer, queries)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await buffer.close()
        queries.close()

    server: Any = FastAPI(  # Any: Dash's annotation knows only Flask
        title="stepstream", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    static = f"/static/{_fingerprint()}"
    server.mount(static, Assets(directory=ASSETS))
    _routes(server, feeds, queries, Frames(settings, queries))
    app = Dash(
        __name__,
        server=server,
        title="stepstream",
        update_title="",
        index_string=_index(static),
        include_assets_files=False,
        suppress_callback_exceptions=True,
        compress=True,
    )
    app.layout = html.Div([history.layout(), *dialogs.layout()])
    history.register(app, queries)
    return Guard(server, settings, app.csp_hashes())


def _routes(server: FastAPI, feeds: Feeds, queries: Queries, frames: Frames) -> None:
    @server.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok")

    @server.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await push.live(socket, feeds)

    @server.exception_handler(StepstreamError)
    async def failed(_: Request, error: StepstreamError) -> Response:
        return PlainTextResponse(str(error), 503)

    @server.get("/step")
    async def step(run: str, stream: str, seq: Seq, beside: Beside = None) -> Response:
        if beside is None:
            return _json(await queries.step(run, stream, seq))
        return _json(await queries.step_beside(run, stream, seq, after=beside == "after"))

    @server.get("/first-step")
    async def first_step(run: str, agent: str, episode: Seq) -> Response:
        return _json(await queries.step_of_episode(run, agent, episode))

    @server.get("/frame")
    async def frame(run: str, stream: str, seq: Seq) -> Response:
        return _json(await frames.of(run, stream, seq))

    @server.get("/download")
    async def csv(request: Request) -> Response:
        name, lines = download.csv(queries, request.query_params)
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


def _json(found: Any) -> Response:
    return Response(wire.encode(found), media_type="application/json")


def _index(static: str) -> str:
    """The shell as Dash's index page, every module named so that none waits for another."""
    modules = sorted(path.relative_to(ASSETS).as_posix() for path in ASSETS.glob("js/**/*.js"))
    preload = "\n  ".join(f'<link rel="modulepreload" href="{static}/{name}">' for name in modules)
    shell = (ASSETS / "shell.html").read_text(encoding="utf-8")
    return shell.replace("{{static}}", static).replace("{{preload}}", preload)


def _fingerprint() -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in ASSETS.rglob("*") if path.is_file()):
        found.update(path.relative_to(ASSETS).as_posix().encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:12]
