"""What the deployment files and their page name exists: settings, commands, files."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import COMMANDS
from infra.settings import PREFIX, Settings

ROOT = Path(__file__).parents[3]
FILES = [
    "infra/deploy/Dockerfile",
    "infra/deploy/compose/compose.yaml",
    "infra/deploy/kubernetes/stepstream.yaml",
    "docs/deploy.md",
    "docs/security.md",
    "docs/metrics.md",
    "docs/replay.md",
]
SETTINGS = {PREFIX + field.name.upper() for field in fields(Settings)} | {"STEPSTREAM_CONFIG"}


@pytest.mark.parametrize("name", FILES)
def test_every_setting_that_is_named_exists(name: str) -> None:
    """A setting that was renamed is renamed there, too; Kafka's own pass through."""
    named = set(re.findall(r"STEPSTREAM_[A-Z0-9_]*[A-Z0-9]", (ROOT / name).read_text()))
    assert {
        word for word in named - SETTINGS if not word.startswith(("STEPSTREAM_KAFKA", "STEPSTREAM_TOPICS_"))
    } == set()


@pytest.mark.parametrize("name", FILES)
def test_every_command_that_is_named_exists(name: str) -> None:
    """In documents `stepstream WORD`, in manifests the first argument."""
    text = (ROOT / name).read_text()
    words = re.findall(r"`stepstream ([a-z]+)|^stepstream ([a-z]+)|\| stepstream ([a-z]+)", text, re.M)
    arguments = re.findall(r'^\s*(?:args|command|CMD): \["?([a-z]+)', text, re.M)
    named = {word for group in words for word in group if word} | set(arguments)
    assert named - {"python"} <= set(COMMANDS)
    assert named or name.endswith("Dockerfile")


def pod_specs() -> list[tuple[str, dict[str, Any]]]:
    """Each workload of the manifests, with its pods' specification."""
    text = (ROOT / "infra/deploy/kubernetes/stepstream.yaml").read_text()
    documents = [document for document in yaml.safe_load_all(text) if "template" in document.get("spec", {})]
    return [(document["metadata"]["name"], document["spec"]["template"]["spec"]) for document in documents]


@pytest.mark.parametrize(
    ("name", "pod"), pod_specs(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_pods_meet_the_restricted_standard_and_no_service_link_reaches_them(
    name: str, pod: dict[str, Any]
) -> None:
    """No root, no rights, no token; a Service of ours sets no variable that looks like a setting."""
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_a_worker_and_its_forwarder_share_the_spool_by_group() -> None:
    """Whatever user the training image runs as."""
    pod = dict(pod_specs())["train"]
    assert pod["securityContext"]["fsGroup"] == 10001
