"""A real Kubernetes API server validates and admits what the chart renders."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import helm_python as helm
import pytest
import yaml

from infra.deploy.chart import CHART
from tests.support import custom_resources, kubernetes
from tests.support.kubernetes import DEFINITIONS, ApiServer
from tests.unit.infra.test_chart import VARIANTS, rendered

pytestmark = [
    pytest.mark.skipif(kubernetes.missing() is not None, reason=str(kubernetes.missing())),
    pytest.mark.slow,
]

RESTRICTED = {f"pod-security.kubernetes.io/{how}": "restricted" for how in ("enforce", "warn")}
STRIMZI = "kafka.strimzi.io/v1"
"""Whose definitions are not in the cache; its resources are held against their schema elsewhere."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One server for all variants, with the custom resources and the priority class that they name."""
    with ApiServer(tmp_path_factory.mktemp("kubernetes")) as started:
        high = {"metadata": {"name": "high"}, "value": 1000}
        started.apply({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"} | high, "")
        for file in DEFINITIONS.glob("*.yaml"):
            started.apply(yaml.safe_load(file.read_text()), "")
        yield started


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_server_takes_the_chart_and_admits_its_pods(server: ApiServer, variant: str) -> None:
    """The server takes an install, an upgrade and the pod of each controller without a warning."""
    with helm.Chart.load(CHART) as chart:
        resources = [each for each in rendered(chart, VARIANTS[variant]) if each["apiVersion"] != STRIMZI]
    assert len(resources) > 10
    metadata = {"name": variant, "labels": RESTRICTED}
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, "")
    for _ in ("install", "upgrade"):
        for resource in resources:
            assert server.apply(resource, variant) == []
    pods = [pod for each in resources if (pod := pod_of(each))]
    assert len(pods) >= 3
    for pod in pods:
        assert server.apply(pod, variant) == []


def test_schemas_are_those_of_the_definitions() -> None:
    """The schemas that every machine tests with are those of the definitions in the cache."""
    assert json.loads(custom_resources.FILE.read_text()) == custom_resources.specs(DEFINITIONS)


def pod_of(resource: dict[str, Any]) -> dict[str, Any] | None:
    """The pod that a controller makes of a resource; None if it makes none."""
    template = resource.get("spec", {}).get("template")
    if resource["kind"] not in ("StatefulSet", "Deployment", "Job") or template is None:
        return None
    pod = copy.deepcopy(template) | {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] = template.get("metadata", {}) | {"name": resource["metadata"]["name"]}
    return pod
