"""`python -m benchmarks [NAME…]` prints each row when it is measured, and writes all to bench.json."""

from __future__ import annotations

import inspect
import json
import platform
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from benchmarks.harness import Row, Unmeasured

HERE = Path(__file__).parent
OUTPUT = Path("bench.json")
_columns = "{:33} {:>16} {:>6} {:>6} {:>6} {:>5}".format


def rows() -> Iterator[tuple[str, Callable[[], Row]]]:
    """Yield the name, `module.function`, and the function of every row."""
    for module in sorted(info.name for info in iter_modules([str(HERE)])):
        if module in ("__main__", "harness"):
            continue
        loaded = import_module(f"benchmarks.{module}")
        for name, function in vars(loaded).items():
            own = inspect.isfunction(function) and function.__module__ == loaded.__name__
            if (
                own
                and not name.startswith("_")
                and inspect.get_annotations(function, eval_str=True).get("return") is Row
            ):
                yield f"{module}.{name}", function


def main(wanted: list[str]) -> int:
    """Run the named rows, or all rows without a name; return the exit code."""
    known = dict(rows())
    chosen = {n: f for n, f in known.items() if not wanted or n in wanted or n.partition(".")[0] in wanted}
    if not chosen:
        print(f"No row is named {' '.join(wanted)}. There are: {' '.join(known)}")
        return 2
    results: dict[str, dict[str, object]] = {}
    began = time.monotonic()
    print(_columns("row", "measured", "limit", "peer", "spread", "s"), flush=True)
    for name, function in chosen.items():
        start = time.monotonic()
        try:
            row = function()
        except Unmeasured as reason:
            results[name] = {"unmeasured": str(reason)}
            print(name, *_beneath(f"Not measured: {reason}."), sep="\n", flush=True)
            continue
        seconds = time.monotonic() - start
        results[name] = asdict(row) | {"ratio": row.ratio, "peer_ratio": row.peer_ratio, "seconds": seconds}
        print(_measured(name, row, seconds), *_beneath(_words(row)), sep="\n", flush=True)
    OUTPUT.write_text(json.dumps({"python": platform.python_version(), "rows": results}, indent=2) + "\n")
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"{len(chosen)} row(s) in {minutes} min {seconds} s; as JSON: {OUTPUT}")
    return 0


def _measured(name: str, row: Row, seconds: float) -> str:
    return _columns(
        name,
        f"{_number(row.rate)} {row.unit}",
        f"{row.ratio:.2f}" if row.ratio else "",
        f"{row.peer_ratio:.1f}" if row.peer_ratio else "",
        f"{row.spread:.0%}" if row.spread is not None else "",
        f"{seconds:.0f}",
    )


def _words(row: Row) -> str:
    """Return what was measured, what the limit and the peer are, and the goal."""
    said = [row.what]
    said += [f"Limit: {row.limit_name} ({_number(row.limit)})"] if row.limit else []
    said += [f"Peer: {row.peer_name} ({_number(row.peer)})"] if row.peer else []
    said += [f"Goal: {row.goal}"] if row.goal else []
    said += [row.note[0].upper() + row.note[1:]] if row.note else []
    return ". ".join(said) + "."


def _beneath(text: str) -> list[str]:
    """Wrap text to the width of the terminal, at most 100 columns."""
    width = shutil.get_terminal_size((100, 24)).columns
    return textwrap.wrap(text, min(width, 100), initial_indent="  ", subsequent_indent="  ")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
