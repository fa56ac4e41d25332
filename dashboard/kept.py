"""Scripts and styles, made once for all visits.

Dash reads and compresses each script again for each visit: a tenth of a second and more in which nothing else
is pushed.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS = ("/_dash-component-suites/", "/static/")
"""What never changes while the server runs. Only files are answered there, so that few are kept."""

PARTS = ("range", "if-none-match", "if-modified-since")
"""Headers that ask for less than the whole."""


class Kept:
    """ASGI middleware: `Kept(app)` keeps what `app` answers at `PATHS`, compressed and not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: dict[tuple[str, bool], list[Message]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with what is kept, or keep the answer."""
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(PATHS):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if scope["query_string"] or any(name in headers for name in PARTS):
            return await self._app(scope, receive, send)
        key = (scope["path"], "gzip" in headers.get("accept-encoding", ""))
        if key not in self._kept:
            made: list[Message] = []

            async def keep(message: Message) -> None:
                made.append(_copy(message))
                last = message["type"] == "http.response.body" and not message.get("more_body")
                if last and made[0]["status"] == 200:
                    self._kept[key] = made
                await send(message)

            return await self._app(scope, receive, keep)
        for message in self._kept[key]:
            await send(_copy(message))


def _copy(message: Message) -> Message:
    """Its own headers: others add to them on their way."""
    return {**message, "headers": list(message["headers"])} if "headers" in message else dict(message)
