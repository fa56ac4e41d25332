"""`python -m benchmarks [NAME…]`: the table on the terminal, and as JSON in bench.json."""

from __future__ import annotations

import inspect
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Row, Unmeasured

HERE = Path(__file__).parent
OUTPUT = Path("bench.json")


def rows() -> Iterator[tuple[str, Callable[[], Row]]]:
    """Every row by its name, `module.function`."""
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
    """Run the rows asked for, all without any; returns the exit code."""
    known = dict(rows())
    chosen = {n: f for n, f in known.items() if not wanted or n in wanted or n.partition(".")[0] in wanted}
    console = Console()
    if not chosen:
        console.print(f"No row is named {' '.join(wanted)}. There are: {' '.join(known)}")
        return 2
    results: dict[str, dict[str, object]] = {}
    table = Table("row", "what", "rate", "limit", "ratio", "peer", "× peer", "spread", "goal", "s")
    for name, function in chosen.items():
        start = time.monotonic()
        console.print(f"[dim]measuring {name}[/dim]", highlight=False)
        try:
            row = function()
        except Unmeasured as reason:
            results[name] = {"unmeasured": str(reason)}
            table.add_row(name, f"not measured: {reason}")
            continue
        seconds = time.monotonic() - start
        results[name] = asdict(row) | {"ratio": row.ratio, "peer_ratio": row.peer_ratio, "seconds": seconds}
        table.add_row(name, row.what, *_cells(row), f"{seconds:.0f}")
    console.print(table)
    OUTPUT.write_text(json.dumps({"python": platform.python_version(), "rows": results}, indent=2) + "\n")
    console.print(f"as JSON: {OUTPUT}")
    return 0


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row.rate:,.4g} {row.unit}",
        f"{row.limit:,.4g} {row.limit_name}" if row.limit else "",
        f"{row.ratio:.2f}" if row.ratio else "",
        f"{row.peer:,.4g} {row.peer_name}" if row.peer else row.peer_name,
        f"{row.peer_ratio:.1f}" if row.peer_ratio else "",
        f"{row.spread:.0%}" if row.spread is not None else "",
        row.goal,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
