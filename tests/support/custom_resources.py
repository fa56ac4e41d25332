"""Schemas of the custom resources that the chart renders; a field that they do not name is refused.

Those of the Prometheus operator, KEDA and the Gateway API come from their own definitions: `make kubernetes`
puts these into the cache, and `python -m tests.support.custom_resources` writes crds.json from them. Those of
Strimzi are in no Go module; here are the fields of its version 1.2 that the chart may use.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.kubernetes import DEFINITIONS

FILE = Path(__file__).parents[1] / "data" / "crds.json"


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _one_of(*words: str) -> dict[str, Any]:
    return {"enum": list(words)}


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
OPERATIONS = (
    *("Read", "Write", "Create", "Delete", "Alter", "Describe", "ClusterAction", "AlterConfigs"),
    *("DescribeConfigs", "IdempotentWrite", "All"),
)
RULE = _object(
    ("resource", "operations"),
    type=_one_of("allow", "deny"),
    host=TEXT,
    operations=_list(_one_of(*OPERATIONS)),
    resource=_object(
        ("type",),
        type=_one_of("topic", "group", "cluster", "transactionalId"),
        name=TEXT,
        patternType=_one_of("literal", "prefix"),
    ),
)

SPECS: dict[tuple[str, str], dict[str, Any]] = {
    ("kafka.strimzi.io/v1", "KafkaTopic"): _object(
        topicName=TEXT,
        partitions=NUMBER | {"minimum": 1},
        replicas=NUMBER | {"minimum": 1, "maximum": 32767},
        config={"type": "object", "additionalProperties": {"type": ["string", "integer"]}},
    ),
    ("kafka.strimzi.io/v1", "KafkaUser"): _object(
        authentication=_object(("type",), type=_one_of("tls", "tls-external", "scram-sha-512")),
        authorization=_object(("type", "acls"), type=_one_of("simple"), acls=_list(RULE)),
    ),
} | {tuple(name.rsplit("/", 1)): spec for name, spec in json.loads(FILE.read_text()).items()}
"""apiVersion and kind → JSON schema of the `spec`."""


def write(definitions: Path) -> None:
    """Write the file from the definitions of a folder."""
    FILE.write_text(json.dumps(specs(definitions), indent=1, sort_keys=True) + "\n")


def specs(definitions: Path) -> dict[str, Any]:
    """`apiVersion/kind` → schema of the `spec`, of each definition of a folder."""
    found = {}
    for file in sorted(definitions.glob("*.yaml")):
        told = yaml.safe_load(file.read_text())["spec"]
        for version in told["versions"]:
            if version["storage"]:
                schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
                found[f"{told['group']}/{version['name']}/{told['names']['kind']}"] = _strict(schema)
    return found


def _strict(schema: Any) -> Any:
    """Refuse unknown fields, as the server does, and leave out texts and what is not JSON Schema."""
    left_out = ("x-kubernetes", "description", "default", "format")
    kept = {key: value for key, value in schema.items() if not key.startswith(left_out)}
    if "pattern" in kept:  # Go's syntax, where it differs
        kept["pattern"] = re.sub(r"^\^(\(\?\w+\))", r"\1^", kept["pattern"])
    for key in {"items", "additionalProperties"} & kept.keys():
        kept[key] = _strict(kept[key])
    if "properties" in kept:
        kept["properties"] = {name: _strict(field) for name, field in kept["properties"].items()}
        if "x-kubernetes-preserve-unknown-fields" not in schema:
            kept["additionalProperties"] = False
    return kept


if __name__ == "__main__":
    write(DEFINITIONS)
