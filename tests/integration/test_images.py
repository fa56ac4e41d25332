"""The images are small, run as any user on a read-only root, and have an init that passes signals on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.events import until
from tests.support.images import HARDENED, Container, built, docker, inspected

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

NO_KAFKA = ("--env", "STEPSTREAM_BOOTSTRAP_SERVERS=127.0.0.1:9")
LEAVES_ORPHANS = """
import os, sys, time
for _ in range(5):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.2)
        os._exit(0)
    os.wait()
print("up", flush=True)
time.sleep(600)
"""
STATES = """
import pathlib
found = [stat.read_text().rpartition(")")[2] for stat in pathlib.Path("/proc").glob("[0-9]*/stat")]
print("".join(line.split()[0] for line in found))
"""
PACKAGES = """
import importlib.metadata, json
print(json.dumps({found.name: found.version for found in importlib.metadata.distributions()}))
"""


def packages(target: str) -> dict[str, str]:
    """Name → version of the Python packages that an image has."""
    found = docker("run", "--rm", "--entrypoint", "python", built(target), "-c", PACKAGES).stdout
    return {name.lower(): version for name, version in json.loads(found).items()}


def test_the_slim_image_adds_less_than_350_mb_to_its_base() -> None:
    """The slim image lacks pyarrow and examples; the worker's lacks the web page, too, and is smaller."""
    base = inspected("python:3.13-slim")["Size"]
    sizes = {target: (inspected(built(target))["Size"] - base) / 1e6 for target in ("slim", "worker")}
    assert sizes["slim"] < 350
    assert sizes["worker"] < sizes["slim"] - 100
    assert not {"pyarrow", "gymnasium"} & packages("slim").keys()
    assert not {"dash", "plotly", "redis", "pyarrow"} & packages("worker").keys()
    assert "pyarrow" in packages("server")


@pytest.mark.parametrize("target", ["slim", "server", "worker"])
def test_an_image_lists_what_it_holds(target: str) -> None:
    """An image has its labels, and a CycloneDX list of exactly the packages that are installed."""
    config = inspected(built(target))["Config"]
    assert config["User"] == "10001:0"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Entrypoint"][0] == "tini"
    written = docker(
        "run", "--rm", "--entrypoint", "cat", built(target), "/opt/stepstream/sbom.cdx.json"
    ).stdout
    listed = {part["name"].lower(): part["version"] for part in json.loads(written)["components"]}
    assert listed == packages(target)


@pytest.mark.parametrize("target", ["slim", "worker"])
@pytest.mark.parametrize("user", ["10001", "1234567:0"])
def test_any_user_of_group_0_runs_on_a_read_only_root(target: str, user: str) -> None:
    """Any user of group 0 runs the image on a read-only root, as OpenShift starts it."""
    script = 'echo \'{"type": "step", "reward": 1.0}\''
    keep = ("run", "--json", "--run-id", "kept", "--timeout", "0", "--", "sh", "-c", script)
    done = docker("run", "--rm", "--user", user, *HARDENED, *NO_KAFKA, built(target), *keep)
    assert done.returncode == 0, done.stderr
    assert '"read": 1,' in done.stderr
    help_text = docker("run", "--rm", "--user", user, *HARDENED, built(target), "--help")
    assert help_text.returncode == 0, help_text.stderr


def test_orphans_are_reaped_and_a_signal_ends_a_worker_without_a_kafka(tmp_path: Path) -> None:
    """An orphan of a training program becomes no zombie; `docker stop` gives the worker's exit code."""
    program = tmp_path / "train.py"
    program.write_text(LEAVES_ORPHANS)
    mounted = ("--volume", f"{program}:/train.py:ro")
    with Container(
        built("worker"), "run", "--", "python", "/train.py", options=(*mounted, *NO_KAFKA)
    ) as running:
        until(lambda: "up" in running.logs())
        until(lambda: running.execute("cat", "/proc/1/comm").stdout == "tini\n")
        # The four are tini, stepstream, the worker and this check.
        until(
            lambda: (
                len(states := running.execute("python", "-c", STATES).stdout.strip()) == 4
                and "Z" not in states
            )
        )
        assert running.stop() == 143
        assert "they stay in" in running.logs()


def test_a_service_is_healthy_when_its_servers_are() -> None:
    """The health check says which server is away; SIGTERM ends the service with 0."""
    with Container(built("worker"), "forward", options=(*HARDENED, *NO_KAFKA)) as running:
        until(lambda: running.execute("healthcheck").returncode == 1)
        until(lambda: "kafka: No Kafka broker answers" in running.execute("healthcheck").stdout)
        assert running.stop() == 0


def test_a_command_that_is_no_service_is_healthy_while_it_runs() -> None:
    """A container whose command has no /readyz is healthy while the command runs."""
    with Container(built("slim"), "run", "--", "sleep", "600", options=NO_KAFKA) as running:
        until(lambda: inspected(running.name)["State"]["Health"]["Status"] == "healthy", 60)
