"""Who may see the dashboard, and from where. One ASGI middleware around the whole app.

| what | rule |
|---|---|
| bound to loopback, no login set | no login; only a loopback `Host`, or an allowed origin's, is answered |
| bound beyond loopback | a token or a proxy's user header must be set, or the dashboard does not start |
| token | `?token=…` once, the login page, or `Authorization: Bearer …`; kept in an HttpOnly cookie |
| user header | whatever the reverse proxy names there is let in: nobody must reach the dashboard past it |
| WebSocket, and whatever changes something | `Origin` must be the page's own, or one of the allowed ones |
| `/api/` | the same; what is refused is said in JSON, and no login page is shown |
| every answer | headers that forbid other hosts, framing and guessing of types; no stack trace |
| every request | a body of at most 1 MiB, a WebSocket message of at most 64 KiB |
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import structlog
from starlette.datastructures import URL, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.login import login_page
from infra.settings import Settings
from schemas.errors import UsageError

COOKIE = "stepstream"
COOKIE_SECONDS = 30 * 24 * 60 * 60
LOGIN_PATH = "/login"
API_PATH = "/api/"
HEALTH_PATHS = ("/healthz", "/livez", "/readyz")
"""Answered without a login: an orchestrator's probe has none, and learns only whether the server works."""
MAX_BODY = 1024 * 1024
MAX_MESSAGE = 64 * 1024
MAX_LOGIN = 4 * 1024
WRONG_TOKEN_WAIT_S = 0.5
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}

log = structlog.get_logger(service="dashboard")


class TooLarge(Exception):  # noqa: N818 - a reason to stop reading, never seen by users
    """A body over the limit."""


def check_binding(settings: Settings) -> None:
    """Refuse to serve everybody.

    Raises:
        UsageError: bound beyond loopback without any login.
    """
    if not (is_loopback(settings.dashboard_host) or needs_login(settings)):
        raise UsageError(
            f"The dashboard would be open to everybody on {settings.dashboard_host}: set "
            "STEPSTREAM_DASHBOARD_TOKEN, or STEPSTREAM_DASHBOARD_USER_HEADER behind a reverse proxy "
            "that logs people in."
        )


def needs_login(settings: Settings) -> bool:
    """A token or a proxy's user header is set."""
    return bool(settings.dashboard_token or settings.dashboard_user_header)


def is_loopback(host: str) -> bool:
    """A name or address of this machine that no other reaches."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def script_hash(script: str) -> str:
    """An inline script's source in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


class Guard:
    """The middleware: `Guard(app.server, settings, app.csp_hashes())`.

    Args:
        app: what it guards.
        settings: host, token, user header, origins.
        script_hashes: of the page's inline scripts: as `script_hash` makes them, or Dash's `csp_hashes()`.

    Raises:
        UsageError: bound beyond loopback without any login.
    """

    def __init__(self, app: ASGIApp, settings: Settings, script_hashes: Iterable[str] = ()) -> None:
        check_binding(settings)
        self._app = app
        self._token = settings.dashboard_token
        self._user_header = settings.dashboard_user_header
        self._login = needs_login(settings)
        named = (origin.strip().rstrip("/") for origin in settings.dashboard_origins.split(","))
        self._origins = {origin for origin in named if origin}
        self._scripts = " ".join(script_hashes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or say why not."""
        if scope["type"] == "http":
            await self._http(Request(scope, receive), send)
        elif scope["type"] == "websocket":
            await self._websocket(HTTPConnection(scope), receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, request: Request, send: Send) -> None:
        sender = Sender(send, self._headers(request))
        receive = limited(request.receive, MAX_BODY, sender.refuse)
        try:
            answer = await self._refusal(request) or self._app
            await answer(request.scope, receive, sender)
        except TooLarge:
            await sender.too_large()
        except Exception as error:
            log.exception("request failed", path=request.url.path, error=repr(error))
            await sender.answer(_refused(request, "This failed; the dashboard's log says why.", 500))

    async def _websocket(self, page: HTTPConnection, receive: Receive, send: Send) -> None:
        if not _origin(page) or self._foreign(page) or (self._login and not self._user(page)):
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        try:
            await self._app(page.scope, limited_messages(receive, MAX_MESSAGE), send)
        except TooLarge:
            await send({"type": "websocket.close", "code": 1009})

    async def _refusal(self, request: Request) -> Response | None:
        """What a request gets instead of the page; None: it is let through."""
        if foreign := self._foreign(request):
            return _refused(request, foreign, 403)
        if self._login and request.url.path not in HEALTH_PATHS and not self._user(request):
            return await self._ask(request)
        return None

    def _foreign(self, page: HTTPConnection) -> str:
        """Why this host or origin is not answered; empty where it is."""
        host, origin = page.headers.get("host", ""), _origin(page)
        if not self._login and not (is_loopback(_hostname(host)) or self._allows_host(host)):
            # A foreign name for the loopback address: another site's page looks in (DNS rebinding).
            return f"Host {host!r} is not answered: name its origin in STEPSTREAM_DASHBOARD_ORIGINS."
        unsafe = page.scope["type"] == "websocket" or page.scope["method"] not in SAFE_METHODS
        if unsafe and origin and urlsplit(origin).netloc != host and origin not in self._origins:
            return f"Origin {origin!r} is not allowed: name it in STEPSTREAM_DASHBOARD_ORIGINS."
        return ""

    def _allows_host(self, host: str) -> bool:
        return any(urlsplit(origin).netloc == host for origin in self._origins)

    def _user(self, page: HTTPConnection) -> bool:
        if self._user_header and page.headers.get(self._user_header, "").strip():
            return True
        if not self._token:
            return False
        bearer = page.headers.get("authorization", "").removeprefix("Bearer ")
        return self._right(bearer) or same(page.cookies.get(COOKIE, ""), self._cookie())

    def _right(self, token: str) -> bool:
        return bool(self._token) and same(token, self._token)

    def _cookie(self) -> str:
        return hmac.new(self._token.encode(), b"stepstream login", hashlib.sha256).hexdigest()

    async def _ask(self, request: Request) -> Response:
        """The login: by a token in the address, by the page's form, or the page itself."""
        if not self._token:
            return _refused(request, "The reverse proxy in front of this names no user: log in there.", 401)
        if "token" in request.query_params:
            token, target = request.query_params["token"], _path(request.url.remove_query_params("token"))
        elif request.method == "POST" and request.url.path == LOGIN_PATH:
            body = await Request(request.scope, limited(request.receive, MAX_LOGIN)).body()
            form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
            token, target = form.get("token", ""), form.get("next", "/")
        elif request.url.path.startswith(API_PATH):
            return _refused(request, "Send the dashboard's token as `Authorization: Bearer TOKEN`.", 401)
        else:
            return _login_page(_path(request.url), wrong=False)
        if self._right(token):
            return self._logged_in(request, local(target))
        await asyncio.sleep(WRONG_TOKEN_WAIT_S)
        return _login_page(local(target), wrong=True)

    def _logged_in(self, request: Request, target: str) -> Response:
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        answer = RedirectResponse(target, 303, headers={"cache-control": "no-store"})
        # Lax, not Strict: else whoever comes by a link from elsewhere would be asked again.
        kept: Any = {"max_age": COOKIE_SECONDS, "httponly": True, "samesite": "Lax", "secure": secure}
        answer.set_cookie(COOKIE, self._cookie(), **kept)
        return answer

    def _headers(self, request: Request) -> dict[str, str]:
        host = request.headers.get("host", "")
        sockets = f" ws://{host} wss://{host}" if re.fullmatch(r"[\w.:\[\]-]+", host) else ""
        policy = (
            f"default-src 'self'; script-src 'self' {self._scripts}; style-src 'self' 'unsafe-inline'; "
            f"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'{sockets}; "
            "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'"
        )
        return {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), microphone=(), geolocation=()",
        }


