"""Checks of folders for data and caches, before anything is written into them."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from schemas.errors import StepstreamError

FREE_BYTES = 200 * 1024 * 1024
"""With less free space than this, Kafka would start and halt at its first full segment."""


def check_room(folder: Path) -> None:
    """Make the folder, and check its free space.

    Raises:
        StepstreamError: it cannot be made or written, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        status = os.statvfs(folder)
    except OSError as error:
        raise StepstreamError(
            f"{folder} cannot be used ({error.strerror}): set STEPSTREAM_HOME to a folder that you can write."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StepstreamError(f"{folder} cannot be written: set STEPSTREAM_HOME to a folder of your own.")
    if (free := status.f_bavail * status.f_frsize) < FREE_BYTES:
        raise StepstreamError(
            f"The disk is full: {free // 1024**2} MB are free at {folder}, and the local stack needs "
            f"{FREE_BYTES // 1024**2} MB to begin with. Free some, or set STEPSTREAM_HOME to another disk."
        )


def sweep(folder: Path, prefix: str, older_than: float = 0.0) -> None:
    """Remove temporary folders of killed programs that did not change for so many seconds."""
    for left in folder.glob(f"{prefix}*"):
        if time.time() - left.stat().st_mtime >= older_than:
            shutil.rmtree(left, ignore_errors=True)
