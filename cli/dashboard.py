"""`stepstream dashboard`: the web page, one process; run as many as you like."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from dataclasses import replace

import click
import uvicorn

from dashboard import app
from infra import log, metrics, settings
from infra.redis import client as redis
from infra.sql import engine as sql
from infra.sql import migrations
from schemas.errors import StepstreamError, UsageError

SWITCH_S = 0.0005
"""What is live waits so long for a thread that reads history; Python's own 5 ms are a third of a frame."""
PROBED_EVERY_S = 5.0
"""Seconds between two checks of Redis and SQL by probes."""


@click.command(short_help="Service: the web page.")
@click.option("--host", help="Address to bind to; default: the setting dashboard_host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0: a free one.")
def dashboard(host: str | None, port: int | None) -> None:
    """Serve the web page, until it is ended."""
    found = settings.load()
    logger = log.configure(found, "dashboard")
    host = host or found.dashboard_host
    found = replace(found, dashboard_host=host)  # the access to the page depends on it
    listening = _listen(host, found.dashboard_port if port is None else port)
    engine = sql.engine(found)
    address, taken = listening.getsockname()[:2]
    logger.info("dashboard_serves", url=f"http://{f'[{address}]' if ':' in address else address}:{taken}")
    checks = {
        "redis": metrics.cached(PROBED_EVERY_S, lambda: redis.check(found)),
        "sql": metrics.cached(PROBED_EVERY_S, lambda: migrations.check(engine)),
    }
    health = metrics.Health("dashboard", checks, beats=False)
    config = uvicorn.Config(
        app.create(found, health),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
        ws_max_size=64 * 1024,
        ws_per_message_deflate=False,  # deltas are small and many: compression costs more than it saves
        server_header=False,
    )
    health.serve(found)
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # Freeze the heap: a full collection would hold up every page for 0.1 s
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn closes what is open, and raises it again
        signal.signal(number, lambda *_: sys.exit())
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """The socket, bound first, so that a port in use is reported at once."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(256)
    except socket.gaierror as error:
        raise UsageError(f"{host} is no address of this machine: {error.strerror}.") from None
    except OSError as error:
        raise StepstreamError(
            f"The dashboard cannot listen on {host}:{port} ({error.strerror}): is one running already? "
            "Another port: --port, or STEPSTREAM_DASHBOARD_PORT."
        ) from None
    return made
