"""Facts about a run before its worker prints anything: host, command, git commit, packages."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

from stepstream._masking import masked

PACKAGES_MOST = 2000


def facts(command: list[str], folder: Path, secret_words: str = "") -> dict[str, Any]:
    """The payload of `run_started`; unknown facts are left out, secrets are masked."""
    return {
        "host": socket.gethostname(),
        "command": masked(command, secret_words),
        "cwd": str(folder),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        **_git(folder),
        "packages": _packages(command),
    }


def _git(folder: Path) -> dict[str, Any]:
    commit = _said(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _said(folder, "status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": commit,
        "git_branch": _said(folder, "rev-parse", "--abbrev-ref", "HEAD"),
        "git_dirty": bool(changed) if changed is not None else None,
    }


def _said(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=2, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


def _packages(command: list[str]) -> dict[str, str] | None:
    """Package versions of the worker's Python, read from its folder without starting it."""
    python = _python(command)
    if python is None:
        return None
    found: dict[str, str] = {}
    for site in sorted(python.parent.parent.glob("lib/python3*/site-packages")):
        for folder in site.glob("*.dist-info"):
            name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
            found[name] = version
    return dict(sorted(found.items())[:PACKAGES_MOST]) or None


def _python(command: list[str]) -> Path | None:
    from shutil import which  # noqa: PLC0415

    program = which(command[0])
    if program is None or not Path(program).name.startswith("python"):
        return None
    return Path(program)
