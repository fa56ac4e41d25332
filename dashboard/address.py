"""The address of a page is its state: what it says, and the links that change a part of it. Pure.

/                       q, status, sort
/compare                runs, of, x, group, smooth; left, right, align, along, shift
/runs/<run id>          panel, agent, episode, at, table, rows, metric (repeated), q, and panels' options;
                        of the time bar: axis, zoom, speed, loop, behind, follow
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from msgspec import Struct

MAX_ADDRESS = 16_384
MAX_COMPARED = 100
"""Runs on one page."""
NO_FOLDER = ";"
"""Stands behind an id of dots alone: a browser takes `.` and `..` for folders, also where they are quoted.
A semicolon of an id is quoted, so no other run has this address."""


class Address(Struct, frozen=True):
    """A page's path and its query, in order."""

    path: str = "/"
    query: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, url: str) -> Address:
        """The address in a URL from anybody; text that is no address is the home page."""
        try:
            parts = urlsplit(url[:MAX_ADDRESS])
            return cls(parts.path or "/", tuple(parse_qsl(parts.query, max_num_fields=500)))
        except ValueError:
            return cls()

    @property
    def run(self) -> str | None:
        """The run whose page it is."""
        head, runs, rest = self.path.partition("/runs/")
        return unquote(rest.rstrip("/").removesuffix(NO_FOLDER)) or None if not head and runs else None

    def get(self, name: str, default: str = "") -> str:
        """The first value of a name."""
        return next((value for key, value in self.query if key == name), default)

    def all(self, name: str) -> list[str]:
        """Every value of a name."""
        return [value for key, value in self.query if key == name]

    def flag(self, name: str) -> bool:
        """Whether a name is set; `0` is off."""
        return self.get(name) not in ("", "0")

    def number(self, name: str) -> int | None:
        """A whole number; None where there is none."""
        text = self.get(name)
        digits = text.removeprefix("-")
        return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None

    def to(self, **changes: Any) -> str:
        """The link to the same page with parts of its query replaced; None leaves one out."""
        kept = [(key, value) for key, value in self.query if key not in changes]
        for key, value in changes.items():
            values = value if isinstance(value, list | tuple) else [value]
            kept += [(key, str(one)) for one in values if one is not None and one != ""]
        return self.path + (f"?{urlencode(kept, quote_via=quote)}" if kept else "")

    def search(self, **changes: Any) -> str:
        """The same link's query, for `dcc.Location`: from its "?" on, or nothing."""
        return self.to(**changes)[len(self.path) :]


def run_link(run_id: str, **query: Any) -> str:
    """The link to a run's page."""
    end = NO_FOLDER if not run_id.strip(".") else ""
    return Address(f"/runs/{quote(run_id, safe='')}{end}").to(**query)


def chosen_runs(address: Address) -> list[str]:
    """The runs that an address compares, each once, at most a hundred."""
    values = address.all("runs")
    named = values if len(values) > 1 else "".join(values).split(",")
    return list(dict.fromkeys(filter(None, named)))[:MAX_COMPARED]


def compare_link(run_ids: list[str]) -> str:
    """The link to the page of these runs: `?runs=A,B`, or one part each where an id has a comma."""
    if any("," in run_id for run_id in run_ids):
        return Address("/compare").to(runs=run_ids)
    return Address("/compare").to(runs=",".join(run_ids)).replace("%2C", ",")
