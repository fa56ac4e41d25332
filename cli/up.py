"""`stepstream up`: the whole local stack, in the foreground."""

from __future__ import annotations

import click
from rich.console import Console

from cli.stack import banner, local_stack, open_page
from cli.supervisor import Supervisor


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the dashboard; 0: a free one.")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option("--verbose", "-v", is_flag=True, help="Show what the services log, not only what is wrong.")
def up(port: int | None, opens: bool, verbose: bool) -> None:
    """Start Kafka, Redis, the services and the dashboard on this machine; Ctrl-C ends them all.

    Kafka and Redis are started only where no setting gives their address. Data stays in STEPSTREAM_HOME.
    """
    console = Console(highlight=False)
    with local_stack(port, console, verbose=verbose) as stack:

        def ready(_: Supervisor) -> None:
            banner(stack, console)
            if opens:
                open_page(stack.url)

        stack.run(console, first=[], on_ready=ready)
