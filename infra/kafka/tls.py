"""Why TLS with a broker fails: librdkafka does not report the reason."""

from __future__ import annotations

import contextlib
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

from infra.settings import Settings

ANSWER_S = 2.0
"""Time-out of the handshake."""
_EXPIRED, _NOT_YET = 10, 9
_OTHER_HOST = (62, 64)
CA, CERTIFICATE, PROTOCOL = (
    f"STEPSTREAM_KAFKA_{name}"
    for name in ("SSL_CA_LOCATION", "SSL_CERTIFICATE_LOCATION", "SECURITY_PROTOCOL")
)


def explained(settings: Settings, where: str, words: str) -> str:
    """A sentence where TLS is the cause; empty where it is not.

    Args:
        settings: certificates and protocol.
        where: host:port of a broker; of several, separated by commas, the first is tried.
        words: librdkafka's message.
    """
    where = where.split(",", maxsplit=1)[0]
    if "certificate verify failed" in words:
        return _not_accepted(settings, where)
    if "alert certificate required" in words:
        return (
            f"Kafka at {where} asks for a client certificate and was shown none that it trusts: check "
            f"{CERTIFICATE}, and that the brokers trust the authority that signed it."
        )
    if "alert" in words and ("certificate" in words or "unknown ca" in words):
        return _ours_refused(settings, where, words)
    if _are_plaintext(words) or ("SSL connection closed by peer" in words and _speaks_tls(where) is False):
        return f"Kafka at {where} speaks no TLS on this port: check {PROTOCOL} and the port."
    if "SSL" not in settings.kafka.get("security.protocol", "").upper() and _speaks_tls(where):
        return f"Kafka at {where} speaks TLS on this port: set {PROTOCOL} to SSL or SASL_SSL."
    return ""


def _are_plaintext(words: str) -> bool:
    return "PLAINTEXT broker listener" in words or "wrong version number" in words


def _not_accepted(settings: Settings, where: str) -> str:
    authorities = settings.kafka.get("ssl.ca.location", "")
    context = ssl.create_default_context(cafile=authorities or None)
    code, words = 0, ""
    try:
        _shake_hands(where, context)
    except ssl.SSLCertVerificationError as error:
        code, words = error.verify_code, error.verify_message
    except OSError as error:
        words = str(error)
    shown = f"The certificate of Kafka at {where}"
    if code == _EXPIRED:
        return f"{shown} has expired: the brokers need a new one."
    if code == _NOT_YET:
        return f"{shown} is not valid yet: check the clocks of this machine and of the broker."
    if code in _OTHER_HOST:
        return (
            f"{shown} is for another host name ({words.rstrip('.')}): put the name that it has into "
            "STEPSTREAM_BOOTSTRAP_SERVERS and the brokers' advertised.listeners, or give the brokers one for "
            "this name."
        )
    known = f"known in {authorities}" if authorities else "that this machine knows"
    return f"{shown} is of no authority {known} ({words or 'verify failed'}): check {CA}."


def _ours_refused(settings: Settings, where: str, words: str) -> str:
    from cryptography import x509  # noqa: PLC0415 - slow to import, and seldom needed

    file = settings.kafka.get("ssl.certificate.location", "")
    with contextlib.suppress(OSError, ValueError):
        ends = x509.load_pem_x509_certificate(Path(file).read_bytes()).not_valid_after_utc
        if ends < datetime.now(UTC):
            return f"Our certificate {file} has expired on {ends:%Y-%m-%d}: Kafka at {where} wants a new one."
    return (
        f"Kafka at {where} refused our certificate {file} ({words.rsplit('::', 1)[-1]}): check "
        f"{CERTIFICATE}, and that the brokers trust the authority that signed it."
    )


def _speaks_tls(where: str) -> bool | None:
    """None: nobody answers there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with _connected(where):
            pass
    except (OSError, ValueError):
        return None
    try:
        _shake_hands(where, context)
    except OSError:
        return False
    return True


def _shake_hands(where: str, context: ssl.SSLContext) -> None:
    with _connected(where) as connection:
        host = where.rpartition(":")[0].strip("[]")
        context.wrap_socket(connection, server_hostname=host).close()


def _connected(where: str) -> socket.socket:
    host, _, port = where.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), ANSWER_S)
