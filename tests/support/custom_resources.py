"""Fields of custom resources that the chart may use, as Strimzi 1.2, KEDA, the Prometheus operator and the
Gateway API define them. What is not named here is refused.
"""

from __future__ import annotations

from typing import Any


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
ENDPOINT = _object(port=TEXT, path=TEXT, interval={"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"})
LABELS = _object(matchLabels=TEXTS)
ALERT = _object(
    ("expr",), alert=TEXT, record=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS, **{"for": TEXT}
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
    ("keda.sh/v1alpha1", "ScaledObject"): _object(
        ("scaleTargetRef", "triggers"),
        scaleTargetRef=_object(("name",), apiVersion=TEXT, kind=TEXT, name=TEXT),
        minReplicaCount=NUMBER,
        maxReplicaCount=NUMBER,
        triggers=_list(
            _object(
                ("type", "metadata"),
                type=TEXT,
                metadata=TEXTS,
                authenticationRef=_object(("name",), name=TEXT, kind=TEXT),
            )
        ),
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _object(
        ("selector", "endpoints"), selector=LABELS, endpoints=_list(ENDPOINT)
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): _object(
        ("selector",), selector=LABELS, podMetricsEndpoints=_list(ENDPOINT)
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _object(
        groups=_list(_object(("name",), name=TEXT, rules=_list(ALERT)))
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): _object(
        parentRefs=_list(_object(("name",), name=TEXT, namespace=TEXT)),
        hostnames=_list(TEXT),
        rules=_list(
            _object(
                matches=_list(
                    _object(path=_object(type=_one_of("Exact", "PathPrefix"), value=TEXT)),
                ),
                backendRefs=_list(_object(("name",), name=TEXT, port=NUMBER)),
            )
        ),
    ),
}
"""apiVersion and kind → JSON schema of the `spec`."""
