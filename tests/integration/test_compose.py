"""One compose command brings up a cluster of three brokers, and its worker's run is completed."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import sync_playwright

from tests.support.compose import FOLDER, TOKEN, Compose
from tests.support.rolling import Training, restart, step_shown

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

SERVICES = {"persist", "live", "dashboard"}
SETTING_UP = {"topics", "migrate"}


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    """The compose project with all its services up."""
    project = Compose()
    try:
        project.up()
        yield project
    finally:
        project("--profile", "monitoring", "down", "--volumes", "--timeout", "5")


def test_the_workers_run_is_completed_in_postgresql(compose: Compose) -> None:
    """The worker's run passes Kafka and persist into PostgreSQL, and the worker exits with 0."""
    # Topics are read independently, so the run's end may be stored before its last episodes.
    ended = "SELECT * FROM runs WHERE status = 'completed' AND episodes = 30"
    [run] = compose.wait_for(lambda: compose.query(ended))
    assert (run["run_id"], run["env_id"]) == ("demo", "FrozenLake-v1")
    exited = '"ExitCode":0'
    compose.wait_for(lambda: exited in compose("ps", "--all", "--format", "json", "worker").stdout)

    def steps_shown() -> bool:
        shown = compose("exec", "-T", "persist", "stepstream", "runs", "show", "demo", "--json")
        return json.loads(shown.stdout)["steps"] == compose.rows("SELECT steps FROM runs")[0]["steps"] > 0

    assert compose.wait_for(steps_shown)


def test_the_page_answers_whoever_logs_in(compose: Compose) -> None:
    """The page answers 200 to the token, and refuses a guessed one."""
    assert compose.wait_for(lambda: compose.page("/", TOKEN)) == 200
    assert compose.page("/healthz") == 200
    assert compose.page("/", "guessed") in (401, 403)


def test_services_are_well_and_not_root(compose: Compose) -> None:
    """doctor finds nothing wrong from inside a container; three brokers keep three replicas."""
    for service in SERVICES:
        told = compose.doctor(service)
        assert "wrong" not in told
        assert "3 broker(s)" in told
    assert compose("exec", "-T", "live", "id", "-u").stdout.strip() == "10001"
    compose.wait_for(lambda: states(compose, "Health") == dict.fromkeys(SERVICES, "healthy"))
    told = compose("exec", "-T", "kafka-1", "/opt/kafka/bin/kafka-topics.sh", *DESCRIBE).stdout
    assert "ReplicationFactor: 3" in told
    assert "min.insync.replicas=2" in told


DESCRIBE = ("--bootstrap-server", "kafka-1:9092", "--describe", "--topic", "telemetry.steps")


def states(compose: Compose, key: str) -> dict[str, str]:
    """Service → a column of `docker compose ps`."""
    lines = compose("ps", "--format", "json", *SERVICES).stdout.splitlines()
    return {found["Service"]: found[key] for found in map(json.loads, lines)}


def test_schemas_are_in_the_registry(compose: Compose) -> None:
    """The registry has the schemas under the topics' names, so that other programs read the records."""
    subjects = "http://registry:8080/apis/ccompat/v7/subjects"
    code = f"import urllib.request; print(urllib.request.urlopen('{subjects}').read())"
    assert "telemetry.steps-value" in compose("exec", "-T", "persist", "python", "-c", code).stdout


def test_a_worker_outside_streams_in(compose: Compose, run_cli: Callable[..., Any]) -> None:
    """A worker on this machine streams in through the published ports."""
    line = '{"type": "step", "step": 0, "reward": 1.5}\n'
    env = {"STEPSTREAM_BOOTSTRAP_SERVERS": compose.brokers}
    done = run_cli("ingest", "-", "--run-id", "outside", env=env, input=line)
    assert done.returncode == 0, done.stderr
    compose.wait_for(lambda: compose.query("SELECT 1 FROM runs WHERE run_id = 'outside' AND steps = 1"))


