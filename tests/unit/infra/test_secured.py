"""The secured compose variant gives each service the rights in the table and its own certificate."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest
from cryptography import x509

from infra.deploy.compose import secured
from infra.settings import load
from schemas.rights import RIGHTS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the files once and return their folder."""
    monkeypatch.setattr(secured, "FOLDER", tmp_path)
    secured.files()
    return tmp_path


@pytest.mark.parametrize("service", RIGHTS)
def test_each_service_has_files_of_its_own(service: str, folder: Path) -> None:
    """Each service has readable settings, a certificate under its name, and files private to it."""
    own = folder / service
    tables = tomllib.loads((own / "stepstream.toml").read_text())
    settings = load({"STEPSTREAM_CONFIG": str(own / "stepstream.toml")})
    assert settings.kafka["ssl.key.location"] == "/secured/tls.key"
    assert tables["database_url"].startswith(f"postgresql://{service}@postgres/")
    certificate = x509.load_pem_x509_certificate((own / "tls.crt").read_bytes())
    authority = x509.load_pem_x509_certificate((own / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert certificate.subject.rfc4514_string() == f"CN={service}"
    for file in ("tls.key", "stepstream.toml"):
        assert stat.S_IMODE(os.stat(own / file).st_mode) == 0o600


def test_a_second_start_makes_nothing_anew(folder: Path) -> None:
    """A second start keeps the passwords and certificates."""
    before = (folder / "live" / "stepstream.toml").read_text()
    secured.files()
    assert (folder / "live" / "stepstream.toml").read_text() == before


def test_rights_are_those_of_the_table(folder: Path) -> None:
    """Kafka, PostgreSQL and Redis grant each service the rights in the table."""
    granted: dict[str, set[tuple[str, str]]] = {}
    for binding in secured.bindings():
        rule = (binding.name, binding.operation.name)
        granted.setdefault(binding.principal.removeprefix("User:"), set()).add(rule)
    for service, rights in RIGHTS.items():
        topics = {(kind.topic("telemetry."), name) for kind, names in rights.topics.items() for name in names}
        group = {(f"stepstream.{rights.group}", "READ")} if rights.group else set()
        assert granted[service] == topics | group
    roles = (folder / "postgres" / "roles.sql").read_text()
    assert "GRANT CONNECT, TEMPORARY ON DATABASE stepstream TO persist;" in roles
    assert "GRANT SELECT ON TABLES TO dashboard;" in roles
    assert "live" not in roles
    users = dict(line.split(" ", 2)[1:] for line in (folder / "redis" / "users.acl").read_text().splitlines())
    assert users["default"] == "off"
    assert users["dashboard"].split()[3:] == [f"+{command}" for command in RIGHTS["dashboard"].redis]
    assert users.keys() == {"default", "health", "live", "dashboard", "admin"}
