"""Writes what the chart takes from the code: settings and rights, and the README's table of values.

`python -m infra.deploy.chart`, or `make chart`; a test holds the files to it.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import yaml

from infra.settings import TABLES, Settings
from schemas.rights import RIGHTS
from schemas.topics import SPECS

CHART = Path(__file__).parent / "helm"
MARKER = "<!-- values -->\n"
DECIDED = ("home", "spool_dir", "metrics_port", "metrics_host", "dashboard_host", "dashboard_port")
"""Settings that the chart itself decides."""


def rights() -> str:
    """Topics with their settings, users with their operations, by Strimzi's names."""
    users = {
        service: {
            "topics": {kind: sorted(map(_operation, names)) for kind, names in allowed.topics.items()},
            "group": allowed.group,
        }
        for service, allowed in RIGHTS.items()
    }
    topics = {spec.kind: spec.config for spec in SPECS}
    return json.dumps({"topics": topics, "users": users}, indent=2) + "\n"


def _operation(name: str) -> str:
    """`DESCRIBE_CONFIGS` is `DescribeConfigs`."""
    return name.title().replace("_", "")


def schema() -> str:
    """JSON schema of the values; what `settings` may hold is what the program's settings may be."""
    found = json.loads((CHART / "values.schema.json").read_text())
    found["$defs"]["settings"] = _of_settings()
    return json.dumps(found, indent=2) + "\n"


def _of_settings() -> dict[str, Any]:
    types = get_type_hints(Settings, include_extras=True)
    plain = [item for item in fields(Settings) if not item.metadata["secret"] and item.name not in TABLES]
    own = {item.name: _of_type(types[item.name]) for item in plain if item.name not in DECIDED}
    through = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": own | dict.fromkeys(TABLES, through),
    }


def _of_type(kind: Any) -> dict[str, Any]:
    if kind is Path:
        return {"type": "string"}
    found = msgspec.json.schema(kind)
    if get_origin(kind) is not None and get_args(kind)[0] is float:
        found["type"] = "number"
    found.pop("description", None)
    return found


def readme() -> str:
    """The chart's README with its table of values."""
    text = (CHART / "README.md").read_text().partition(MARKER)[0]
    rows = [f"| `{name}` | `{_shown(value)}` | {said} |" for name, value, said in values()]
    return "\n".join([f"{text}{MARKER}", "| value | default | is |", "|---|---|---|", *rows, ""])


def _shown(value: Any) -> str:
    return json.dumps(value).replace("|", "\\|")


def values() -> list[tuple[str, Any, str]]:
    """Each value that has a comment in values.yaml: its dotted name, its default and the comment."""
    text = (CHART / "values.yaml").read_text()
    defaults = yaml.safe_load(text)
    found, said, above = [], "", ""
    for line in text.splitlines():
        if comment := re.match(r" *# (.*)", line):
            said = f"{said} {comment[1]}".strip()
            continue
        if key := re.match(r"( *)(\w+):", line):
            name = f"{above}.{key[2]}" if key[1] else key[2]
            above = above if key[1] else key[2]
            if said:
                found.append((name, _at(defaults, name), said))
        said = ""
    return [entry for entry in found if not (isinstance(entry[1], dict) and _has_own(entry[0], found))]


def _has_own(name: str, found: list[tuple[str, Any, str]]) -> bool:
    return any(other.startswith(f"{name}.") for other, _, _ in found)


def _at(tree: Any, name: str) -> Any:
    for key in name.split("."):
        tree = tree[key]
    return tree


def main() -> None:
    """Write them."""
    for name, make in FILES.items():
        (CHART / name).write_text(make())


FILES = {"files/rights.json": rights, "values.schema.json": schema, "README.md": readme}
"""What is written, by what."""

if __name__ == "__main__":
    main()
