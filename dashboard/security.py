"""Who may see the dashboard, and from where. One ASGI middleware around the whole app.

| what | rule |
|---|---|
| bound to loopback, no login set | no login; only a loopback `Host`, or an allowed origin's, is answered |
| bound beyond loopback | a token or a proxy's user header must be set, or the dashboard does not start |
| token | `?token=…` once, the login page, or `Authorization: Bearer …`; kept in an HttpOnly cookie |
| user header | whatever the reverse proxy names there is let in: nobody must reach the dashboard past it |
| WebSocket, and whatever changes something | `Origin` must be the page's own, or one of the allowed ones |
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
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import structlog

from dashboard.login import login_page
from infra.settings import Settings
from schemas.errors import UsageError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "stepstream"
COOKIE_SECONDS = 30 * 24 * 60 * 60
LOGIN_PATH = "/login"
HEALTH_PATH = "/healthz"
"""Answered without a login: an orchestrator's probe has none, and learns nothing but that we live."""
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
    """

    def __init__(self, app: App, settings: Settings, script_hashes: Iterable[str] = ()) -> None:
        check_binding(settings)
        self._app = app
        self._token = settings.dashboard_token
        self._user_header = settings.dashboard_user_header.lower().encode()
        self._login = needs_login(settings)
        self._origins = {origin.strip().rstrip("/") for origin in settings.dashboard_origins.split(",")} - {
            ""
        }
        self._scripts = " ".join(script_hashes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or say why not."""
        if scope["type"] == "http":
            await self._http(Request(scope), receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(Request(scope), receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, request: Request, receive: Receive, send: Send) -> None:
        answer = Answer(send, self._headers(request))
        try:
            if refused := self._refused(request):
                return await answer.text(403, refused)
            if self._login and request.path != HEALTH_PATH and not self._user(request):
                return await self._ask(request, receive, answer)
            await self._app(request.scope, limited(receive, MAX_BODY, answer.refuse), answer)
        except TooLarge:
            await answer.too_large()
        except Exception as error:
            log.exception("request failed", path=request.path, error=repr(error))
            await answer.text(500, "This failed; the dashboard's log says why.")

    async def _websocket(self, request: Request, receive: Receive, send: Send) -> None:
        allowed = request.origin and not self._refused(request) and (not self._login or self._user(request))
        if not allowed:
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        try:
            await self._app(request.scope, limited_messages(receive, MAX_MESSAGE), send)
        except TooLarge:
            await send({"type": "websocket.close", "code": 1009})

    def _refused(self, request: Request) -> str:
        """Why this host or origin is not answered; empty where it is."""
        if not self._login and not (is_loopback(request.hostname) or self._allows_host(request.host)):
            # A foreign name for the loopback address: another site's page looks in (DNS rebinding).
            return f"Host {request.host!r} is not answered: name its origin in STEPSTREAM_DASHBOARD_ORIGINS."
        unsafe = request.scope["type"] == "websocket" or request.method not in SAFE_METHODS
        if unsafe and request.origin and not self._own(request):
            return f"Origin {request.origin!r} is not allowed: name it in STEPSTREAM_DASHBOARD_ORIGINS."
        return ""

    def _own(self, request: Request) -> bool:
        return urlsplit(request.origin).netloc == request.host or request.origin in self._origins

    def _allows_host(self, host: str) -> bool:
        return any(urlsplit(origin).netloc == host for origin in self._origins)

    def _user(self, request: Request) -> bool:
        if self._user_header and request.headers.get(self._user_header, b"").strip():
            return True
        if not self._token:
            return False
        bearer = request.header("authorization").removeprefix("Bearer ")
        return self._right(bearer) or same(request.cookies.get(COOKIE, ""), self._cookie())

    def _right(self, token: str) -> bool:
        return bool(self._token) and same(token, self._token)

    def _cookie(self) -> str:
        return hmac.new(self._token.encode(), b"stepstream login", hashlib.sha256).hexdigest()

    async def _ask(self, request: Request, receive: Receive, answer: Answer) -> None:
        """The login: by a token in the address, by the page's form, or the page itself."""
        if not self._token:
            return await answer.text(401, "The reverse proxy in front of this names no user: log in there.")
        query = dict(parse_qsl(request.query))
        if "token" in query:
            token, target = query.pop("token"), request.path + ("?" + urlencode(query) if query else "")
        elif request.method == "POST" and request.path == LOGIN_PATH:
            form = parse_qs((await whole_body(limited(receive, MAX_LOGIN))).decode(errors="replace"))
            token, target = form.get("token", [""])[0], form.get("next", ["/"])[0]
        else:
            asked = request.path + ("?" + request.query if request.query else "")
            return await answer.page(401, login_page(LOGIN_PATH, asked, wrong=False))
        if not self._right(token):
            await asyncio.sleep(WRONG_TOKEN_WAIT_S)
            return await answer.page(401, login_page(LOGIN_PATH, local(target), wrong=True))
        # Lax, not Strict: else whoever comes by a link from elsewhere would be asked again.
        kept = f"Path=/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_SECONDS}" + "; Secure" * request.secure
        cookie = f"{COOKIE}={self._cookie()}; {kept}"
        await answer.redirect(local(target), cookie)

    def _headers(self, request: Request) -> list[tuple[bytes, bytes]]:
        host = request.host if re.fullmatch(r"[\w.:\[\]-]+", request.host) else ""
        sockets = f" ws://{host} wss://{host}" if host else ""
        policy = (
            f"default-src 'self'; script-src 'self' {self._scripts}; style-src 'self' 'unsafe-inline'; "
            f"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'{sockets}; "
            "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'"
        )
        return [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"same-origin"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
        ]


class Request:
    """What the guard looks at."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.path: str = scope["path"]
        self.query = scope.get("query_string", b"").decode("latin-1")
        self.method: str = scope.get("method", "GET")
        self.host = self.header("host")
        self.hostname = urlsplit(f"//{self.host}").hostname or "" if valid_host(self.host) else ""
        self.origin = self.header("origin").rstrip("/")
        self.secure = scope.get("scheme") in ("https", "wss") or self.header("x-forwarded-proto") == "https"

    def header(self, name: str) -> str:
        """A header's value; empty where it is not there."""
        return self.headers.get(name.encode(), b"").decode("latin-1")

    @property
    def cookies(self) -> dict[str, str]:
        """Cookies by name."""
        pairs = (part.strip().partition("=") for part in self.header("cookie").split(";"))
        return {name: value for name, _, value in pairs}


class Answer:
    """Sends with the guard's headers; knows whether an answer has begun."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send, self._headers, self._begun = send, headers, False
        self._refused = self._ended = False

    def refuse(self) -> None:
        """The request is too large: whatever the app makes of that, this is what is said."""
        self._refused = True

    async def too_large(self) -> None:
        """Say so."""
        self._refused = False
        await self.text(413, "This request is too large.")
        self._ended = True

    async def __call__(self, message: Message) -> None:
        """Pass on what the app sends."""
        if self._refused and not self._begun:
            return await self.too_large()
        if self._ended:
            return None
        if message["type"] == "http.response.start":
            self._begun = True
            theirs = list(message.get("headers", []))
            named = {name for name, _ in self._headers}
            kept = [(name, value) for name, value in theirs if name.lower() not in named]
            message = {**message, "headers": kept + self._headers}
        await self._send(message)

    async def text(self, status: int, words: str) -> None:
        """A plain sentence, unless an answer has begun."""
        await self._whole(status, words, b"text/plain; charset=utf-8", [])

    async def page(self, status: int, page: str) -> None:
        """A page of HTML."""
        await self._whole(status, page, b"text/html; charset=utf-8", [])

    async def redirect(self, target: str, cookie: str) -> None:
        """On to another address, with a cookie."""
        headers = [(b"location", target.encode("latin-1", "replace")), (b"set-cookie", cookie.encode())]
        await self._whole(303, "", b"text/plain", headers)

    async def _whole(self, status: int, body: str, kind: bytes, more: list[tuple[bytes, bytes]]) -> None:
        if self._begun:
            return
        headers = [(b"content-type", kind), (b"cache-control", b"no-store"), *more]
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body.encode()})


def same(one: str, other: str) -> bool:
    """Equal, in a time that tells nothing about where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def valid_host(host: str) -> bool:
    """Can be the value of a Host header."""
    return re.fullmatch(r"[\w.-]+(:\d+)?|\[[\da-fA-F:.]+\](:\d+)?", host) is not None


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


async def whole_body(receive: Receive) -> bytes:
    """All of a request's body."""
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