@pytest.mark.browser
def test_a_rolling_restart_of_everything_loses_and_doubles_nothing(
    compose: Compose, home: Path, chromium: str, strikes: Callable[[int], int]
) -> None:
    """At 5,000 steps a second restarts lose and double no step, and the page moves on after each.

    `--faults=1` restarts all services, else some of them.
    """
    compose.wait_for(lambda: compose.page("/healthz") == 200)
    training = Training(home, compose, RATE, dict(os.environ))
    try:
        with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium) as browser:
            page = browser.new_page()
            page.goto(f"{compose.url}/runs/rolling?agent=a0&token={TOKEN}")
            compose.wait_for(lambda: step_shown(page))
            services = EVERYTHING if strikes(0) else QUICK
            stalls = [restart(compose, services, page) for _ in range(strikes(1))]
        print("seconds that the page stood still:", *stalls)
        steps = training.end()
    finally:
        training.kill()
    distinct = "count(DISTINCT (stream_id, seq)) AS lines"
    counted = f"SELECT count(*) AS rows, {distinct} FROM steps WHERE run_id = 'rolling'"
    compose.wait_for(lambda: [found["rows"] for found in compose.query(counted)] == [steps])
    assert compose.rows(counted) == [{"rows": steps, "lines": steps}]
    told = "SELECT steps, dead_letters FROM runs WHERE run_id = 'rolling'"
    assert compose.rows(told) == [{"steps": steps, "dead_letters": 0}]


RATE = 5_000
QUICK = ("kafka-2", "postgres", "redis", "persist", "live", "dashboard")
EVERYTHING = ("kafka-1", "kafka-2", "kafka-3", "registry", *QUICK[1:])


def test_prometheus_finds_every_service(compose: Compose) -> None:
    """With the profile `monitoring` Prometheus finds every service and loads the alert rules."""
    done = compose("--profile", "monitoring", "up", "--detach", "prometheus")
    assert done.returncode == 0, done.stderr

    def asked(path: str) -> Any:
        try:
            address = f"http://127.0.0.1:{compose.ports['PROMETHEUS_PORT']}/api/v1/{path}"
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return {}

    def served() -> set[str]:
        found = asked("query?query=stepstream_server_up==1").get("result", [])
        return {each["metric"]["service"] for each in found}

    compose.wait_for(lambda: served() == SERVICES)
    [group] = asked("rules")["groups"]
    assert group["name"] == "stepstream"


def test_grafana_is_given_the_data_source_that_is_there(compose: Compose) -> None:
    """Grafana's image is not available everywhere, so this checks its files and where compose mounts them."""
    services = json.loads(compose("--profile", "monitoring", "config", "--format", "json").stdout)["services"]
    targets = {volume["target"] for volume in services["grafana"]["volumes"]}
    [source] = yaml.safe_load((FOLDER / "grafana/datasources/prometheus.yaml").read_text())["datasources"]
    [boards] = yaml.safe_load((FOLDER / "grafana/dashboards/boards.yaml").read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    assert {"/etc/grafana/provisioning", boards["options"]["path"]} <= targets


def test_every_service_is_checked_and_waits_for_what_it_needs(compose: Compose) -> None:
    """Every service has a health check, and waits until what it needs is healthy or completed."""
    services = json.loads(compose("--profile", "monitoring", "config", "--format", "json").stdout)["services"]
    ours = SERVICES | SETTING_UP | {"worker"}
    assert {name for name, service in services.items() if "healthcheck" not in service} == ours
    conditions = {
        (needed, told["condition"])
        for service in services.values()
        for needed, told in service.get("depends_on", {}).items()
    }
    assert conditions == {
        *((needed, "service_completed_successfully") for needed in SETTING_UP),
        *((f"kafka-{number}", "service_healthy") for number in (1, 2, 3)),
        *(
            (needed, "service_healthy")
            for needed in ("registry", "redis", "postgres", "persist", "prometheus")
        ),
    }
    for name in ours:
        assert (services[name]["read_only"], services[name]["cap_drop"]) == (True, ["ALL"])


def test_ports_are_published_on_the_loopback_only(compose: Compose) -> None:
    """Ports are published on the loopback only, as the database's password is well known."""
    published = json.loads(compose("--profile", "monitoring", "config", "--format", "json").stdout)[
        "services"
    ]
    addresses = {port["host_ip"] for service in published.values() for port in service.get("ports", [])}
    assert addresses == {"127.0.0.1"}


def test_without_a_token_it_does_not_start(compose: Compose) -> None:
    """Compose refuses to start without a token and says so, as the dashboard listens beyond loopback."""
    done = compose("config", "--quiet", STEPSTREAM_DASHBOARD_TOKEN="")
    assert done.returncode != 0
    assert "choose a token" in done.stderr
