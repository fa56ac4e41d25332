"""The web application: Dash on FastAPI, and the few routes beside it.

Pages are in `pages/`, what stands on them in `panels/`. A page's first layout is the one of the address that
asks for it, so that it stands without a second round; after that a callback follows the address.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component
from fastapi import FastAPI, WebSocket
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from dashboard import api, dialogs, plugins
from dashboard.address import Address
from dashboard.kept import Kept
from dashboard.live.buffer import LiveBuffer
from dashboard.live.feeds import Feeds
from dashboard.page import Pages, Services, apart
from dashboard.pages import every_page
from dashboard.panel import attrs, live
from dashboard.push import socket as push
from dashboard.push.shown import Shows
from dashboard.security import Guard, script_hash
from dashboard.sql import download
from dashboard.sql.queries import Queries
from infra.metrics import Health
from infra.settings import Settings
from schemas.errors import StepstreamError

ASSETS = Path(__file__).parent / "assets"
_THEME = (ASSETS / "theme.js").read_text(encoding="utf-8")
_POLYFILL = re.compile(r'<script src="[^"]*/polyfill@[^"]*"></script>\n?')


class LeanDash(Dash):
    """Dash without two things that each visit pays for and none uses."""

    def _config(self) -> dict[str, Any]:
        """Without a second WebSocket, and a worker for it: no callback asks for one."""
        config: dict[str, Any] = super()._config()  # type: ignore[no-untyped-call]
        config.pop("websocket", None)
        return config

    def interpolate_index(self, *args: Any, **parts: Any) -> str:
        """Without help for browsers of 2016: a twentieth of a second.

        The one name in it that Dash itself uses, `regeneratorRuntime`, comes with dash-bootstrap-components.
        """
        parts["scripts"] = _POLYFILL.sub("", parts["scripts"])
        index: str = super().interpolate_index(*args, **parts)  # type: ignore[no-untyped-call]
        return index


class Assets(StaticFiles):
    """Files under a path that changes with their contents: a browser keeps them for good."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file, to be kept."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def create(settings: Settings, health: Health | None = None) -> Guard:
    """The application. Connects to nothing before the first request.

    Args:
        health: whether the servers that it uses answer; None: nobody asks them.
    """
    queries, buffer = Queries(settings), LiveBuffer(settings)
    feeds, found = Feeds(settings, buffer, queries), plugins.load(settings.dashboard_panels)
    pages = every_page(found)
    services = Services(settings, feeds, queries, pages)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await buffer.close()
        feeds.pasts.close()
        queries.close()

    server: Any = FastAPI(  # Any: Dash's annotation knows only Flask
        title="stepstream", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    static = f"/static/{_fingerprint()}"
    server.mount(static, Assets(directory=ASSETS))
    server.mount(api.PATH, api.create(settings, queries, feeds.pasts))
    _routes(server, services)
    _probes(server, health or Health("dashboard", {}, beats=False))
    app = LeanDash(
        __name__,
        server=server,
        title="stepstream",
        update_title="",
        index_string=_index(static, whole_plotly=bool(found)),
        include_assets_files=False,  # Dash looks for them at the first visit of `/` only
        suppress_callback_exceptions=True,
        compress=True,
    )
    app.layout = lambda: _layout(pages, _asked_by(app))
    _register(app, services)
    return Guard(Kept(server), settings, [*app.csp_hashes(), script_hash(_THEME)])


def _routes(server: FastAPI, services: Services) -> None:
    shows = Shows(services.feeds)

    @server.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await push.live(socket, services.pages, shows)

    @server.exception_handler(StepstreamError)
    async def failed(_: Request, error: StepstreamError) -> Response:
        return PlainTextResponse(str(error), 503)

    @server.get("/download")
    async def csv(request: Request) -> Response:
        name, lines = download.csv(services.queries, request.query_params)
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


def _probes(server: FastAPI, health: Health) -> None:
    """What probes and Prometheus ask the page's own port, too. Why a server is away is for the other port."""

    @server.get("/healthz")
    @server.get("/livez")
    async def livez() -> Response:
        return PlainTextResponse("ok")

    @server.get("/readyz")
    def readyz() -> Response:
        away = [name for name, reason in health.reasons().items() if reason]
        return PlainTextResponse("".join(f"{name} is away\n" for name in away) or "ok", 503 if away else 200)

    @server.get("/metrics")
    def metrics() -> Response:
        status, kind, body = health.page("/metrics")
        return Response(body, status, media_type=kind)


def _asked_by(app: Dash) -> Address:
    """The address of the page that asks for its layout."""
    return Address.of(app.backend.request_adapter().headers.get("referer", "/"))


def _layout(pages: Pages, address: Address) -> Component:
    return html.Div(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            html.A("Skip to content", href="#main", className="skip btn"),
            _top(pages.of(address).crumb(address)),
            html.Div(id="stale", className="stale-bar", role="status"),
            live("page.notice", html.Div, "", className="stale-bar", id="notice", role="status"),
            html.Main(_page(pages, address), id="main", className="page", tabIndex="-1"),
            *dialogs.layout(),
        ]
    )


def _top(crumb: str) -> Component:
    brand = html.A([html.Span(className="logo"), "stepstream"], href="/", className="brand", title="All runs")
    state = html.Span("Connecting", id="link-state", className="status", role="status")
    buttons = [
        html.A("Health", href="/health", className="btn btn-link"),
        html.Button("Keys", id="open-keys", className="btn btn-link", **attrs(data_key="?")),
        html.Button("Settings", id="open-settings", className="btn btn-link"),
    ]
    return html.Header(
        [
            brand,
            live("page.crumb", text=crumb, className="crumb"),
            html.Span(className="flex-fill"),
            state,
            *buttons,
        ],
        className="top",
    )


def _page(pages: Pages, address: Address) -> list[Component]:
    page = pages.of(address)
    shown = html.Span(id="shown", hidden=True, **attrs(data_page=page.key(address)))
    return [apart(page.layout(address))[0], shown]


def _register(app: Dash, services: Services) -> None:
    @app.callback(
        Output("main", "children"),
        Input("url", "pathname"),
        Input("url", "search"),
        State("shown", "data-page"),
        prevent_initial_call=True,
    )
    async def follow(path: str, search: str, shown: str) -> Any:
        address = Address.of((path or "/") + (search or ""))
        if services.pages.of(address).key(address) == shown:
            return no_update
        return _page(services.pages, address)

    dialogs.register(app)
    for page in services.pages:
        page.register(app, services)


def _index(static: str, whole_plotly: bool) -> str:
    """The page around Dash. With panels of users, Plotly's whole bundle serves charts of every kind."""
    page = (ASSETS / "index.html").read_text(encoding="utf-8")
    plotly = "" if whole_plotly else f"{static}/vendor/plotly-basic.min.js"
    prefetch = f'<link rel="prefetch" as="script" href="{plotly}">' if plotly else ""
    parts = {"prefetch": prefetch, "plotly": plotly, "static": static, "theme": _THEME}
    return re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], page)


def _fingerprint() -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in ASSETS.rglob("*") if path.is_file()):
        found.update(path.relative_to(ASSETS).as_posix().encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:12]
