"""The SDK's settings in the environment. A missing or bad value is replaced by the default."""

from __future__ import annotations

import os
import sys


class Settings:
    """One process's settings from its environment."""

    home: str
    """Folder of all data."""
    spool_dir: str
    """Folder with a folder for each stream."""
    run_id: str | None
    """The run that `stepstream run --run-id` named."""
    agent_id: str | None
    """The agent of lines that name none."""
    parent_stream: str | None
    """The stream of the `stepstream run` that started this process."""
    flush_interval: float
    """Seconds until logged events are on disk."""
    frames_per_second: float
    """Pictures of each agent per second, at most; the newest is sent."""
    segment_bytes: int
    """Size at which the spool starts a new file."""
    disabled: bool
    """True: nothing is written."""

    def __init__(self) -> None:
        get = os.environ.get
        self.home = os.path.expanduser(get("STEPSTREAM_HOME") or default_home())
        self.spool_dir = os.path.expanduser(get("STEPSTREAM_SPOOL_DIR") or os.path.join(self.home, "spool"))
        self.run_id = get("STEPSTREAM_RUN_ID") or None
        self.agent_id = get("STEPSTREAM_AGENT_ID") or None
        self.parent_stream = get("STEPSTREAM_PARENT_STREAM") or None
        self.flush_interval = _positive("STEPSTREAM_FLUSH_INTERVAL", 0.02)
        self.frames_per_second = _positive("STEPSTREAM_FRAMES_PER_SECOND", 10.0)
        self.segment_bytes = int(_positive("STEPSTREAM_SPOOL_SEGMENT_BYTES", 64 << 20))
        self.disabled = get("STEPSTREAM_MODE", "").strip().lower() == "disabled"


def default_home() -> str:
    """The user's data folder, the same as platformdirs', which the server uses."""
    if os.environ.get("XDG_DATA_HOME", "").strip():
        return os.path.join(os.environ["XDG_DATA_HOME"].strip(), "stepstream")
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Application Support/stepstream")
    if sys.platform == "win32":
        return os.path.join(os.environ.get("LOCALAPPDATA") or os.path.expanduser("~"), "stepstream")
    return os.path.expanduser("~/.local/share/stepstream")


def _positive(name: str, default: float) -> float:
    try:
        value = float(os.environ.get(name, default))
    except ValueError:
        return default
    return value if value > 0 else default


def fallback_spool_dir() -> str:
    """The folder of spools if the usual one cannot be written."""
    import tempfile

    user = os.getuid() if hasattr(os, "getuid") else "user"
    return os.path.join(tempfile.gettempdir(), f"stepstream-{user}", "spool")
