"""A small OpenID Connect issuer: the token endpoint for client credentials, and the keys that sign (JWKS)."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AUDIENCE = "kafka"
SECRET = "s3cret-of-"


class Issuer:
    """Knows every client whose secret is `SECRET` and its name. A token lives for `lifetime_s`."""

    def __init__(self, lifetime_s: float = 300.0) -> None:
        self.lifetime_s = lifetime_s
        self.issued: list[str] = []
        self._key = rsa.generate_private_key(65537, 2048)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()

    def keys(self) -> dict[str, object]:
        """The public key as JWKS."""
        public = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256"}
        return {"keys": [key | {"n": _number(public.n), "e": _number(public.e)}]}

    def token(self, client: str) -> str:
        """A signed token for that client."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": client,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + int(self.lifetime_s),
        }
        signed = ".".join(_part(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, claims))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        self.issued.append(client)
        return f"{signed}.{_part(signature)}"


def _handler(issuer: Issuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers /jwks and /token."""

        def do_GET(self) -> None:
            """Send the public keys."""
            self._answer(200, issuer.keys())

        def do_POST(self) -> None:
            """Issue a token to a client that knows the secret."""
            self.rfile.read(int(self.headers["Content-Length"]))
            name, _, given = (
                base64.b64decode(self.headers["Authorization"].split()[1]).decode().partition(":")
            )
            if given != SECRET + name:
                return self._answer(401, {"error": "invalid_client"})
            told = {"access_token": issuer.token(name), "token_type": "Bearer"}
            return self._answer(200, told | {"expires_in": int(issuer.lifetime_s)})

        def _answer(self, status: int, told: Mapping[str, object]) -> None:
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: stderr stays readable."""

    return Handler


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _number(value: int) -> str:
    return _part(value.to_bytes((value.bit_length() + 7) // 8, "big"))
