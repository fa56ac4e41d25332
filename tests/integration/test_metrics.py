"""Every service serves /metrics, /livez and /readyz, and says when a server is away."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from consumers.persist.dead_letters import DeadLetterWriter
from consumers.persist.service import Persist
from infra import metrics
from infra.embedded import process
from infra.embedded.ports import free_ports
from infra.settings import Settings
from infra.sql.writers import open_writer
from producers.forward.service import ForwardService
from schemas.codec import Decoder
from tests.support import needs
from tests.support.processes import wait_for

Cli = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Any]
RULES = Path(__file__).parents[2] / "infra/deploy/prometheus"
BOARD = RULES.parent / "grafana/stepstream.json"
PATIENCE_S = 90.0


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body; 0 where nobody listens yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def value(port: int, name: str, **labels: str) -> float | None:
    """A sample's value."""
    for family in text_string_to_metric_families(get(port, "/metrics")[1]):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return float(sample.value)
    return None


def test_every_service_is_measured(
    settings: Settings, run_cli: Cli, spawn_cli: Spawn, tmp_path: Path
) -> None:
    """Each service shows counts, a lag of 0 after a burst and its servers, and SIGTERM ends it with 0."""
    assert run_cli("topics", "create").returncode == 0
    assert run_cli("db", "upgrade").returncode == 0
    names, services = ("persist", "live", "forward", "dashboard"), []
    ports = dict(zip(names, free_ports([None] * len(names)), strict=True))
    for name in names:
        variables = {"STEPSTREAM_METRICS_PORT": str(ports[name]), "STEPSTREAM_DASHBOARD_PORT": "0"}
        services.append(spawn_cli(name, env=variables))
    for name in names:
        wait_for(lambda port=ports[name]: get(port, "/readyz") == (200, "ok\n"), PATIENCE_S, name)
        assert get(ports[name], "/livez") == (200, "ok\n")
        assert get(ports[name], "/")[0] == 404
    program = (
        "import stepstream\n"
        "run = stepstream.init(run_id='measured')\n"
        "for i in range(500): run.step(reward=1.0)\n"
        "run.finish()\n"
    )
    (tmp_path / "train.py").write_text(program)
    subprocess.run([sys.executable, str(tmp_path / "train.py")], check=True)
    stored = {"service": "persist", "outcome": "stored"}
    wait_for(lambda: (value(ports["persist"], "stepstream_records_total", **stored) or 0) >= 500, PATIENCE_S)
    wait_for(lambda: value(ports["forward"], "stepstream_spool_bytes") == 0, PATIENCE_S)
    assert value(ports["forward"], "stepstream_spool_oldest_seconds") == 0
    assert value(ports["forward"], "stepstream_records_total", outcome="steps") == 500
    steps = {"service": "persist", "topic": f"{settings.topic_prefix}steps"}
    wait_for(lambda: value(ports["persist"], "stepstream_lag_records", **steps) == 0, PATIENCE_S)
    shown = {"service": "live", "outcome": "shown"}
    wait_for(lambda: (value(ports["live"], "stepstream_records_total", **shown) or 0) >= 500, PATIENCE_S)
    for name in ("persist", "live"):  # both have counted the run's end at least
        wait_for(
            lambda name=name: value(ports[name], "stepstream_canary_seconds_count", service=name), PATIENCE_S
        )
    for name in names:
        pages = get(ports[name], "/metrics")[1]
        assert value(ports[name], "stepstream_server_up", service=name) == 1.0
        if promtool := needs.promtool():
            done = subprocess.run([promtool, "check", "metrics"], input=pages, text=True, capture_output=True)
            complaints = [line for line in done.stderr.splitlines() if line.startswith("stepstream_")]
            assert not complaints, complaints
    assert [process.end(service) for service in services] == [0] * len(names)


