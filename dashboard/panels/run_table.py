"""The table of runs as data: its columns, what the address chooses, its rows in order and in groups. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from dashboard import form
from dashboard.address import Address, run_link
from dashboard.controls import patched
from dashboard.grids import column, spark
from dashboard.panels.config import flat

STATES = ("running", "completed", "failed", "cancelled", "lost")
SILENT_MS = 10_000
DEFAULT_SORT = "-Started"
SPARK = (58, 18)
NOTHING = "(none)"

GROUPS = {
    "none": "No groups",
    "project": "Project",
    "tag": "Tag",
    "env_id": "Environment",
    "algorithm": "Algorithm",
    "status": "Status",
    "host": "Host",
}
"""What runs can be grouped by, beside the keys of their configurations."""

Run = Mapping[str, Any]
Key = Callable[[Run], Any]


class Column(NamedTuple):
    """A column of the table of runs."""

    field: str
    name: str
    width: int
    key: Key
    """What it is sorted by."""
    right: bool = False
    chosen: bool = True
    """Whether it is there where nobody has chosen columns."""
    renderer: str = ""
    flex: int = 0


def _word(name: str) -> Key:
    return lambda run: str(run.get(name) or "").lower()


def _count(name: str) -> Key:
    return lambda run: run.get(name) or 0


def lasts(run: Run) -> float:
    """How long a run has lasted, ms."""
    started = run.get("started_at") or 0
    end = time.time() * 1000 if run["status"] == "running" else run.get("ended_at") or run.get("last_seen_at")
    return max((end or started) - started, 0)


def named(run: Run) -> str:
    """A run's name; without one its id."""
    return str(run.get("name") or run["run_id"])


def _mean(run: Run) -> float:
    value = run.get("mean_return")
    return float("-inf") if value is None else float(value)


STARTED = Column("started", "Started", 88, _count("started_at"), True)
COLUMNS = (
    Column("words", "Status", 116, lambda run: STATES.index(run["status"]), renderer="Status"),
    Column("name", "Run", 146, lambda run: named(run).lower(), renderer="Link", flex=2),
    Column("project", "Project", 110, _word("project"), chosen=False),
    Column("env_id", "Environment", 122, _word("env_id")),
    Column("algorithm", "Algorithm", 98, _word("algorithm")),
    Column("tags", "Tags", 120, lambda run: run.get("tags") or [], chosen=False),
    Column("agents", "Agents", 146, _count("agents"), renderer="Link", flex=2),
    Column("steps", "Steps", 76, _count("steps"), True),
    Column("episodes", "Episodes", 80, _count("episodes"), True),
    Column("rate", "Steps/s", 70, _count("steps_per_second"), True),
    Column("return", "Return", 128, _mean, True, renderer="Sparkline"),
    STARTED,
    Column("duration", "Duration", 92, lasts, True),
    Column("metrics", "Metrics", 84, _count("metrics"), True, False),
    Column("dead_letters", "Dead letters", 96, _count("dead_letters"), True, False),
    Column("host", "Host", 110, _word("host"), chosen=False),
    Column("git_commit", "Commit", 96, _word("git_commit"), chosen=False),
    Column("run_id", "Id", 150, _word("run_id"), chosen=False),
)


class Choice(Struct, frozen=True):
    """What the address says about the table."""

    words: tuple[str, ...] = ()
    status: str = ""
    sort: str = DEFAULT_SORT
    group: str = ""
    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, address: Address) -> Choice:
        """From an address, whoever wrote it."""
        return cls(
            words=tuple(address.get("q").lower().split()),
            status=address.get("status"),
            sort=address.get("sort") or DEFAULT_SORT,
            group=_group(address.get("group")),
            columns=tuple(address.all("column")),
        )

    def shown(self) -> list[Column]:
        """The columns, in the table's order; keys of the configuration after them."""
        if not self.columns:
            return [one for one in COLUMNS if one.chosen]
        known = [one for one in COLUMNS if one.field in self.columns]
        return known + [config_column(name) for name in self.columns if name.startswith("config.")]


def _group(name: str) -> str:
    return name if (name in GROUPS and name != "none") or name.startswith("config.") else ""


def config_column(field: str) -> Column:
    """A column of one key of the runs' configurations."""
    key = field.removeprefix("config.")
    return Column(field, key, 110, lambda run: _sortable(run["config_keys"].get(key)))


def _sortable(text: str | None) -> tuple[int, float, str]:
    try:
        return 1, float(text or ""), ""
    except ValueError:
        return (0, 0.0, text or "")


def definitions(choice: Choice) -> list[dict[str, Any]]:
    """The columns for AG Grid; a click on a head sorts by the address."""
    made = []
    for one in choice.shown():
        by = {one.name: "asc", f"-{one.name}": "desc"}.get(choice.sort, "")
        patch = patched(sort=one.name if by == "desc" else f"-{one.name}")
        more: dict[str, Any] = {
            "headerComponent": "SortHead",
            "headerComponentParams": {"patch": patch, "by": by},
        }
        if one.renderer:
            more["cellRenderer"] = one.renderer
        if one.right:
            more["type"] = "rightAligned"
        if one.flex:
            more |= {"flex": one.flex, "minWidth": one.width}
        made.append(column(one.field.replace(".", "·"), one.name, one.width, **more))
    return made


