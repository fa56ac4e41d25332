"""Facts about a program: host, command, git commit. Starts no other program."""

from __future__ import annotations

import os
import sys


def facts() -> dict[str, object]:
    """For `run_started`; unknown facts are left out."""
    from stepstream._masking import masked
    from stepstream._version import __version__

    known = {
        "host": os.uname().nodename if hasattr(os, "uname") else None,
        "pid": os.getpid(),
        "command": masked(getattr(sys, "orig_argv", sys.argv), os.environ.get("STEPSTREAM_SECRET_WORDS", "")),
        "python": sys.version.split()[0],
        "sdk_version": __version__,
        "git_commit": git_commit(),
    }
    return {name: value for name, value in known.items() if value is not None}


def git_commit() -> str | None:
    """The commit of the repository around the working folder, read from its files."""
    try:
        folder = os.getcwd()
        while not os.path.exists(os.path.join(folder, ".git")):
            above = os.path.dirname(folder)
            if above == folder:
                return None
            folder = above
        return _head(_git_folder(os.path.join(folder, ".git")))
    except (OSError, UnicodeDecodeError):
        return None


def _git_folder(path: str) -> str:
    """A work tree or a submodule has a file there, which names the folder."""
    if os.path.isdir(path):
        return path
    return os.path.join(os.path.dirname(path), _read(path).partition("gitdir: ")[2])


def _head(folder: str) -> str | None:
    head = _read(os.path.join(folder, "HEAD"))
    if not head.startswith("ref: "):
        return head or None
    name = head[5:]
    common = os.path.join(folder, "commondir")  # a second work tree: its branches are in the first
    if os.path.exists(common):
        folder = os.path.join(folder, _read(common))
    if os.path.exists(os.path.join(folder, name)):
        return _read(os.path.join(folder, name))
    packed = _read(os.path.join(folder, "packed-refs")).splitlines()
    return next((line.split()[0] for line in packed if line.endswith(" " + name)), None)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()
