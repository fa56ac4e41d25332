"""A real `helm install`: the chart's pods on a real kubelet, beside servers that are there already."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from infra.deploy import chart
from tests.integration.test_chart_applied import RESTRICTED
from tests.support import kubernetes_node
from tests.support.events import until
from tests.support.images import Container, built, docker
from tests.support.kubernetes_node import NETWORK, SUBNET, Node

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(kubernetes_node.missing() is not None, reason=str(kubernetes_node.missing())),
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

KAFKA, POSTGRES, REDIS = (f"{SUBNET}.0.{number}" for number in (10, 11, 12))
BROKER = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://localhost:9093",
    "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{KAFKA}:9092",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
}
# Rights on tables that the chart's hook will make.
GRANTS = """
CREATE ROLE persist LOGIN PASSWORD 'p'; CREATE ROLE dashboard LOGIN PASSWORD 'd';
REVOKE ALL ON DATABASE stepstream FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE stepstream TO persist;
GRANT CONNECT ON DATABASE stepstream TO dashboard;
ALTER DEFAULT PRIVILEGES FOR ROLE admin GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO persist;
ALTER DEFAULT PRIVILEGES FOR ROLE admin GRANT SELECT ON TABLES TO dashboard;
"""
IMAGE = "ghcr.io/stepstream/stepstream:0.1.0"
STEPS = 6_000
TRAIN = f"""
import time, stepstream
with stepstream.init(env_id="Counting") as run:
    for number in range({STEPS}):
        run.step(observation=[number], action=1, reward=0.5, terminated=number % 100 == 99)
        time.sleep(0.005)
