"""What other trackers wrote, as lines: an importer is an iterator of dicts that `ingest` could have read.

`find` tells by a file's name and head which importer reads it:

| file | of |
|---|---|
| `events.out.tfevents.*` | TensorBoard; a folder is a run |
| `run-*.wandb` | Weights & Biases, offline |
| `*monitor.csv` | Stable-Baselines3's and Gymnasium's Monitor |
| `result.json` | RLlib, Ray Tune |
| a SQLite file | Trackio, MLflow |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from producers.importers import databases, monitor, rllib, tensorboard, wandb
from schemas.errors import UsageError

Lines = Iterator[dict[str, Any]]

SQLITE = b"SQLite format 3\0"
_BY_NAME: dict[str, Callable[[Path], Lines]] = {
    "*.wandb": wandb.lines,
    "*monitor.csv": monitor.lines,
    "result.json": rllib.lines,
}


def find(path: Path) -> list[tuple[str, Lines]]:
    """Every run below a file or folder: where it is, and its lines.

    Raises:
        UsageError: there is nothing that an importer reads.
    """
    if not path.exists():
        raise UsageError(f"There is no file or folder {path}.")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    folders = dict.fromkeys(file.parent for file in files if tensorboard.is_event_file(file))
    found = [(str(folder), tensorboard.lines(folder)) for folder in folders]
    for file in files:
        found += [(str(file), reader()) for reader in _readers(file)]
    if not found:
        raise UsageError(
            f"Nothing in {path} is of a tracker that `import` knows: TensorBoard event files, W&B offline "
            "folders, Monitor CSV, RLlib's result.json, SQLite files of Trackio and MLflow."
        )
    return found


def _readers(file: Path) -> list[Callable[[], Lines]]:
    for pattern, reader in _BY_NAME.items():
        if fnmatch(file.name, pattern):
            return [partial(reader, file)]
    with file.open("rb") as opened:
        if opened.read(len(SQLITE)) == SQLITE:
            return databases.readers(file)
    return []
