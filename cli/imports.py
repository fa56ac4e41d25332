"""`stepstream import`: runs that other trackers wrote, shipped as if they were live."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import click

from cli.ingest import Session
from cli.waiting import not_acknowledged, print_summary, say
from infra import log as logs
from infra import settings as settings_module
from infra.kafka.client import client_config
from infra.settings import Settings
from infra.sql.known_runs import KnownRuns
from producers.forward.stream import Stream
from producers.importers import Found, find
from producers.importers.lines import UNREADABLE, Line
from producers.importers.source import Source, best_names
from producers.ledger import Entry, Ledger, digest
from producers.lines.context import NO_AGENT
from producers.lines.normalise import AGENT_NAMES
from producers.spool.format import Checkpoint
from schemas.errors import StepstreamError

LINES = 1000
"""Lines of one chunk."""
COMPARED = 20
"""First lines that are compared to see whether a run at another place is the same."""


class Importing(Session):
    """All runs are one stream; each line names its run and has the SDK's form."""

    writer = "import"


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(path_type=Path))
@click.option("--run-id", help="Name of the run, where PATH holds one. Default: the tracker's own.")
@click.option("--agent-id", help="The agent of the runs.")
@click.option("--again", is_flag=True, help="Import again what was imported before, as further rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--timeout", type=float, help="Give up after so many seconds; the lines stay in the spool.")
def imports(
    paths: tuple[Path, ...],
    run_id: str | None,
    agent_id: str | None,
    *,
    again: bool,
    as_json: bool,
    timeout: float | None,
) -> int:
    """Import runs that other trackers wrote: files, or folders with such files.

    TensorBoard event files, W&B offline folders, Monitor CSV, RLlib's result.json, SQLite files of Trackio
    and MLflow. What was imported before is left out. Exit code 1: something of a file could not be used.
    """
    settings = settings_module.load()
    logs.configure(settings, "import")
    found = find(*paths)
    if run_id is not None and len(found.sources) > 1:
        raise click.UsageError(f"--run-id names one run, and there are {len(found.sources)}.")
    client_config(settings)  # fails at once if no Kafka is known
    for remark in found.remarks:
        say(remark)
    began = time.monotonic()
    given = Runs(settings, found, run_id, agent_id, again=again)
    session = Importing(settings, timeout, None, agent_id, follow=False)
    acknowledged = session.go([given])
    print_summary(session.shipping.totals(), time.monotonic() - began, as_json=as_json, err=False)
    say(f"{given.taken} run{'s' if given.taken != 1 else ''} imported.")
    for reason in given.faults.values():
        say(reason)
    if not acknowledged:
        raise not_acknowledged(settings)
    return 1 if given.faults else 0


