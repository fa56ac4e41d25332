"""A proxy in front of an HTTP server that wants TLS, a login or a client certificate."""

from __future__ import annotations

import base64
import http.server
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate of `localhost` that signs itself, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*request, *names, *files], check=True, capture_output=True)
    return certificate, key


@contextmanager
def guarded(
    target: str, server: tuple[Path, Path], client_ca: Path, user: str, password: str
) -> Iterator[str]:
    """Serve https://localhost:PORT, which forwards requests with certificate and login to `target`."""
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            if self.headers.get("Authorization") != expected:
                return self._answer(401, b'{"error_code": 40101, "message": "Unauthorized"}')
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            kind = self.headers.get("Content-Type") or "application/json"
            request = urllib.request.Request(target + self.path, body, method=self.command)
            request.add_header("Content-Type", kind)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    self._answer(answer.status, answer.read())
            except urllib.error.HTTPError as error:
                self._answer(error.code, error.read())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _pass_on  # noqa: N815 - the library's names

        def log_message(self, *_: Any) -> None:
            """Log nothing: the test's output stays readable."""

    gate = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(client_ca))
    context.load_cert_chain(*server)
    context.verify_mode = ssl.CERT_REQUIRED
    gate.socket = context.wrap_socket(gate.socket, server_side=True)
    threading.Thread(target=gate.serve_forever, daemon=True).start()
    try:
        yield f"https://localhost:{gate.server_address[1]}"
    finally:
        gate.shutdown()
        gate.server_close()
