"""The reference pages of the documentation, made from the code: `python -m cli.reference FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, get_type_hints

import click

from cli.main import COMMANDS, stepstream
from infra.settings import PREFIX, TABLES, Settings, allowed

_SETTINGS = """# Settings

Each setting is an environment variable, or a key of the same name (without `STEPSTREAM_`, in lower case) in
a TOML file: the one that `STEPSTREAM_CONFIG` names, else `stepstream.toml` in the working folder, else in the
home folder. The environment wins. `stepstream config` prints every value and where it comes from.

Any librdkafka property passes through to every Kafka client: `STEPSTREAM_KAFKA_SASL_USERNAME` is
`sasl.username`. So do the topics' own settings for `topics create` and `alter`:
`STEPSTREAM_TOPICS_STEPS_RETENTION_MS` is `retention.ms` of the steps topic,
`STEPSTREAM_TOPICS_ALL_COMPRESSION_TYPE` is `compression.type` of all.

| variable | default | may be | meaning |
|---|---|---|---|
"""

_COMMANDS = """# Command line

One program, `stepstream`. Every command that prints data has `--json`. Exit codes: 0, 1 (failed), 2 (wrong
use); `run` has its worker's.

"""


def settings_page() -> str:
    """Every setting: its variable, default, type or range, and meaning."""
    types = get_type_hints(Settings, include_extras=True)
    rows = [_row(item, types[item.name]) for item in fields(Settings) if item.name not in TABLES]
    return _SETTINGS + "\n".join(rows) + "\n"


def _row(item: Field[Any], kind: Any) -> str:
    default = "" if item.default in ("", Path()) else f"`{_text(item.default)}`"
    secret = " Masked wherever it is shown." if item.metadata["secret"] else ""
    cells = (f"`{PREFIX}{item.name.upper()}`", default, allowed(kind), item.metadata["help"] + secret)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _text(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def commands_page() -> str:
    """Every command and subcommand, with the text of its `--help`."""
    root = click.Context(stepstream, info_name="stepstream", max_content_width=96, terminal_width=96)
    found = [part for name in COMMANDS for part in _sections(name, stepstream, root)]
    return _COMMANDS + "\n".join(found)


def _sections(name: str, parent: click.Group, above: click.Context) -> Iterator[str]:
    command = parent.get_command(above, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=above, max_content_width=96, terminal_width=96)
    depth = "#" * (len(context.command_path.split()))
    yield f"{depth} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from _sections(inner, command, context)


def write(folder: Path) -> None:
    """Write both pages into a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.md").write_text(settings_page(), encoding="utf-8")
    (folder / "cli.md").write_text(commands_page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
