"""The Helm chart renders valid, restricted objects with the settings and rights of the program."""

from __future__ import annotations

import copy
import tarfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest
import yaml

from cli.main import COMMANDS
from infra.deploy.chart import CHART, FILES
from infra.settings import PREFIX, Settings
from schemas.rights import RIGHTS
from schemas.topics import SPECS, Kind
from tests.support import custom_resources

VERSIONS = ["1.31", "1.34", "1.37"]
EVERYTHING: dict[str, Any] = {
    "settings": {"kafka": {"security.protocol": "SASL_SSL", "ssl.ca.location": "/etc/kafka/ca.crt"}},
    "mounts": [{"secret": "kafka-ca", "path": "/etc/kafka"}, {"configMap": "more", "path": "/etc/more"}],
    "image": {"pullSecrets": ["registry"]},
    "pod": {"nodeSelector": {"disk": "fast"}, "priorityClassName": "high"},
    "persist": {"settings": {"batch_records": 2000}, "mounts": [{"secret": "pg-ca", "path": "/etc/pg"}]},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "page-tls"},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["runs.example.com"]},
    "networkPolicy": {
        "dashboardFrom": [{"namespaceSelector": {"matchLabels": {"team": "rl"}}}],
        "egress": [{"ports": [{"port": 9092}]}],
    },
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
    "keda": {"enabled": True, "authentication": "kafka", "metadata": {"tls": "enable"}},
    "worker": {"enabled": True, "image": "trainer:1", "runId": "r1", "secret": "stepstream-worker"},
}
STRIMZI: dict[str, Any] = {
    "strimzi": {"enabled": True},
    "worker": {"enabled": True, "image": "trainer:1"},
    "settings": {"topic_prefix": "team_a.", "group_prefix": "team-a."},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "strimzi-scram": STRIMZI,
    "strimzi-tls": STRIMZI | {"strimzi": {"enabled": True, "authentication": "tls"}},
    "openshift": {"runAsUser": None, "networkPolicy": {"enabled": False}, "setup": {"topics": False}},
}
SERVICES = ("persist", "live", "dashboard")


@pytest.fixture(scope="module")
def chart() -> Iterator[helm.Chart]:
    """Load the chart."""
    with helm.Chart.load(CHART) as loaded:
        yield loaded