class Sender:
    """Sends an answer with the guard's headers, and knows whether one has begun."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send, self._headers = send, headers
        self._begun = self._refused = self._ended = False

    def refuse(self) -> None:
        """The request is too large: this is what is said, whatever the app makes of it."""
        self._refused = True

    async def too_large(self) -> None:
        """Say so, unless an answer has begun."""
        self._refused = False
        await self.answer(_plain("This request is too large.", 413))
        self._ended = True

    async def answer(self, response: Response) -> None:
        """Send a response of ours, unless an answer has begun."""
        if not self._begun:
            await response({"type": "http"}, _nothing, self)

    async def __call__(self, message: Message) -> None:
        """Pass on what the app sends."""
        if self._refused and not self._begun:
            return await self.too_large()
        if self._ended:
            return None
        if message["type"] == "http.response.start":
            self._begun = True
            MutableHeaders(scope=message).update(self._headers)
        await self._send(message)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _plain(words: str, status: int) -> Response:
    return PlainTextResponse(words, status, headers={"cache-control": "no-store"})


def _refused(request: Request, words: str, status: int) -> Response:
    """A sentence, in the form of what was asked for."""
    if not request.url.path.startswith(API_PATH):
        return _plain(words, status)
    return JSONResponse({"error": words}, status, headers={"cache-control": "no-store"})


def _login_page(target: str, *, wrong: bool) -> Response:
    page = login_page(LOGIN_PATH, target, wrong)
    return HTMLResponse(page, 401, headers={"cache-control": "no-store"})


def _path(url: URL) -> str:
    return url.path + (f"?{url.query}" if url.query else "")


def _origin(page: HTTPConnection) -> str:
    return page.headers.get("origin", "").rstrip("/")


def _hostname(host: str) -> str:
    """The name in a Host header; empty where the header is no host."""
    valid = re.fullmatch(r"[\w.-]+(:\d+)?|\[[\da-fA-F:.]+\](:\d+)?", host)
    return urlsplit(f"//{host}").hostname or "" if valid else ""


def same(one: str, other: str) -> bool:
    """Equal, in a time that tells nothing about where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def local(target: str) -> str:
    """A path on this server, whatever was asked for."""
    fits = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if fits else "/"


def limited(receive: Receive, limit: int, refuse: Callable[[], None] = lambda: None) -> Receive:
    """The same, up to so many bytes of body; above it calls `refuse` and raises TooLarge."""
    seen = 0

    async def receive_less() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b"") or b"")
        if seen > limit:
            refuse()
            raise TooLarge
        return message

    return receive_less


def limited_messages(receive: Receive, limit: int) -> Receive:
    """The same, with messages of at most so many bytes."""

    async def receive_less() -> Message:
        message = await receive()
        if len(message.get("text") or "") > limit or len(message.get("bytes") or b"") > limit:
            raise TooLarge
        return message

    return receive_less
