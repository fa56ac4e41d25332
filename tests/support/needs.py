"""What some tests need and not every machine has: each check returns why it is missing, or None."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PLAYWRIGHT = (Path.home() / ".cache/ms-playwright", Path.home() / "Library/Caches/ms-playwright")


@functools.cache
def docker() -> str | None:
    """Why there is no Docker engine to ask."""
    import docker as client

    try:
        client.from_env(timeout=5).ping()
    except client.errors.DockerException as error:
        return f"no Docker engine answers: {str(error)[:120]}"
    return None


def chromium() -> str | None:
    """Why there is no browser."""
    if chromium_path() is None:
        return "no Chromium: install one, or `python -m playwright install chromium`"
    return None


@functools.cache
def chromium_path() -> str | None:
    """The first Chromium of the PATH, else Playwright's own."""
    for name in CHROMIUM:
        if found := shutil.which(name):
            return found
    for folder in PLAYWRIGHT:
        for path in sorted(folder.glob("chromium-*/chrome-*/*")):
            if path.name in ("chrome", "Chromium.app"):
                return str(path if path.is_file() else path / "Contents/MacOS/Chromium")
    return None


def promtool_missing() -> str | None:
    """Why Prometheus' own checks cannot run."""
    return None if promtool() else "no promtool: it is part of Debian's package prometheus"


def promtool() -> str | None:
    """The program that checks metrics and rules."""
    return shutil.which("promtool")


def fuse() -> str | None:
    """Why no file system can be mounted as a network disk is, though the kernel can."""
    lacking = [name for name in ("bindfs", "fusermount3") if shutil.which(name) is None]
    return f"no {' and no '.join(lacking)}: they are Debian's packages bindfs and fuse3" if lacking else None
