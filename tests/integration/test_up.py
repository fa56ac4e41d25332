"""`stepstream up` starts the whole stack, is found by other shells, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infra.embedded import jars, ports
from tests.support.processes import runs, wait_for, wait_until_gone

Spawn = Callable[..., subprocess.Popen[bytes]]
Run = Callable[..., subprocess.CompletedProcess[str]]


def _said(child: subprocess.Popen[bytes]) -> str:
    return Path(child.log).read_text()  # type: ignore[attr-defined]


def _url(child: subprocess.Popen[bytes]) -> str:
    """Wait until `up` has printed where the dashboard is."""

    def printed() -> re.Match[str] | None:
        assert child.poll() is None, _said(child)
        return re.search(r"Dashboard\s+(http://\S+)", _said(child))

    wait_for(printed, 90, "no URL was printed")
    found = printed()
    assert found is not None
    return found[1]


def _children(child: subprocess.Popen[bytes]) -> dict[str, int]:
    """The ids of the processes below `up`, by name."""
    found = {}
    for process in psutil.Process(child.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # the process has just ended
            line = process.cmdline() or ["ending"]
            named = [name for name in ("kafka.Kafka", "valkey-server") if any(name in word for word in line)]
            found[named[0] if named else line[-1]] = process.pid
    return found


@pytest.fixture
def up(spawn_cli: Spawn) -> subprocess.Popen[bytes]:
    """A running `up` on a free port."""
    return spawn_cli("up", "--port", "0")


def test_up_runs_everything_and_leaves_nothing(up: subprocess.Popen[bytes], home: Path, run_cli: Run) -> None:
    """One command: the page answers, other shells find it, a second one is refused, Ctrl-C ends it all."""
    url = _url(up)
    with urllib.request.urlopen(url) as page:
        assert page.status == 200
    children = _children(up)
    assert set(children) == {"kafka.Kafka", "valkey-server", "persist", "live", "forward", "dashboard"}

    config = json.loads(run_cli("config", "--json").stdout)
    assert config["bootstrap_servers"]["source"] == "stack"
    assert config["redis_url"]["source"] == "stack"

    second = run_cli("up")
    assert second.returncode == 1
    assert str(up.pid) in second.stderr
    assert url in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1

    up.send_signal(signal.SIGINT)
    assert up.wait(30) == 0
    assert not any(map(runs, children.values()))
    assert not (home / "stack.json").exists()
    assert not (home / "stack.lock").exists()
    assert not (home / "kafka" / "lock").exists()
    assert not list(home.rglob("*.new"))


def test_a_service_that_was_killed_comes_back(up: subprocess.Popen[bytes]) -> None:
    """Each service that is killed is reported, and another process takes its place."""
    _url(up)
    before = _children(up)
    for pid in before.values():
        psutil.Process(pid).kill()

    def all_are_back() -> bool:
        now = _children(up)
        return now.keys() == before.keys() and not set(now.values()) & set(before.values())

    wait_for(all_are_back, 90)
    assert _said(up).count("starts again") >= len(before)


def test_nothing_outlives_an_up_that_was_killed(
    up: subprocess.Popen[bytes], spawn_cli: Spawn, run_cli: Run
) -> None:
    """After SIGKILL no child runs and the addresses are ignored; the next `up` has the same addresses."""
    _url(up)
    before = json.loads(run_cli("config", "--json").stdout)
    children = _children(up)
    up.kill()
    up.wait()
    wait_until_gone(list(children.values()))
    assert json.loads(run_cli("config", "--json").stdout)["bootstrap_servers"]["value"] == ""

    again = spawn_cli("up", "--port", "0")
    _url(again)
    after = json.loads(run_cli("config", "--json").stdout)
    assert after["bootstrap_servers"] == before["bootstrap_servers"]
    assert after["redis_url"] == before["redis_url"]


def test_servers_whose_addresses_are_set_are_not_started(
    spawn_cli: Spawn, topic_prefix: str, redis_prefix: str, home: Path
) -> None:
    """With a Kafka and a Redis in the settings, `up` runs the services alone."""
    child = spawn_cli("up", "--port", "0")
    _url(child)
    assert set(_children(child)) == {"persist", "live", "forward", "dashboard"}
    assert not (home / "kafka").exists()


def test_a_port_that_is_taken_is_one_sentence(run_cli: Run) -> None:
    """A port that is taken ends `up` with exit code 2 and a sentence that says what to do."""
    with socket.create_server((ports.LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        done = run_cli("up", "--port", str(port))
    assert done.returncode == 2
    assert f"Port {port} is taken" in done.stderr
    assert "--port" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("BOOTSTRAP_SERVERS", "127.0.0.1:9", "No Kafka broker answers at 127.0.0.1:9"),
        ("REDIS_URL", "redis://127.0.0.1:9/0", "Redis at redis://127.0.0.1:9/0 does not answer"),
        ("DATABASE_URL", "postgresql://u@127.0.0.1:9/x", "does not answer"),
        ("EMBEDDED_KAFKA_HEAP", "abc", "Invalid maximum heap size"),
        ("JARS_DIR", "/", "there is no kafka_2.13-*.jar in it"),
        ("DASHBOARD_HOST", "203.0.113.1", "The dashboard cannot use 203.0.113.1"),
    ],
)
def test_a_wrong_setting_is_one_sentence(run_cli: Run, setting: str, value: str, words: str) -> None:
    """A wrong setting, such as an address where nobody answers, ends `up` with one sentence."""
    done = run_cli("up", "--port", "0", env={f"STEPSTREAM_{setting}": value})
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_full_disk_is_one_sentence(run_cli: Run, tiny_disk: Path) -> None:
    """`up` refuses to start in a home that cannot be written."""
    done = run_cli("up", env={"STEPSTREAM_HOME": str(tiny_disk / "home")})
    assert done.returncode == 1
    assert "disk is full" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list((tiny_disk / "home").iterdir()) == []


def test_no_network_at_the_first_start_is_one_sentence(run_cli: Run, tmp_path: Path) -> None:
    """Without jars and network `up` exits with 1 and says what else works; no file is half-written."""
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "STEPSTREAM_MAVEN_URL": "http://127.0.0.1:9/mirror"}
    done = run_cli("up", env=env | {"STEPSTREAM_JARS_DIR": ""})
    assert done.returncode == 1
    assert "STEPSTREAM_BOOTSTRAP_SERVERS" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.fixture
def mirror(tmp_path: Path, kafka_jars: list[Path]) -> Iterator[str]:
    """A Maven repository on the loopback, with Kafka's jars."""
    for jar in jars.pinned():
        folder = tmp_path / "mirror" / jar.group.replace(".", "/") / jar.artifact / jar.version
        folder.mkdir(parents=True)
        (folder / jar.filename).symlink_to(kafka_jars[0].parent / jar.filename)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "mirror"))
    with http.server.ThreadingHTTPServer((ports.LOOPBACK, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{ports.LOOPBACK}:{server.server_port}"
        server.shutdown()


def test_damaged_jars_heal(
    mirror: str, tmp_path: Path, kafka_jars: list[Path], spawn_cli: Spawn, home: Path
) -> None:
    """A cut jar and an absent one are fetched again, the others stay, and Kafka comes up."""
    cache = tmp_path / "cache" / "stepstream" / "jars"
    shutil.copytree(kafka_jars[0].parent, cache)
    cut, absent, untouched = sorted(cache.glob("*.jar"))[:3]
    cut.write_bytes(cut.read_bytes()[:1000])
    absent.unlink()
    before = untouched.stat().st_mtime_ns
    env = {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "STEPSTREAM_MAVEN_URL": mirror,
        "STEPSTREAM_JARS_DIR": "",
    }
    child = spawn_cli("up", "--port", "0", env=env)
    wait_for((home / "stack.json").exists, 60, "Kafka did not come up")
    assert jars.missing(cache) == []
    assert untouched.stat().st_mtime_ns == before
    assert child.poll() is None