def matching(runs: Iterable[Run], choice: Choice) -> list[Run]:
    """Runs with all the words, of any status."""
    return [run for run in runs if all(word in _words(run) for word in choice.words)]


def _words(run: Run) -> str:
    names = ("run_id", "name", "project", "env_id", "algorithm", "status")
    return " ".join([*(str(run.get(name) or "") for name in names), *(run.get("tags") or ())]).lower()


def ordered(runs: Sequence[Run], choice: Choice) -> list[Run]:
    """Of the chosen status, sorted; the newest first among equals."""
    down, name = choice.sort.startswith("-"), choice.sort.removeprefix("-")
    columns = [*COLUMNS, *choice.shown()]
    by = next((one for one in columns if one.name == name), STARTED)
    kept = sorted(
        (run for run in runs if choice.status in ("", run["status"])), key=lambda run: run["run_id"]
    )
    return sorted(kept, key=by.key, reverse=down)


def grouped(runs: Sequence[Run], choice: Choice, now: float) -> list[dict[str, Any]]:
    """Rows of the table in order: with groups, a head over the runs of each. `now`: ms since 1970."""
    if not choice.group:
        return [row(run, choice, now) for run in runs]
    groups: dict[str, list[Run]] = {}
    for run in runs:
        for name in group_of(run, choice.group):
            groups.setdefault(name, []).append(run)
    rows: list[dict[str, Any]] = []
    for name, members in groups.items():
        rows.append({"key": f"group {name}", "group": True, "name": f"{name} ({len(members)})"})
        rows += [row(run, choice, now) | {"key": f"{name} {run['run_id']}"} for run in members]
    return rows


def group_of(run: Run, group: str) -> list[str]:
    """The groups of a run: of a tag, one for each."""
    if group == "tag":
        return list(run.get("tags") or [NOTHING])
    if group.startswith("config."):
        return [run["config_keys"].get(group.removeprefix("config."), NOTHING)]
    return (
        [str(run.get(group) or NOTHING)]
        if group in ("project", "env_id", "algorithm", "status", "host")
        else [""]
    )


def row(run: Run, choice: Choice, now: float) -> dict[str, Any]:
    """A run as the table shows it. `now`: ms since 1970."""
    status, words = _status(run, now)
    text = form.number(run.get("mean_return"))
    path = spark(run.get("curve") or run.get("returns") or (), *SPARK)
    made = {
        "key": run["run_id"],
        "run_id": run["run_id"],
        "status": status,
        "words": words,
        "reason": run.get("reason") or "",
        "name": named(run),
        "agents": _agents(run),
        "links": _links(run),
        "after": {"agents": _more(run)},
        "tags": ", ".join(run.get("tags") or ()),
        "rate": form.rate(run.get("steps_per_second")) if run["status"] == "running" else form.NONE,
        "return": f"{text} {path}",  # a cell is drawn again when its value is another one
        "text": text,
        "spark": path,
        "started": form.moment(run.get("started_at")),
        "duration": form.duration(lasts(run)),
        "git_commit": (run.get("git_commit") or form.NONE)[:10],
    }
    made |= {
        name: form.compact(run.get(name) or 0) for name in ("steps", "episodes", "metrics", "dead_letters")
    }
    made |= {name: run.get(name) or form.NONE for name in ("project", "env_id", "algorithm", "host")}
    keys = [name for name in choice.columns if name.startswith("config.")]
    return made | {name.replace(".", "·"): run["config_keys"].get(name[7:], form.NONE) for name in keys}


def _agents(run: Run) -> str:
    first = run.get("first_agent")
    return "" if first is None else f"Live-{first}-Training"


def _more(run: Run) -> str:
    """How many agents there are beside the first."""
    more = (run.get("agents") or 0) - 1
    return f" +{more}" if more > 0 else ""


def _links(run: Run) -> dict[str, str]:
    own = {"name": run_link(run["run_id"])}
    first = run.get("first_agent")
    return own if first is None else own | {"agents": run_link(run["run_id"], agent=first)}


def _status(run: Run, now: float) -> tuple[str, str]:
    silent = now - (run.get("last_seen_at") or 0)
    if run["status"] == "running" and silent > SILENT_MS:
        return "silent", f"silent {form.duration(silent)}"
    return run["status"], run["status"]


def with_keys(run: dict[str, Any]) -> dict[str, Any]:
    """A run with its configuration as dotted keys."""
    return run | {"config_keys": flat(run.get("config"))}


def config_keys(runs: Iterable[Run]) -> list[str]:
    """Keys of all configurations, those that differ first."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run["config_keys"].items():
            values.setdefault(key, set()).add(value)
    return sorted(values, key=lambda key: (len(values[key]) < 2, key))