"""
WORKER = {
    "enabled": True,
    "image": f"{IMAGE}-slim",
    "command": ["/opt/stepstream/bin/python", "-c", TRAIN],
    "runId": "trained",
    "resources": {"requests": {"cpu": "100m"}},
}
OF_WORKER = ("--selector", "app.kubernetes.io/component=worker")
SERVICES = ("persist", "live", "dashboard")
NAME = "stepstream"
TOKEN = "an-open-secret"
CHART = str(chart.CHART)


class Cluster:
    """A node, with Kafka, PostgreSQL and Redis beside it."""

    def __init__(self, node: Node, postgres: Container) -> None:
        self.node, self._postgres = node, postgres

    def sql(self, statement: str) -> str:
        """What a statement gives, as psql prints it without a frame."""
        # Not by the socket, on which the image's first server listens, too, before it is restarted.
        psql = ("psql", "-h", "127.0.0.1", "-U", "admin", "-d", "stepstream", "-Atc", statement)
        return self._postgres.execute(*psql).stdout.strip()

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run `kubectl -n stepstream …`."""
        return self.node.kubectl("--namespace", NAME, *arguments, text=text)

    def helm(self, command: str, *arguments: str, timeout: str = "3m") -> str:
        """Install or upgrade the chart, and wait until its pods are ready."""
        wait = ("--wait", "--timeout", timeout)
        try:
            return self.node.helm("--namespace", NAME, command, NAME, CHART, *wait, *arguments)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.kubectl('get', 'pods,events')}") from None

    def get(self, kind: str, *arguments: str) -> Any:
        """The objects of a kind."""
        return json.loads(self.kubectl("get", kind, "--output=json", *arguments))["items"]

    def page(self, path: str, port: str = "http") -> str:
        """What the dashboard's Service answers."""
        return self._raw(f"services/{NAME}-dashboard:{port}", path)

    def metrics(self, pod: str, path: str = "/metrics") -> str:
        """What a pod's port of metrics answers."""
        return self._raw(f"pods/{pod}:9464", path)

    def _raw(self, to: str, path: str) -> str:
        return self.kubectl("get", "--raw", f"/api/v1/namespaces/{NAME}/{to}/proxy{path}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The node and its servers, with the namespace and the secrets that the chart's README names."""
    images = [f"{IMAGE}-{target}" for target in ("slim", "worker")]
    for image in images:
        docker("tag", built(image.rpartition("-")[2]), image)
    with ExitStack() as stack:
        node = stack.enter_context(Node(*images))

        def at(address: str, image: str, *command: str, **variables: str) -> Container:
            given = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
            options = ("--network", NETWORK, "--ip", address, *given)
            return stack.enter_context(Container(image, *command, options=options))

        at(KAFKA, "apache/kafka:4.3.1", **BROKER)
        at(REDIS, "redis:8", "redis-server", "--requirepass", "r")
        login = {"POSTGRES_USER": "admin", "POSTGRES_PASSWORD": "a", "POSTGRES_DB": "stepstream"}
        found = Cluster(node, at(POSTGRES, "postgres:17", **login))
        until(lambda: found.sql("SELECT 1") == "1", 60)
        assert "ALTER" in found.sql(GRANTS)
        node.kubectl("create", "namespace", NAME)
        node.kubectl("label", "namespace", NAME, *(f"{key}={value}" for key, value in RESTRICTED.items()))
        redis = f"STEPSTREAM_REDIS_URL=redis://:r@{REDIS}:6379/0"
        database = f"STEPSTREAM_DATABASE_URL=postgresql://{{}}@{POSTGRES}/stepstream"
        secrets = {
            "admin": [database.format("admin:a")],
            "persist": [database.format("persist:p")],
            "live": [redis],
            "dashboard": [database.format("dashboard:d"), redis, f"STEPSTREAM_DASHBOARD_TOKEN={TOKEN}"],
        }
        for service, entries in secrets.items():
            given = [f"--from-literal={entry}" for entry in entries]
            found.kubectl("create", "secret", "generic", f"{NAME}-{service}", *given)
        found.helm("install", "--set", f"settings.bootstrap_servers={KAFKA}:9092")
        yield found


def test_hooks_made_topics_and_tables_before_the_services(cluster: Cluster) -> None:
    """After the install the setup Job is completed, every pod is ready, and none has been restarted."""
    [job] = cluster.get("jobs")
    assert job["status"]["succeeded"] == 1
    pods = cluster.get("pods", "--selector", "app.kubernetes.io/component in (persist,live,dashboard)")
    assert len(pods) == 6
    states = [state for pod in pods for state in pod["status"]["containerStatuses"]]
    assert all(state["ready"] and state["restartCount"] == 0 for state in states)


def test_the_page_and_the_metrics_of_each_service_answer(cluster: Cluster) -> None:
    """The page asks for a login; each service is ready and has metrics."""
    assert cluster.page("/healthz") == "ok"
    with pytest.raises(AssertionError, match="You must be logged in"):
        cluster.page("/")
    assert cluster.page("/readyz", "metrics") == "ok\n"
    for pod in pods_of(cluster, *SERVICES):
        assert "stepstream_server_up" in cluster.metrics(pod)


def test_a_worker_streams_in_while_pods_are_replaced_and_killed(cluster: Cluster) -> None:
    """An upgrade replaces the services' pods, not the worker's; two are killed; each step is stored once."""
    cluster.helm("upgrade", "--reuse-values", "--set-json", f"worker={json.dumps(WORKER)}")
    before, worker = pods_of(cluster, *SERVICES), pods_of(cluster, "worker")
    cluster.helm("upgrade", "--reuse-values", "--set", "settings.batch_records=500")
    assert not set(before.values()) & set(pods_of(cluster, *SERVICES).values())
    assert pods_of(cluster, "worker") == worker
    cluster.kubectl("delete", "pod", f"{NAME}-persist-0", f"{NAME}-live-1", "--grace-period=0", "--force")
    cluster.kubectl("wait", "--for=condition=complete", "job", *OF_WORKER, "--timeout=180s")
    assert {job["status"]["succeeded"] for job in cluster.get("jobs")} == {1}
    counted = "SELECT count(*), count(DISTINCT (stream_id, seq)) FROM steps WHERE run_id = 'trained'"
    until(lambda: cluster.sql(counted) == f"{STEPS}|{STEPS}", 60)
    told = "SELECT status, steps, dead_letters FROM runs WHERE run_id = 'trained'"
    until(lambda: cluster.sql(told) == f"completed|{STEPS}|0", 60)


def pods_of(cluster: Cluster, *components: str) -> dict[str, str]:
    """Name → uid of the pods of some components."""
    selector = f"app.kubernetes.io/component in ({','.join(components)})"
    found = [pod["metadata"] for pod in cluster.get("pods", "--selector", selector)]
    return {each["name"]: each["uid"] for each in found if "deletionTimestamp" not in each}


def test_a_wrong_value_changes_nothing(cluster: Cluster) -> None:
    """An upgrade with a wrong setting is refused by its name, before anything is changed."""
    before = pods_of(cluster, *SERVICES)
    with pytest.raises(AssertionError, match="batch_record"):
        cluster.helm("upgrade", "--reuse-values", "--set", "settings.batch_record=1")
    assert pods_of(cluster, *SERVICES) == before


def test_helm_says_why_a_setup_failed(cluster: Cluster) -> None:
    """Where the setup Job fails, Helm prints what it said, and the services go on as they were."""
    before = pods_of(cluster, *SERVICES)
    away = f"setup.settings.bootstrap_servers={KAFKA}:9"
    with pytest.raises(AssertionError, match="No Kafka broker answers"):
        cluster.helm("upgrade", "--reuse-values", "--set", away, timeout="60s")
    assert pods_of(cluster, *SERVICES) == before


def test_an_uninstall_leaves_the_data_alone(cluster: Cluster) -> None:
    """`helm uninstall` ends every pod; tables, topics and secrets stay for the next install."""
    cluster.node.helm("--namespace", NAME, "uninstall", NAME, "--wait")
    until(lambda: not pods_of(cluster, *SERVICES, "worker"), 60)
    assert cluster.sql("SELECT count(*) FROM steps") == str(STEPS)
    assert len(cluster.get("secrets", "--field-selector", "type=Opaque")) == 4
