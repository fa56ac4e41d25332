"""What compose.secured.yaml needs, made in our image: `files` before the servers start, `acls` after.

Each server and each service has a folder with its own certificate and settings, and mounts that one alone.
Rights are those of schemas/rights.py.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
import sys
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from schemas.rights import RIGHTS
from schemas.topics import Kind

FOLDER = Path("/var/lib/stepstream")
"""The volume is mounted where our image has a folder of its user's; later `/secured` is one folder of it."""
SERVERS = {name: (name, "localhost") for name in ("kafka-1", "kafka-2", "kafka-3", "postgres", "redis")}
DAYS = 365
BROKERS = "kafka-1:9092,kafka-2:9092,kafka-3:9092"
TLS = "sslmode=verify-full&sslrootcert=/secured/ca.crt&sslcert=/secured/tls.crt&sslkey=/secured/tls.key"
SETTINGS = """\
bootstrap_servers = "{brokers}"
database_url = "postgresql://{name}@postgres/stepstream?{tls}"
redis_url = "rediss://{name}:{password}@redis:6379/0?ssl_ca_certs=/secured/ca.crt"

[kafka]
security.protocol = "SSL"
ssl.ca.location = "/secured/ca.crt"
ssl.certificate.location = "/secured/tls.crt"
ssl.key.location = "/secured/tls.key"
"""
HBA = "local all all trust\nhostssl all all all cert\n"


def files() -> None:
    """An authority, a certificate for each, settings with generated passwords; once."""
    if (FOLDER / "done").exists():
        return
    authority = Authority()
    passwords = {name: secrets.token_urlsafe(24) for name in RIGHTS}
    for name, hosts in SERVERS.items():
        authority.issue(name, "kafka" if name.startswith("kafka") else name, hosts, mode=0o644)
    for name in RIGHTS:
        authority.issue(name, name, (), mode=0o600)
        text = SETTINGS.format(brokers=BROKERS, name=name, tls=TLS, password=passwords[name])
        _write(FOLDER / name / "stepstream.toml", text.encode(), 0o600)
    _write(FOLDER / "postgres" / "pg_hba.conf", HBA.encode(), 0o644)
    _write(FOLDER / "postgres" / "roles.sql", _roles().encode(), 0o644)
    _write(FOLDER / "redis" / "users.acl", _redis_users(passwords).encode(), 0o644)
    (FOLDER / "done").touch()


def _roles() -> str:
    """Each service's GRANTs, also on tables that `admin` makes later."""
    lines = ["REVOKE ALL ON DATABASE stepstream FROM PUBLIC;"]
    for name, rights in RIGHTS.items():
        if name == "admin" or not rights.tables:
            continue
        on_database = "CONNECT, TEMPORARY" if rights.temporary else "CONNECT"
        tables = ", ".join(rights.tables)
        lines += [
            f"CREATE ROLE {name} LOGIN;",
            f"GRANT {on_database} ON DATABASE stepstream TO {name};",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE admin GRANT {tables} ON TABLES TO {name};",
        ]
    return "\n".join([*lines, ""])


def _redis_users(passwords: dict[str, str]) -> str:
    lines = ["user default off", "user health on nopass resetkeys +ping"]
    for name, rights in RIGHTS.items():
        if rights.redis:
            commands = " ".join(f"+{command}" for command in rights.redis)
            lines.append(f"user {name} on >{passwords[name]} ~stepstream:* {commands}")
    return "\n".join([*lines, ""])


class Authority:
    """Signs the certificates of this installation."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stepstream compose")])
        self.certificate = self._signed(self._name, self._key, (), is_authority=True)

    def issue(self, folder: str, name: str, hosts: tuple[str, ...], *, mode: int) -> None:
        """ca.crt, tls.crt, tls.key, and the last two as one file, in a folder."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pem = serialization.Encoding.PEM
        plain = serialization.NoEncryption()
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
        public = self._signed(subject, key, hosts).public_bytes(pem)
        for file, content in (("tls.key", private), ("tls.crt", public), ("chain.pem", private + public)):
            _write(FOLDER / folder / file, content, mode)
        _write(FOLDER / folder / "ca.crt", self.certificate.public_bytes(pem), 0o644)

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        hosts: tuple[str, ...],
        *,
        is_authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=DAYS))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        # Python's strict checks want all three.
        own, issuer = key.public_key(), self._key.public_key()
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        made = made.add_extension(_usage(signs=is_authority), critical=True)
        if hosts:
            names = [*map(x509.DNSName, hosts), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return made.sign(self._key, hashes.SHA256())


def _usage(*, signs: bool) -> x509.KeyUsage:
    """To sign certificates, or to prove who one is."""
    unused = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("encipher_only", "decipher_only"),
        ),
        False,
    )
    return x509.KeyUsage(digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, **unused)


def _write(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.parent.chmod(0o755)
    path.write_bytes(content)
    path.chmod(mode)


def acls() -> None:
    """Each service's rights on topics and groups, given by the brokers' own user."""
    admin = AdminClient(
        {
            "bootstrap.servers": BROKERS,
            "security.protocol": "SSL",
            "ssl.ca.location": "/secured/ca.crt",
            "ssl.certificate.location": "/secured/tls.crt",
            "ssl.key.location": "/secured/tls.key",
        }
    )
    for future in admin.create_acls(bindings()).values():
        future.result(30)


def bindings() -> list[AclBinding]:
    """Literal names alone, one binding for each operation."""
    found = []
    for name, rights in RIGHTS.items():
        for kind in Kind:
            for operation in sorted(rights.topics.get(kind, ())):
                found.append(_allow(name, ResourceType.TOPIC, kind.topic("telemetry."), operation))
        if rights.group:
            found.append(_allow(name, ResourceType.GROUP, f"stepstream.{rights.group}", "READ"))
    return found


def _allow(user: str, kind: ResourceType, name: str, operation: str) -> AclBinding:
    allowed = AclPermissionType.ALLOW
    literal = ResourcePatternType.LITERAL
    return AclBinding(kind, name, literal, f"User:{user}", "*", AclOperation[operation], allowed)


if __name__ == "__main__":
    {"files": files, "acls": acls}[sys.argv[1]]()
