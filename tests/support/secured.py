"""A Kafka as a company runs it: TLS, logins and access rules; and listeners with a certificate at fault."""

from __future__ import annotations

import base64
import subprocess
import time
import uuid
from contextlib import suppress
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from infra.embedded import ports, process
from infra.embedded.kafka import NODE, java_command
from tests.support.certificates import Authority
from tests.support.issuer import AUDIENCE, SECRET, Issuer
from tests.support.processes import wait_for

LISTENERS = ("ADMIN", "SCRAM", "PLAIN", "MTLS", "EXPIRED", "OTHERHOST", "OAUTH")
PASSWORD = "pa55word-of-"
_API_VERSIONS = bytes.fromhex("0000000a0012000000000001ffff")

Rule = tuple[ResourceType, str, AclOperation]


class SecuredKafka:
    """One broker with the StandardAuthorizer. Clients of the listener ADMIN may do everything."""

    def __init__(self, folder: Path, jars: list[Path]) -> None:
        self._folder, self._jars = folder, jars
        self.issuer = Issuer()
        self.authority = Authority(folder)
        self.other_authority = Authority(folder, "stranger")
        found = ports.free_ports([None] * (len(LISTENERS) + 1))
        self._controller = found.pop()
        self._ports = dict(zip(LISTENERS, found, strict=True))
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: AdminClient | None = None

    def address(self, listener: str) -> str:
        """The address of a listener as host:port."""
        return f"{ports.LOOPBACK}:{self._ports[listener]}"

    @property
    def admin(self) -> AdminClient:
        """A client that may do everything."""
        self._admin = self._admin or AdminClient({"bootstrap.servers": self.address("ADMIN")})
        return self._admin

    def login(self, user: str, listener: str = "SCRAM", password: str | None = None) -> dict[str, str]:
        """The settings that an operator gives to a service which logs in as this user."""
        mechanism = "PLAIN" if listener == "PLAIN" else "SCRAM-SHA-512"
        return self._tls(listener) | {
            "STEPSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "STEPSTREAM_KAFKA_SASL_MECHANISM": mechanism,
            "STEPSTREAM_KAFKA_SASL_USERNAME": user,
            "STEPSTREAM_KAFKA_SASL_PASSWORD": password or PASSWORD + user,
        }

    def client(self, name: str, secret: str | None = None) -> dict[str, str]:
        """The settings of a service that shows a token of the OpenID Connect issuer."""
        return self._tls("OAUTH") | {
            "STEPSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "STEPSTREAM_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
            "STEPSTREAM_KAFKA_SASL_OAUTHBEARER_METHOD": "oidc",
            "STEPSTREAM_KAFKA_SASL_OAUTHBEARER_CLIENT_ID": name,
            "STEPSTREAM_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": secret or SECRET + name,
            "STEPSTREAM_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": f"{self.issuer.url}/token",
        }

    def certificate(self, files: tuple[Path, Path] | None) -> dict[str, str]:
        """The settings of a service that shows a certificate instead."""
        settings = self._tls("MTLS") | {"STEPSTREAM_KAFKA_SECURITY_PROTOCOL": "SSL"}
        if files is not None:
            settings["STEPSTREAM_KAFKA_SSL_CERTIFICATE_LOCATION"] = str(files[0])
            settings["STEPSTREAM_KAFKA_SSL_KEY_LOCATION"] = str(files[1])
        return settings

    def _tls(self, listener: str) -> dict[str, str]:
        return {
            "STEPSTREAM_BOOTSTRAP_SERVERS": self.address(listener),
            "STEPSTREAM_KAFKA_SSL_CA_LOCATION": str(self.authority.ca),
        }

    def add_user(self, user: str) -> None:
        """Add a SCRAM user without rights; retry, as a new broker may drop the first connection."""
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(user, credential, (PASSWORD + user).encode())

        def added() -> bool:
            with suppress(KafkaException):
                self.admin.alter_user_scram_credentials([change])[user].result(20)
                return True
            return False

        wait_for(added, 60, f"Kafka does not take the user {user}")

    def grant(self, user: str, *rules: Rule) -> None:
        """Give rights to a user; names are prefixes."""
        for future in self.admin.create_acls([_allow(user, rule) for rule in rules]).values():
            future.result(20)

    def revoke(self, user: str, *rules: Rule) -> None:
        """Take rights from a user; without rules, all of them."""
        found = [_filter(user, rule) for rule in rules] or [_filter(user, None)]
        for future in self.admin.delete_acls(found).values():
            future.result(20)

    def start(self) -> None:
        """Start the broker and wait until it answers."""
        self._format()
        with (self._folder / "log").open("wb") as log:
            allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.issuer.url}/jwks"
            arguments = ("256m", "kafka.Kafka", str(self._properties))
            command = java_command(self._jars, *arguments, java_flags=[allowed])
            self._process = process.spawn(command, output=log)
        deadline = time.monotonic() + 120
        while not ports.answers(self._ports["ADMIN"], _API_VERSIONS, prefix=b"\0\0"):
            log_text = (self._folder / "log").read_text()[-3000:]
            assert self._process.poll() is None, log_text
            assert time.monotonic() < deadline, log_text
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the broker and the issuer."""
        if self._process is not None:
            process.end(self._process)
        self.issuer.stop()

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        known = dict(line.split("=", 1) for line in NODE.splitlines()) | self._settings()
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in known.items()))
        arguments = ["format", "--cluster-id", cluster, "--config", str(self._properties)]
        command = java_command(self._jars, "256m", "kafka.tools.StorageTool", *arguments)
        subprocess.run(command, check=True, capture_output=True)

    def _settings(self) -> dict[str, str]:
        at = {name: f"{name}://{self.address(name)}" for name in LISTENERS}
        plain_users = " ".join(f'user_{name}="{PASSWORD}{name}"' for name in ("admin", "worker"))
        login = "org.apache.kafka.common.security"
        settings = {
            "listeners": ",".join([*at.values(), f"CONTROLLER://{ports.LOOPBACK}:{self._controller}"]),
            "advertised.listeners": ",".join(at.values()),
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,ADMIN:PLAINTEXT,SCRAM:SASL_SSL,"
            "PLAIN:SASL_SSL,MTLS:SSL,EXPIRED:SASL_SSL,OTHERHOST:SASL_SSL,OAUTH:SASL_SSL",
            "inter.broker.listener.name": "ADMIN",
            "controller.quorum.voters": f"1@{ports.LOOPBACK}:{self._controller}",
            "log.dirs": str(self._folder / "data"),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:admin",
            "message.max.bytes": "1048588",
            "listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.plain.plain.sasl.jaas.config": (
                f"{login}.plain.PlainLoginModule required {plain_users};"
            ),
            "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
            "listener.name.oauth.oauthbearer.sasl.jaas.config": (
                f"{login}.oauthbearer.OAuthBearerLoginModule required;"
            ),
            "listener.name.oauth.oauthbearer.sasl.server.callback.handler.class": (
                f"{login}.oauthbearer.OAuthBearerValidatorCallbackHandler"
            ),
            "listener.name.oauth.sasl.oauthbearer.jwks.endpoint.url": f"{self.issuer.url}/jwks",
            "listener.name.oauth.sasl.oauthbearer.expected.audience": AUDIENCE,
            "listener.name.oauth.sasl.oauthbearer.expected.issuer": self.issuer.url,
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.mtls.ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
        }
        for name in ("scram", "expired", "otherhost"):
            settings[f"listener.name.{name}.sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
            settings[f"listener.name.{name}.scram-sha-512.sasl.jaas.config"] = (
                f"{login}.scram.ScramLoginModule required;"
            )
        sound = self.authority.issue("broker")
        shown = dict.fromkeys(("scram", "plain", "mtls", "oauth"), sound)
        shown["expired"] = self.authority.issue("broker", expired=True)
        shown["otherhost"] = self.authority.issue("elsewhere", host="elsewhere.example")
        for name, files in shown.items():
            settings |= _stores(f"listener.name.{name}.", self._chain(name, files), self.authority.ca)
        return settings

    def _chain(self, name: str, files: tuple[Path, Path]) -> Path:
        """Join key and certificate, as Kafka wants both in one file."""
        chain = self._folder / f"{name}-chain.pem"
        chain.write_bytes(files[1].read_bytes() + files[0].read_bytes())
        return chain


def _stores(prefix: str, chain: Path, ca: Path) -> dict[str, str]:
    return {
        f"{prefix}ssl.keystore.type": "PEM",
        f"{prefix}ssl.keystore.location": str(chain),
        f"{prefix}ssl.truststore.type": "PEM",
        f"{prefix}ssl.truststore.location": str(ca),
    }


def _allow(user: str, rule: Rule) -> AclBinding:
    kind, name, operation = rule
    pattern = ResourcePatternType.LITERAL if kind is ResourceType.BROKER else ResourcePatternType.PREFIXED
    return AclBinding(kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)


def _filter(user: str, rule: Rule | None) -> AclBindingFilter:
    kind, name, operation = rule or (ResourceType.ANY, None, AclOperation.ANY)
    pattern = ResourcePatternType.ANY
    return AclBindingFilter(kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
