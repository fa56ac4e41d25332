"""The settings, commands and files that the deployment files and their pages name exist."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from cli.main import COMMANDS
from infra.settings import PREFIX, Settings

ROOT = Path(__file__).parents[3]
FILES = [
    "infra/deploy/Dockerfile",
    "infra/deploy/compose/compose.yaml",
    "infra/deploy/helm/README.md",
    "docs/deploy.md",
    "docs/kubernetes.md",
    "docs/security.md",
    *(f"docs/security/{path.name}" for path in sorted((ROOT / "docs/security").glob("*.md"))),
    "docs/metrics.md",
    "docs/replay.md",
]
SETTINGS = {PREFIX + field.name.upper() for field in fields(Settings)} | {"STEPSTREAM_CONFIG"}


@pytest.mark.parametrize("name", FILES)
def test_every_setting_that_is_named_exists(name: str) -> None:
    """Each named setting exists; names that pass through to Kafka are not checked."""
    named = set(re.findall(r"STEPSTREAM_[A-Z0-9_]*[A-Z0-9](?!\w|_\*)", (ROOT / name).read_text()))
    assert {
        word for word in named - SETTINGS if not word.startswith(("STEPSTREAM_KAFKA", "STEPSTREAM_TOPICS_"))
    } == set()


@pytest.mark.parametrize("name", FILES)
def test_every_command_that_is_named_exists(name: str) -> None:
    """Each `stepstream WORD` in a page and each first argument in a manifest is a command."""
    text = (ROOT / name).read_text()
    words = re.findall(r"`stepstream ([a-z]+)|^stepstream ([a-z]+)|\| stepstream ([a-z]+)", text, re.M)
    arguments = re.findall(r'^\s*(?:args|command|CMD): \["?([a-z]+)', text, re.M)
    named = {word for group in words for word in group if word} | set(arguments)
    assert named - {"python"} <= set(COMMANDS)
    assert named or name.endswith("Dockerfile") or "security/" in name
