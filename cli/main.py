"""The program `stepstream`. It imports a command's module only when that is called, so `--help` is quick."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from infra import private
from schemas.errors import StepstreamError, UsageError

COMMANDS = {
    "up": ("cli.up", "up", "Start the whole local stack in the foreground."),
    "demo": ("cli.demo", "demo", "Start the stack and real training runs to look at."),
    "run": ("cli.run", "run", "Start a worker and stream what it prints."),
    "ingest": ("cli.ingest", "ingest", "Stream JSONL that is there already."),
    "watch": ("cli.watch", "watch", "Stream rollout files of language models, as they are written."),
    "forward": ("cli.forward", "forward", "Ship every spool in a folder."),
    "persist": ("cli.persist", "persist", "Service: Kafka to SQL, every record exactly once."),
    "live": ("cli.live", "live", "Service: Kafka to Redis, the newest for the dashboard."),
    "dashboard": ("cli.dashboard", "dashboard", "Service: the web page."),
    "replay": ("cli.replay", "replay", "Play a run again, from any offset or time."),
    "runs": ("cli.runs", "runs", "List, show, delete and export runs."),
    "import": ("cli.imports", "imports", "Import runs that other trackers wrote."),
    "dlq": ("cli.dlq", "dlq", "Look at dead letters, and send them again."),
    "topics": ("cli.topics", "topics", "Create the topics, compare and change them."),
    "db": ("cli.db", "db", "Create and upgrade the tables."),
    "config": ("cli.ops", "config", "Print every setting and where it comes from."),
    "doctor": ("cli.ops", "doctor", "Try each address; say what is wrong and what to do."),
}
"""Command → module, function, one line of help: the whole command line."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name."""
        if cmd_name not in COMMANDS:
            return None
        module, function, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, _, help_) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="stepstream-server", prog_name="stepstream")
def stepstream() -> None:
    """Live telemetry for reinforcement-learning training, on Kafka."""
    from infra.settings import unknown_variables  # noqa: PLC0415 - `--help` does without

    _check_working_folder()
    for name in unknown_variables().values():
        click.echo(f"stepstream: no setting is named {name}; `stepstream config` lists them.", err=True)


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError("The working folder was deleted: cd into one that is there.") from None


def main() -> None:
    """Run the command line; errors meant for the user become one sentence and an exit code."""
    private.restrict()
    open_standard_streams()
    try:
        code = stepstream.main(prog_name="stepstream", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except StepstreamError as error:
        click.echo(f"stepstream: {error}", err=True)
        code = error.exit_code
    except OSError as error:
        click.echo(f"stepstream: {_refused(error)}", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def open_standard_streams() -> None:
    """Open /dev/null for each of the descriptors 0, 1 and 2 that is closed, as after a shell's `>&-`.

    Otherwise the next file that is opened would get that number, and with it our output or a worker's.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number: this one
        if getattr(sys, name) is None:
            stream = open(number, mode, closefd=False)  # noqa: SIM115 - as long as the program lives
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _refused(error: OSError) -> str:
    """A sentence about what the system refused, and where that can be changed."""
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    if isinstance(error, ConnectionError) or error.filename is None:
        return f"the system refused: {what}."
    return f"the system refused {what}. Where it is below STEPSTREAM_HOME, set that to a folder of yours."


if __name__ == "__main__":
    main()
