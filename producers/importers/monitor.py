"""Monitor's CSV, of Stable-Baselines3 and old Gym: a comment with JSON, then `r,l,t` for each episode."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from producers.importers.lines import Line, ended, iso, started
from schemas.errors import UsageError


def lines(file: Path) -> Iterator[Line]:
    """A run, named after the folder and the file.

    Raises:
        UsageError: the file does not begin as Monitor's do.
    """
    name = file.name.removesuffix("monitor.csv").strip(".") or file.resolve().parent.name
    with file.open(newline="", encoding="utf-8", errors="replace") as opened:
        head = opened.readline()
        try:
            about = json.loads(head.removeprefix("#"))
            begin = float(about["t_start"])
        except (ValueError, KeyError, TypeError):
            raise UsageError(
                f'{file} does not begin with Monitor\'s line (#{{"t_start": …}}): it cannot be imported.'
            ) from None
        yield started(name, iso(begin), name=name, env_id=about.get("env_id"))
        last = begin
        for number, row in enumerate(csv.DictReader(opened)):
            last = begin + float(row.pop("t") or 0)
            yield {
                "type": "episode",
                "ts": iso(last),
                "run_id": name,
                "episode_index": number,
                "episode_return": float(row.pop("r") or "nan"),
                "episode_length": int(float(row.pop("l") or 0)),
                "elapsed": round(last - begin, 6),
                "metrics": _numbers(row),
            }
        yield ended(name, iso(last))


def _numbers(row: dict[str, str]) -> Line:
    """Further columns: Monitor's `info_keywords`."""
    numbers = {}
    for name, text in row.items():
        try:
            numbers[name] = float(text)
        except (TypeError, ValueError):
            continue
    return numbers
