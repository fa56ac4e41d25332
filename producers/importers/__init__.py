"""Reads what other trackers wrote: an importer yields lines as dicts, as `ingest` could read them.

`find` chooses the importer by a file's name and first bytes:

| file | of |
|---|---|
| `events.out.tfevents.*` | TensorBoard; a folder is a run |
| `run-*.wandb` | Weights & Biases, offline |
| `*monitor.csv` | Stable-Baselines3's and Gymnasium's Monitor |
| `result.json` | RLlib, Ray Tune |
| a SQLite file | Trackio, MLflow |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from producers.importers import databases, monitor, rllib, tensorboard, wandb
from producers.importers.source import Source
from schemas.errors import StepstreamError, UsageError

SQLITE = b"SQLite format 3\0"
_BY_NAME: dict[str, Callable[[Path], Source | None]] = {
    "*.wandb": wandb.source,
    "*monitor.csv": monitor.source,
    "result.json": rllib.source,
}


@dataclass
class Found:
    """What `find` found.

    Args:
        sources: the runs, each once.
        bad: file that cannot be read → the reason.
        remarks: what is left out, and why.
    """

    sources: list[Source] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def find(*paths: Path) -> Found:
    """Every run below files or folders.

    Raises:
        UsageError: there is nothing that an importer reads.
    """
    found = Found()
    for path in paths:
        before = len(found.sources), len(found.bad)
        if not path.exists():
            raise UsageError(f"There is no file or folder {path}.")
        _look(path.resolve(), found)
        if (len(found.sources), len(found.bad)) == before:
            raise UsageError(
                f"Nothing in {path} is of a tracker that `import` knows: TensorBoard event files, W&B "
                "offline folders, Monitor CSV, RLlib's result.json, SQLite files of Trackio and MLflow."
                + "".join(f" {remark}" for remark in found.remarks)
            )
    if not found.sources:
        raise UsageError(" ".join(found.bad.values()))
    found.sources = list({source.key: source for source in found.sources}.values())
    return found


def _look(path: Path, found: Found) -> None:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    folders = dict.fromkeys(file.parent for file in files if tensorboard.is_event_file(file))
    found.sources += [tensorboard.source(folder) for folder in folders]
    for file in files:
        try:
            found.sources += _sources(file, found.remarks)
        except StepstreamError as error:
            found.bad[str(file)] = str(error)
        except OSError as error:
            found.bad[str(file)] = f"{file} cannot be read: {error.strerror or error}."


def _sources(file: Path, remarks: list[str]) -> Iterable[Source]:
    for pattern, source in _BY_NAME.items():
        if fnmatch(file.name, pattern):
            found = source(file)
            if found is None:
                remarks.append(f"{file} is none of a tracker's: left out.")
            return [found] if found else []
    with file.open("rb") as opened:
        if opened.read(len(SQLITE)) == SQLITE:
            return databases.sources(file, remarks)
    return []
