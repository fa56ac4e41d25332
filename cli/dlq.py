"""`stepstream dlq`: look at dead letters, and send them again."""

from __future__ import annotations

import base64
import itertools
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from infra.settings import load
from infra.sql.dead_letters import WINDOW, Wanted, found, mark_redriven, only
from infra.sql.migrations import checked_engine
from producers.redrive import Outcome, Redriver
from schemas.errors import UsageError

HEAD_CHARACTERS = 4096
WIDE = 180


@click.group()
def dlq() -> None:
    """Dead letters: what could not be used, and why. Look, and send again once mended."""


@dlq.command("list")
@click.argument("run_id", required=False)
@click.option("--reason", help="Only letters of this reason, such as bad_value.")
@click.option("--stream", "stream_id", help="Only letters of this stream.")
@click.option("--waiting", is_flag=True, help="Only letters that were not redriven.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects, the columns of dead_letters.")
def list_(
    run_id: str | None, reason: str | None, stream_id: str | None, *, waiting: bool, limit: int, as_json: bool
) -> None:
    """List dead letters, of one run or of all."""
    wanted = Wanted(run_id, stream_id, None, reason)
    letters = found(checked_engine(load()), wanted, waiting=waiting, limit=limit)
    if as_json:
        click.echo(json.dumps([_plain(letter, HEAD_CHARACTERS) for letter in letters]))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("run", "stream", "line", "reason", "field", "redriven", "what it says"):
        table.add_column(name, justify="right" if name == "line" else "left", no_wrap=True)
    for letter in letters:
        redriven = letter["redriven_at"].strftime("%m-%d %H:%M") if letter["redriven_at"] else ""
        about = [letter["run_id"], letter["stream_id"], str(letter["seq"]), letter["reason"]]
        table.add_row(*about, letter["field"] or "", redriven, _text(letter["raw"])[:60])
    console = Console()
    console.width = max(console.width, WIDE)  # users copy the ids: never cut them
    console.print(table if table.row_count else "No dead letters.")


@dlq.command()
@click.argument("stream_id")
@click.argument("seq", type=int)
@click.option("--run", "run_id", help="Where two runs have letters of the same name.")
@click.option("--json", "as_json", is_flag=True, help="One object; `raw_base64` has the exact bytes.")
def show(stream_id: str, seq: int, run_id: str | None, *, as_json: bool) -> None:
    """Show one dead letter whole, by its stream and line."""
    letter = only(checked_engine(load()), Wanted(run_id, stream_id, seq))
    if as_json:
        exact = base64.b64encode(bytes(letter["raw"])).decode()
        click.echo(json.dumps(_plain(letter) | {"raw_base64": exact}))
        return
    for name, value in _plain(letter).items():
        if name != "raw" and value is not None:
            click.echo(f"{name:16} {value}")
    click.echo(f"\n{_text(letter['raw'])}")


@dlq.command()
@click.argument("run_id", required=False)
@click.option("--reason", help="Only letters of this reason.")
@click.option("--stream", "stream_id", help="Only letters of this stream.")
@click.option("--seq", type=int, help="Only this line of --stream, also where it was redriven before.")
@click.option("--raw", help="The mended line; with --stream and --seq.")
@click.option(
    "--raw-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The same, a file."
)
@click.option("--json", "as_json", is_flag=True, help="One object: `redriven`, `refused`, `letters`.")
def redrive(
    run_id: str | None,
    reason: str | None,
    stream_id: str | None,
    seq: int | None,
    *,
    raw: str | None,
    raw_file: Path | None,
    as_json: bool,
) -> None:
    """Send dead letters again, of one run or of all, that were not redriven yet.

    Each is read anew: as a newer stepstream reads it, or as --raw mends it. What can be used now keeps the
    run, stream and line of its letter; what cannot stays as it is, and no letter is deleted.
    """
    settings = load()
    mended = raw.encode() if raw is not None else raw_file.read_bytes() if raw_file else None
    wanted = Wanted(run_id, stream_id, seq, reason)
    engine = checked_engine(settings)
    if mended is not None and (stream_id is None or seq is None):
        raise UsageError("--raw mends one letter: name it by --stream and --seq.")
    if seq is not None:
        only(engine, wanted)
    letters = found(engine, wanted, waiting=seq is None)
    redriver = Redriver(settings, mended.removesuffix(b"\n") if mended is not None else None)
    outcomes: list[Outcome] = []
    for batch in iter(lambda: list(itertools.islice(letters, WINDOW)), []):
        done = redriver.send(batch)
        mark_redriven(engine, [letter for letter, one in zip(batch, done, strict=True) if one.kind])
        outcomes += done
    _tell(outcomes, as_json=as_json)


def _tell(outcomes: list[Outcome], *, as_json: bool) -> None:
    sent = sum(outcome.kind is not None for outcome in outcomes)
    if as_json:
        letters = [outcome._asdict() for outcome in outcomes]
        click.echo(json.dumps({"redriven": sent, "refused": len(outcomes) - sent, "letters": letters}))
        return
    for outcome in outcomes:
        if outcome.kind is None:
            click.echo(f"{outcome.stream_id} line {outcome.seq}: still {outcome.reason}: {outcome.message}")
    click.echo(f"{sent:,} redriven, {len(outcomes) - sent:,} still cannot be used.")


def _plain(letter: dict[str, Any], most: int | None = None) -> dict[str, Any]:
    """A letter as JSON; its bytes as UTF-8, at most so many characters."""
    shown = {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in letter.items()
    }
    return shown | {"raw": _text(letter["raw"])[:most]}


def _text(raw: bytes) -> str:
    return bytes(raw).decode("utf-8", "replace")