def test_a_server_that_is_away_makes_a_service_not_ready(
    home: Path, redis_prefix: str, run_cli: Cli, spawn_cli: Spawn
) -> None:
    """A service whose server is away stays alive, and /readyz says which server and why."""
    assert run_cli("db", "upgrade").returncode == 0
    (port,) = free_ports([None])
    variables = {"STEPSTREAM_METRICS_PORT": str(port), "STEPSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    spawn_cli("persist", env=variables)
    said = "kafka: No Kafka broker answers at 127.0.0.1:1"
    wait_for(lambda: said in get(port, "/readyz")[1], PATIENCE_S)
    assert get(port, "/readyz")[0] == 503
    assert get(port, "/livez")[0] == 200
    assert value(port, "stepstream_server_up", server="kafka") == 0.0
    assert value(port, "stepstream_server_up", server="sql") == 1.0


def test_nothing_is_ready_before_its_servers_have_answered(settings: Settings) -> None:
    """A service is ready only once its servers have answered, as Kubernetes then replaces the next pod."""
    forward = ForwardService(lambda: settings, threading.Event())
    assert forward.health.reasons() == {"kafka": metrics.NOT_YET}
    persist = Persist(settings, open_writer(settings), Decoder, DeadLetterWriter)
    assert persist.health.reasons() == dict.fromkeys(("kafka", "sql"), metrics.NOT_YET)
    persist.close()


def test_a_port_that_is_taken_is_said(settings: Settings, run_cli: Cli) -> None:
    """Where the metrics port is taken, a service ends with a message that names the setting."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        variables = {"STEPSTREAM_METRICS_PORT": str(taken.getsockname()[1])}
        done = run_cli("persist", env=variables)
    assert done.returncode == 1
    assert "STEPSTREAM_METRICS_PORT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.promtool
def test_alert_rules() -> None:
    """promtool finds the alert rules valid, and their own tests pass."""
    promtool = needs.promtool()
    assert promtool is not None
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]):
        done = subprocess.run([promtool, *command], cwd=RULES, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def known_metrics() -> set[str]:
    """Every sample's name that a service may have."""
    known = {"stepstream_server_up", "stepstream_spool_bytes", "stepstream_spool_oldest_seconds"}
    for family in REGISTRY.collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
        known |= {family.name + end for end in ends.get(family.type, ("",))}
    return known


def test_alert_rules_name_metrics_that_exist() -> None:
    """The alert rules name only metrics that a service has."""
    assert set(re.findall(r"stepstream_[a-z_]+", (RULES / "rules.yaml").read_text())) <= known_metrics()


def test_the_board_shows_metrics_that_exist() -> None:
    """Each panel of Grafana's board queries metrics that exist, and every metric of ours is on the board."""
    board = json.loads(BOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) >= len(board["panels"]) > 0
    named = {name for query in queries for name in re.findall(r"stepstream_[a-z_]+", query)}
    assert named <= known_metrics()
    families = {re.sub(r"_(total|bucket|sum|count|info)$", "", name) for name in named}
    ours = {re.sub(r"_(total|bucket|sum|count|info)$", "", name) for name in known_metrics()}
    assert {name for name in ours if name.startswith("stepstream_")} <= families
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)


@pytest.mark.promtool
def test_queries_of_the_board_are_promql(tmp_path: Path) -> None:
    """Prometheus' own parser reads each query of the board as a recording rule."""
    promtool = needs.promtool()
    assert promtool is not None
    board = json.loads(BOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"board:query:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))  # JSON is YAML
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pages_own_port_answers_probes(settings: Settings, run_cli: Cli, spawn_cli: Spawn) -> None:
    """/livez and /readyz need no login; /readyz names what is away without the reason; /metrics needs one."""
    assert run_cli("db", "upgrade").returncode == 0
    (port,) = free_ports([None])
    variables = {
        "STEPSTREAM_DASHBOARD_PORT": str(port),
        "STEPSTREAM_DASHBOARD_TOKEN": "t0ken",
        "STEPSTREAM_REDIS_URL": "redis://u:pa55@127.0.0.1:1/0",
    }
    spawn_cli("dashboard", env=variables)
    wait_for(lambda: get(port, "/livez") == (200, "ok"), PATIENCE_S)
    assert get(port, "/readyz") == (503, "redis is away\n")
    assert get(port, "/metrics")[0] == 401
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
    request.add_header("Authorization", "Bearer t0ken")
    with urllib.request.urlopen(request) as answer:
        pages = answer.read().decode()
    assert "stepstream_viewers 0.0" in pages
    assert 'stepstream_server_up{server="sql",service="dashboard"} 1.0' in pages
    assert "pa55" not in pages
