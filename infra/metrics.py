"""Pages for Prometheus and Kubernetes: /metrics, /livez and /readyz on a port of the service.

Names follow Prometheus' conventions. Values are set once for each batch, or computed on request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from infra.settings import Settings
from schemas.errors import StepstreamError

WEDGED_S = 120.0
"""Seconds without a turn of the loop after which a service is not alive."""
NOT_YET = "not reached yet"
"""The reason before the first answer of a server."""
LABEL = "service"

RECORDS = Counter(
    "stepstream_records", "Records that a service handled, by what became of them.", [LABEL, "outcome"]
)
BATCH_SECONDS = Histogram("stepstream_batch_seconds", "Time to store or acknowledge one batch.", [LABEL])
BATCH_RECORDS = Histogram(
    "stepstream_batch_records",
    "Records of one batch.",
    [LABEL],
    buckets=(1, 10, 100, 500, 1000, 2500, 5000, 10_000, 50_000),
)
DEAD_LETTERS = Counter("stepstream_dead_letters", "Records that became dead letters.", [LABEL, "reason"])
SKIPPED = Counter("stepstream_skipped_records", "Records that the live path jumped over.")
LAG_RECORDS = Gauge(
    "stepstream_lag_records", "Records on Kafka that a service has not handled.", [LABEL, "topic"]
)
LAG_SECONDS = Gauge(
    "stepstream_lag_seconds", "Age of the newest record handled, where more wait; else 0.", [LABEL]
)
CANARY_SECONDS = Histogram(
    "stepstream_canary_seconds",
    "Time from sending a run's heartbeat to Kafka until a service has written it.",
    [LABEL],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)
VIEWERS = Gauge("stepstream_viewers", "Pages that are open on this dashboard.")
PUSH_SECONDS = Histogram(
    "stepstream_push_seconds",
    "Time from sending a page what is new until it has painted it.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
BUILD = Info("stepstream_build", "Version of this program.")

Check = Callable[[], str]
"""Returns why a server cannot be used now; empty: it can."""


class Health:
    """Whether a service is alive and ready, and the server of its three pages.

    Args:
        service: its name.
        checks: server (kafka, sql, redis) → its check; called from another thread.
        beats: whether the service calls `beat` in its loop.
    """

    def __init__(self, service: str, checks: Mapping[str, Check], *, beats: bool = True) -> None:
        self.service = service
        self._checks = checks
        self._beats = beats
        self._beat_at = time.monotonic()
        self._server: ThreadingHTTPServer | None = None

    def beat(self) -> None:
        """Called by the service at each turn of its loop."""
        self._beat_at = time.monotonic()

    def lives(self) -> bool:
        """Whether the loop had a turn lately."""
        return not self._beats or time.monotonic() - self._beat_at < WEDGED_S

    def reasons(self) -> dict[str, str]:
        """Server → why it cannot be used; empty: it can."""
        return {server: check() for server, check in self._checks.items()}

    def serve(self, settings: Settings) -> int:
        """Serve on the port of the settings, in threads; returns the port, 0: none.

        Raises:
            StepstreamError: the port is taken.
        """
        BUILD.info({"version": version("stepstream-server")})
        REGISTRY.register(_Servers(self))
        if settings.metrics_port == 0:
            return 0
        address = (settings.metrics_host, settings.metrics_port)
        try:
            self._server = ThreadingHTTPServer(address, _handler(self))
        except OSError as error:
            raise StepstreamError(
                f"Metrics cannot be served on {address[0]}:{address[1]} ({error.strerror}): set "
                "STEPSTREAM_METRICS_PORT to a free port, or to 0 for none."
            ) from error
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        return int(self._server.server_port)

    def page(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body of a page."""
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest()
        if path == "/livez":
            return _answer("" if self.lives() else f"the loop stands still for more than {WEDGED_S:.0f} s")
        if path == "/readyz":
            found = {server: reason for server, reason in self.reasons().items() if reason}
            return _answer("\n".join(f"{server}: {reason}" for server, reason in found.items()))
        return HTTPStatus.NOT_FOUND, "text/plain", b"/metrics, /livez, /readyz\n"


def _answer(reason: str) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
    return status, "text/plain; charset=utf-8", f"{reason or 'ok'}\n".encode()


class _Servers(Collector):
    """Collects which servers can be used, on request."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "stepstream_server_up", "Whether a server can be used.", labels=[LABEL, "server"]
        )
        for server, reason in self._health.reasons().items():
            family.add_metric([self._health.service, server], 0.0 if reason else 1.0)
        yield family

    def describe(self) -> list[Metric]:
        return []


def heartbeats(service: str, sent_ms: Iterable[int]) -> None:
    """A service has written heartbeats and other events of runs, which were sent to Kafka at these times."""
    now = time.time()
    for sent in sent_ms:
        CANARY_SECONDS.labels(service).observe(max(now - sent / 1000, 0.0))


def on_scrape(name: str, text: str, value: Callable[[], float]) -> None:
    """Sets a gauge's value on request."""
    Gauge(name, text).set_function(value)


def cached(seconds: float, ask: Callable[[], object]) -> Check:
    """A check that calls a server at most every `seconds`; our error's message is the reason."""
    lock, found = threading.Lock(), [(float("-inf"), "")]

    def check() -> str:
        with lock:
            if time.monotonic() - found[0][0] >= seconds:
                try:
                    ask()
                    reason = ""
                except StepstreamError as error:
                    reason = str(error)
                found[0] = (time.monotonic(), reason)
            return found[0][1]

    return check


def _handler(health: Health) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """The three pages."""

        def do_GET(self) -> None:
            """Answer a request."""
            status, kind, body = health.page(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log no requests: there is a probe every few seconds."""

    return Handler
