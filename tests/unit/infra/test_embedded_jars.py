"""Kafka's jars are pinned, checked and fetched again, and an error explains why one cannot be fetched."""

from __future__ import annotations

import functools
import hashlib
import http.server
import socket
import threading
from pathlib import Path

import pytest

from infra.embedded import jars
from schemas.errors import StepstreamError, UsageError


def _jar(content: bytes, artifact: str = "a") -> jars.Jar:
    return jars.Jar("g", artifact, "1", hashlib.sha256(content).hexdigest(), len(content))


def test_the_pinned_list_is_complete_and_named_apart() -> None:
    """The list holds Kafka and a log binding; file names are unique; each checksum is a SHA-256."""
    listed = jars.pinned()
    names = [jar.filename for jar in listed]
    assert len(set(names)) == len(names)
    assert {"kafka_2.13-4.3.1.jar", "slf4j-simple-2.0.17.jar"} <= set(names)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in listed)


@pytest.mark.parametrize("damage", [b"", b"cut", b"other bytes", None])
def test_a_damaged_or_absent_jar_is_not_whole(tmp_path: Path, damage: bytes | None) -> None:
    """A jar that is cut, empty, changed or absent is found not to be whole."""
    jar = _jar(b"right bytes")
    path = tmp_path / jar.filename
    path.write_bytes(b"right bytes")
    assert jar.is_whole(path)
    path.unlink() if damage is None else path.write_bytes(damage)
    assert not jar.is_whole(path)


def test_missing_names_what_has_to_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three jars, the absent and the damaged one are missing."""
    listed = [_jar(b"1", "one"), _jar(b"2", "two"), _jar(b"3", "three")]
    monkeypatch.setattr(jars, "pinned", lambda: listed)
    (tmp_path / "one-1.jar").write_bytes(b"1")
    (tmp_path / "two-1.jar").write_bytes(b"x")
    assert [jar.artifact for jar in jars.missing(tmp_path)] == ["two", "three"]


def test_a_folder_without_kafka_is_refused_with_what_to_name_instead(tmp_path: Path) -> None:
    """A folder without Kafka's jars is refused, and the error says which folder to name."""
    with pytest.raises(UsageError, match="libs folder of an unpacked Apache Kafka"):
        jars.given(tmp_path)


def test_a_given_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    """All jars of a given folder are used, in a fixed order, and none is fetched."""
    for name in ("kafka_2.13-9.jar", "b.jar", "a.jar", "notes.txt"):
        (tmp_path / name).touch()
    found = jars.class_path(tmp_path)
    assert [path.name for path in found] == ["a.jar", "b.jar", "kafka_2.13-9.jar"]


def test_without_a_network_it_says_what_else_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, one sentence names the cause and two settings, and no file is left."""

    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(StepstreamError) as caught:
        jars.fetch(tmp_path, jars.pinned()[:3])
    sentence = str(caught.value)
    assert "name resolution" in sentence
    assert "STEPSTREAM_BOOTSTRAP_SERVERS" in sentence
    assert "STEPSTREAM_JARS_DIR" in sentence
    assert "\n" not in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with another checksum is refused and deleted."""
    from jgo.maven import PythonResolver

    def download(_self: object, artifact: object) -> Path:
        path = Path(str(artifact.cached_path))  # type: ignore[attr-defined]
        path.parent.mkdir(parents=True)
        path.write_bytes(b"<html>please log in</html>")
        return path

    monkeypatch.setattr(PythonResolver, "download", download)
    with pytest.raises(StepstreamError, match="arrived damaged"):
        jars.fetch(tmp_path, jars.pinned()[:1])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that no longer fits ends with one sentence and an empty cache."""
    from jgo.maven import PythonResolver

    def download(_self: object, artifact: object) -> Path:
        path = Path(str(artifact.cached_path))  # type: ignore[attr-defined]
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 4 * 1024 * 1024)
        return path

    monkeypatch.setattr(PythonResolver, "download", download)
    with pytest.raises(StepstreamError, match="disk is full"):
        jars.fetch(tiny_disk, jars.pinned()[:1])
    assert list(tiny_disk.iterdir()) == []


def test_a_mirror_is_asked_instead_of_maven_central(tmp_path: Path) -> None:
    """If a mirror is set, jars come only from it and are checked in the same way."""
    jar = jars.Jar("org.example", "thing", "1", hashlib.sha256(b"whole").hexdigest(), 5)
    served = tmp_path / "mirror" / "org/example/thing/1"
    served.mkdir(parents=True)
    (served / "thing-1.jar").write_bytes(b"whole")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "mirror"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        arrived: list[tuple[int, int]] = []
        url = f"http://127.0.0.1:{server.server_port}/"
        jars.fetch(tmp_path / "cache", [jar], lambda new, total: arrived.append((new, total)), url)
        server.shutdown()
    assert jar.is_whole(tmp_path / "cache" / "thing-1.jar")
    assert arrived == [(5, 5)]