class Runs:
    """The runs that were found, as an input of `ingest`."""

    name, live = "the runs", False
    before: Checkpoint | None = None

    def __init__(
        self, settings: Settings, found: Found, run_id: str | None, agent_id: str | None, *, again: bool
    ) -> None:
        self.faults = dict(found.bad)
        """File → a sentence about what could not be used."""
        self.taken = 0
        """Runs of which something was imported."""
        self._run_id, self._agent_id, self._again = run_id, agent_id, again
        self._known = KnownRuns(settings)
        self._ledger = Ledger(settings.home, self._known.deleted_us)
        self._owners: dict[str, list[Entry]] = defaultdict(list)
        for entry in self._ledger.entries():
            for name in entry.runs:
                self._owners[name].append(entry)
        self._sources = list(zip(found.sources, self._names(found.sources), strict=True))

    def chunks(self, over: Callable[[], bool], *, follow: bool) -> Iterator[bytes]:
        """JSON lines."""
        for number, (source, run_id) in enumerate(self._sources):
            if over():
                self.faults[""] = f"stopped: {len(self._sources) - number:,} runs were not read."
                return
            entry = self._ledger.entry(self._key(source))
            if not self._again and not self._owners[run_id] and self._known.has(run_id):
                say(_there(source, run_id))
            else:
                yield from self._run(source, run_id, entry, over)

    def _run(self, source: Source, run_id: str, entry: Entry, over: Callable[[], bool]) -> Iterator[bytes]:
        """A chunk is recorded as imported when the next one is requested: it is in the spool then."""
        lines, bad, begun = self._new(source, run_id), 0, False
        while not over() and (some := list(islice(lines, LINES))):
            bad += sum(line["type"] == UNREADABLE for _, line in some)
            yield b"".join(json.dumps(line, default=str).encode() + b"\n" for _, line in some)
            if not begun:
                begun = True
                self.taken += 1
                self._note(entry, source, run_id)
            entry.add([number for number, _ in some])
        if bad:
            records = "1 record" if bad == 1 else f"{bad:,} records"
            why = f"{source.where}: {records} could not be used: `stepstream dlq list` says why."
            self.faults.setdefault(source.where, why)

    def _note(self, entry: Entry, source: Source, run_id: str) -> None:
        if not entry.taken_us:
            entry.said = {"runs": [run_id], "from": source.where}
            entry.write()
            self._owners[run_id].append(entry)

    def _new(self, source: Source, run_id: str) -> Iterator[tuple[int, Line]]:
        """The lines of a run that were not imported before, each with its digest."""
        before: Counter[int] = Counter()
        for entry in [] if self._again else self._owners[run_id]:
            before.update(entry.digests())
        passed = sent = 0
        agent_id = self._agent_id or NO_AGENT
        for line in self._lines(source):
            if self._agent_id is None and line["type"] == "run_started":
                agent_id = _agent_of(line) or agent_id
            number = digest(line)
            if before[number] > 0:
                before[number] -= 1
                passed += 1
                continue
            sent += 1
            yield number, {**line, "run_id": run_id, "agent_id": agent_id}
        if passed and not sent:
            say(_there(source, run_id))
        elif passed:
            say(f"{source.where}: {passed:,} lines of run {run_id} are in the database already: left out.")

    def _lines(self, source: Source) -> Iterator[Line]:
        """The lines of a run; a file that cannot be read ends here and is reported."""
        try:
            for line in source.read():
                if isinstance(line, str):
                    say(f"{source.where}: {line}")
                elif line["type"] == "run_started":
                    yield {**line, "imported_from": source.where}
                else:
                    yield line
        except StepstreamError as error:
            self.faults[source.where] = str(error)
        except Exception as error:  # a bad file must not stop the others
            reason = f"{type(error).__name__}: {error}"
            self.faults[source.where] = f"{source.where} cannot be read to its end ({reason})."

    def shipped(self, source: Stream, runs: list[str]) -> None:
        """Does nothing: each chunk is recorded on its way."""

    # Names

    def _names(self, sources: Sequence[Source]) -> list[str]:
        """The run id of each: its earlier one, else the best name that is free."""
        if self._run_id is not None:
            return [self._run_id]
        entries = {source.key: self._ledger.entry(self._key(source)) for source in sources}
        places = {entry.path for entry in entries.values()}
        before = {source.key: entries[source.key].runs or self._moved(source, places) for source in sources}
        new = [source for source in sources if not before[source.key]]
        names = dict(zip((source.key for source in new), best_names(sources, new, self._taken), strict=True))
        return [(before[source.key] or [names[source.key]])[0] for source in sources]

    def _moved(self, source: Source, places: set[Path]) -> list[str]:
        """The run of this name that was imported from none of these places, if it is the same run."""
        return [
            name
            for name in source.names()
            for entry in self._owners.get(name, [])
            if entry.path not in places and _same(source, entry)
        ]

    def _taken(self, source: Source, name: str) -> bool:
        """Whether another run has this name."""
        if self._owners.get(name):
            return True
        return self._known.has(name) and source.where not in self._known.imported_from(name)

    def _key(self, source: Source) -> str:
        return f"import\0{source.key}\0{self._run_id or ''}\0{self._agent_id or ''}"


def _there(source: Source, run_id: str) -> str:
    return f"{source.where}: run {run_id} is in the database already: left out (--again takes it)."


def _same(source: Source, entry: Entry) -> bool:
    """Whether a run begins like one that was imported from another place, so was moved or copied."""
    try:
        lines = islice((line for line in source.read() if not isinstance(line, str)), COMPARED)
        here = [digest(line) for line in lines]
    except Exception:  # reported when it is read
        return False
    there = list(entry.digests()[: len(here)])
    return len(here) > 1 and len(there) > 1 and here[: len(there)] == there


def _agent_of(started: Line) -> str | None:
    """The agent that a run's config names."""
    config = started.get("config")
    if not isinstance(config, dict):
        return None
    for name in AGENT_NAMES:
        value = config.get(name)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
            return str(value)
    return None