def rendered(chart: helm.Chart, values: dict[str, Any], name: str = "stepstream") -> list[dict[str, Any]]:
    """Return the objects that an install would create."""
    chart.validate_schema(values)
    files = chart.render(copy.deepcopy(values), name=name, namespace="rl")
    texts = [text for path, text in files.items() if not path.endswith("NOTES.txt")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def only(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a kind, by name."""
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the pod templates, by their component."""
    found = [each["spec"]["template"] for each in objects if "template" in each.get("spec", {})]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in found}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all containers of a pod template."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


every_variant = pytest.mark.parametrize("variant", VARIANTS)


@pytest.mark.parametrize("name", FILES)
def test_what_the_chart_takes_from_the_code_is_up_to_date(name: str) -> None:
    """Generated files of the chart match the code; `make chart` writes them."""
    assert (CHART / name).read_text() == FILES[name]()


def test_helm_finds_nothing_to_say() -> None:
    """`helm lint` reports no message and no error."""
    found = helm.lint(CHART)
    assert (found["messages"], found["errors"]) == ([], [])


@pytest.mark.parametrize(
    ("variant", "version"),
    [*((variant, VERSIONS[-1]) for variant in VARIANTS), *(("everything", older) for older in VERSIONS[:-1])],
)
def test_each_kubernetes_accepts_it(chart: helm.Chart, variant: str, version: str) -> None:
    """Each version of Kubernetes accepts every object strictly; custom resources fit their schemas."""
    for found in rendered(chart, VARIANTS[variant]):
        if schema := custom_resources.SPECS.get((found["apiVersion"], found["kind"])):
            jsonschema.validate(found["spec"], schema)
            assert found.keys() == {"apiVersion", "kind", "metadata", "spec"}
        else:
            kubernetes_validate.validate(found, version, strict=True)


@every_variant
def test_every_pod_meets_the_restricted_standard(chart: helm.Chart, variant: str) -> None:
    """No container runs as root, has rights or a token, writes its root file system or lacks limits."""
    for pod in pods(rendered(chart, VARIANTS[variant])).values():
        spec = pod["spec"]
        assert (spec["enableServiceLinks"], spec["automountServiceAccountToken"]) == (False, False)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"]["cpu"]
            assert container["resources"]["limits"]["memory"]


@every_variant
def test_every_service_is_probed_spread_and_guarded(chart: helm.Chart, variant: str) -> None:
    """Each service has probes, its own secret, a spread, a disruption budget and, if on, a network policy."""
    objects = rendered(chart, VARIANTS[variant])
    for service in SERVICES:
        pod = pods(objects)[service]
        [container] = pod["spec"]["containers"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        assert len(pod["metadata"]["annotations"]["checksum/settings"]) == 64
        assert [source for source in container["envFrom"] if "secretRef" in source] == [
            {"secretRef": {"name": f"stepstream-{service}"}}
        ]
        assert len(pod["spec"]["topologySpreadConstraints"]) == 2
        selector = only(objects, "PodDisruptionBudget")[f"stepstream-{service}"]["spec"]["selector"]
        assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert (f"stepstream-{service}" in only(objects, "NetworkPolicy")) == (variant != "openshift")
    assert {name: found["spec"]["serviceName"] for name, found in only(objects, "StatefulSet").items()} == {
        "stepstream-persist": "stepstream-persist",
        "stepstream-live": "stepstream-live",
    }
    assert only(objects, "ServiceAccount")["stepstream"]["automountServiceAccountToken"] is False


@every_variant
def test_names_of_settings_commands_and_files_exist(chart: helm.Chart, variant: str) -> None:
    """The chart names only existing settings and commands; each mount has a volume and its own path."""
    objects = rendered(chart, VARIANTS[variant])
    known = {PREFIX + item.name.upper() for item in fields(Settings)} | {f"{PREFIX}RUN_ID"}
    named = set(only(objects, "ConfigMap")["stepstream"]["data"])
    for pod in pods(objects).values():
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        for container in containers(pod):
            named |= {variable["name"] for variable in container.get("env", [])}
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert len(paths) == len(set(paths))
            if container["name"] != "train":
                assert container["args"][0] in COMMANDS
    assert {name for name in named if not name.startswith((f"{PREFIX}KAFKA_", f"{PREFIX}TOPICS_"))} <= known


def test_settings_become_variables_as_they_were_written(chart: helm.Chart) -> None:
    """A setting becomes a variable with the value as written, and a changed setting restarts the pods."""
    values = EVERYTHING | {"settings": EVERYTHING["settings"] | {"spool_max_bytes": 10737418240}}
    objects = rendered(chart, values)
    data = only(objects, "ConfigMap")["stepstream"]["data"]
    assert data["STEPSTREAM_SPOOL_MAX_BYTES"] == "10737418240"
    assert data["STEPSTREAM_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
    assert data["STEPSTREAM_BOOTSTRAP_SERVERS"] == "kafka:9092"
    [container] = pods(objects)["persist"]["spec"]["containers"]
    assert container["env"] == [{"name": "STEPSTREAM_BATCH_RECORDS", "value": "2000"}]
    before = pods(rendered(chart, EVERYTHING))["live"]["metadata"]["annotations"]
    assert pods(objects)["live"]["metadata"]["annotations"] != before


def test_the_job_of_each_upgrade_is_a_new_one(chart: helm.Chart) -> None:
    """Helm replaces the setup Job at each upgrade, and the Job uses no other object of the release."""
    [job] = only(rendered(chart, {}), "Job").values()
    assert job["metadata"]["annotations"] == {
        "helm.sh/hook": "pre-install,pre-upgrade",
        "helm.sh/hook-delete-policy": "before-hook-creation",
        "helm.sh/hook-output-log-policy": "hook-failed",
    }
    spec = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in spec
    assert [container["args"] for container in containers({"spec": spec})] == [
        ["topics", "create"],
        ["db", "upgrade"],
    ]
    assert all(
        "configMapRef" not in source for each in containers({"spec": spec}) for source in each["envFrom"]
    )


@pytest.mark.parametrize("authentication", ["scram-sha-512", "tls"])
def test_strimzis_users_have_exactly_the_rights_of_the_table(chart: helm.Chart, authentication: str) -> None:
    """Each Strimzi user has exactly the rights in the table, under literal names."""
    values = STRIMZI | {"strimzi": {"enabled": True, "authentication": authentication}}
    objects = rendered(chart, values)
    topics = {
        found["spec"]["topicName"]: found["spec"]["config"] for found in only(objects, "KafkaTopic").values()
    }
    assert topics == {
        spec.name("team_a."): {"min.insync.replicas": 2}
        | {key: int(text) for key, text in spec.config.items()}
        for spec in SPECS
    }
    users = only(objects, "KafkaUser")
    assert users.keys() == {f"stepstream-{service}" for service in RIGHTS}
    for service, rights in RIGHTS.items():
        spec = users[f"stepstream-{service}"]["spec"]
        assert spec["authentication"] == {"type": authentication}
        granted = {
            (rule["resource"]["type"], rule["resource"]["name"], operation.upper())
            for rule in spec["authorization"]["acls"]
            for operation in rule["operations"]
            if rule["resource"]["patternType"] == "literal"
        }
        wanted = {
            ("topic", kind.topic("team_a."), operation.replace("_", ""))
            for kind in Kind
            for operation in rights.topics.get(kind, ())
        }
        group = {("group", f"team-a.{rights.group}", "READ")} if rights.group else set()
        assert granted == wanted | group
    texts = str(pods(objects)["worker"]) + str(pods(objects)["live"])
    assert "stepstream-live" in texts
    assert "stepstream-worker" in texts
    assert [each["args"] for each in containers(pods(objects)["setup"])] == [["db", "upgrade"]]


def test_keda_reads_the_groups_that_the_services_commit(chart: helm.Chart) -> None:
    """KEDA scales by the consumer groups of the services, and no fixed replica count contradicts it."""
    objects = rendered(chart, EVERYTHING)
    found = only(objects, "ScaledObject")
    for service in ("persist", "live"):
        spec = found[f"stepstream-{service}"]["spec"]
        assert spec["triggers"][0]["metadata"] == {
            "bootstrapServers": "kafka:9092",
            "consumerGroup": Settings().group(service),
            "lagThreshold": "20000",
            "offsetResetPolicy": "earliest",
            "tls": "enable",
        }
        assert "replicas" not in only(objects, "StatefulSet")[f"stepstream-{service}"]["spec"]


def test_a_worker_has_its_forwarder_beside_it(chart: helm.Chart) -> None:
    """A sidecar shares the worker's spool and has time to send the rest when the pod ends."""
    pod = pods(rendered(chart, EVERYTHING))["worker"]["spec"]
    [forward], [train] = pod["initContainers"], pod["containers"]
    assert forward["restartPolicy"] == "Always"
    assert pod["securityContext"]["fsGroup"] == 10001
    assert {"name": "spool", "mountPath": "/spool"} in forward["volumeMounts"]
    assert {"name": "spool", "mountPath": "/spool"} in train["volumeMounts"]
    drain = float(forward["args"][forward["args"].index("--drain") + 1])
    assert pod["terminationGracePeriodSeconds"] > drain


def test_a_worker_trains_on_through_an_upgrade_that_does_not_change_it(chart: helm.Chart) -> None:
    """The training Job keeps its name unless its own specification changes, so an upgrade leaves it alone."""
    worker = EVERYTHING["worker"]
    names = [
        next(name for name in only(rendered(chart, EVERYTHING | changed), "Job") if "worker" in name)
        for changed in ({}, {"settings": {"batch_records": 9}}, {"worker": worker | {"runId": "r2"}})
    ]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"settings": {"bootstrap_server": "kafka:9092"}}, "bootstrap_server"),
        ({"settings": {"bootstrap_servers": ""}}, "bootstrap_servers"),
        ({"settings": {"batch_records": 0}}, "batch_records"),
        ({"settings": {"spool_full": "wait"}}, "spool_full"),
        ({"settings": {"database_url": "postgresql://u:p@h/d"}}, "database_url"),
        ({"persist": {"replicas": "two"}}, "replicas"),
        ({"persist": {"resources": {"limits": {"memory": None}}}}, "memory"),
        ({"persist": {"secret": "Not A Name"}}, "secret"),
        ({"mounts": [{"path": "/etc/kafka"}]}, "mounts"),
        ({"mounts": [{"secret": "a", "path": "relative"}]}, "path"),
        ({"runAsUser": 0}, "runAsUser"),
        ({"strimzi": {"authentication": "plain"}}, "authentication"),
        ({"worker": {"enabled": True}}, "image"),
        ({"httpRoute": {"enabled": True}}, "parentRefs"),
        ({"ingres": {"enabled": True}}, "ingres"),
    ],
)
def test_wrong_values_are_refused_by_name(chart: helm.Chart, values: dict[str, Any], named: str) -> None:
    """A wrong value is refused by name at the install, before any pod starts."""
    with pytest.raises(helm.HelmError, match=named):
        chart.validate_schema(values)


def test_the_archive_holds_the_alert_rules(tmp_path: Path) -> None:
    """The packed chart holds the alert rules as a file; in the checkout they are a link."""
    archive = helm.package(CHART, destination=tmp_path)
    with tarfile.open(archive) as files:
        rules = files.extractfile("stepstream/files/rules.yaml")
        assert rules is not None
        packed = yaml.safe_load(rules.read())
    assert packed == yaml.safe_load((CHART.parent / "prometheus" / "rules.yaml").read_text())


def test_a_release_of_another_name_is_told_apart(chart: helm.Chart) -> None:
    """Two releases in one namespace have different object names and labels."""
    first, second = (rendered(chart, {}, name=name) for name in ("one", "two"))
    assert not {(each["kind"], each["metadata"]["name"]) for each in first} & {
        (each["kind"], each["metadata"]["name"]) for each in second
    }
    assert pods(first)["persist"]["metadata"]["labels"]["app.kubernetes.io/instance"] == "one"
