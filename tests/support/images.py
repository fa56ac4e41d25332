"""Our images, built once, and containers of them."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra" / "deploy" / "Dockerfile"
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


def docker(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run `docker …` to its end."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout)


@functools.cache
def built(target: str) -> str:
    """Build an image of ours once and return its tag."""
    tag = f"stepstream-test:{target}"
    file = ("-f", str(DOCKERFILE), "--target", target, "-t", tag)
    # The package mirror of a machine may be reachable from the host's network alone.
    done = docker("build", "--quiet", "--network", "host", *file, str(ROOT))
    assert done.returncode == 0, done.stderr[-3000:]
    return tag


def inspected(tag: str) -> dict[str, Any]:
    """What Docker knows about an image or a container."""
    [found] = json.loads(docker("inspect", tag).stdout)
    return dict(found)


class Container:
    """One container of an image, in the background; it is removed at the end.

    Args:
        options: of `docker run`.
        command: arguments of the image's entry point.
    """

    def __init__(self, image: str, *command: str, options: tuple[str, ...] = ()) -> None:
        done = docker(
            "run", "--detach", "--label", "org.testcontainers.lang=python", *options, image, *command
        )
        assert done.returncode == 0, done.stderr
        self.name = done.stdout.strip()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        docker("rm", "--force", "--volumes", self.name)

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return docker("exec", self.name, *command)

    def logs(self) -> str:
        """What the container printed, on both streams."""
        done = docker("logs", self.name)
        return done.stdout + done.stderr

    def stop(self, seconds: int = 30) -> int:
        """Stop the container by SIGTERM and return its exit code, 137 if it did not end in time."""
        docker("stop", "--timeout", str(seconds), self.name)
        return int(inspected(self.name)["State"]["ExitCode"])
