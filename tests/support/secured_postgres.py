"""A PostgreSQL as a company runs it: TLS, passwords, client certificates, users with few rights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.support.certificates import Authority
from tests.support.postgres import PostgresServer

PASSWORD = "pa55word-of-"
_ACCESS = """
host    all postgres 127.0.0.1/32 trust
hostssl all shown    127.0.0.1/32 cert
hostssl all all      127.0.0.1/32 scram-sha-256
"""


class SecuredPostgres(PostgresServer):
    """The user `shown` logs in by a certificate, the others by a password; both only over TLS."""

    def __init__(self, certificates: Path) -> None:
        super().__init__(
            ssl="on",
            ssl_cert_file="server.crt",
            ssl_key_file="server.key",
            ssl_ca_file="ca.crt",
            log_statement="none",
        )
        certificates.mkdir(exist_ok=True)
        self.authority = Authority(certificates)
        self.other_authority = Authority(certificates, "stranger")

    def prepare(self, data: Path) -> None:
        """Copy the certificates, and write which user may log in how."""
        sources = (self.authority.ca, *self.authority.issue("server"))
        for source, name in zip(sources, ("ca.crt", "server.crt", "server.key"), strict=True):
            shutil.copy(source, data / name)
            os.chmod(data / name, 0o600)
            if os.getuid() == 0:
                os.chown(data / name, 65534, 65534)
        (data / "pg_hba.conf").write_text(_ACCESS)

    def login(self, user: str, database: str, *, password: str | None = None, **more: object) -> str:
        """The URL that an operator sets: verify-full, with a password unless a certificate is named."""
        options = {"sslmode": "verify-full", "sslrootcert": self.authority.ca} | more
        secret = "" if "sslcert" in options else f":{password or PASSWORD + user}"
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}?{query}"

    def add_user(self, user: str, database: str, tables: Sequence[str], *, temporary: bool = False) -> None:
        """Add a user with these rights on every table of the database."""
        self.sql(f"DROP ROLE IF EXISTS {user}")
        self.sql(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}{user}'")
        self.sql(f"GRANT CONNECT{', TEMPORARY' if temporary else ''} ON DATABASE {database} TO {user}")
        if tables:
            self.sql(f"GRANT {', '.join(tables)} ON ALL TABLES IN SCHEMA public TO {user}", database)
