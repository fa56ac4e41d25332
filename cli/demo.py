"""`stepstream demo`: the local stack, and real training runs streaming into it."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
import uuid
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from cli.stack import LocalStack, banner, local_stack, open_page
from cli.supervisor import Service, Supervisor, how_it_ended, program
from infra.embedded import process
from infra.settings import unknown_variables
from schemas.errors import UsageError

TRAININGS = {
    "frozenlake": "q_learning_frozenlake.py",
    "taxi": "q_learning_taxi.py",
    "cartpole": "actor_critic_cartpole.py",
    "tictactoe": "tictactoe_selfplay.py",
}
"""Name → program of `examples`; all of them learn within two minutes."""
# Niced and single-threaded, so that four of them leave CPU to the page and the services.
ALONE = ("env", "OMP_NUM_THREADS=1", "nice", "-n", "10")
NEEDED = ("gymnasium", "pettingzoo", "pygame")


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the dashboard; 0: a free one.")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option("--verbose", "-v", is_flag=True, help="Show what the services log, not only what is wrong.")
def demo(port: int | None, opens: bool, verbose: bool) -> None:
    """Start the stack, and four real trainings that stream into it; Ctrl-C ends everything.

    Tabular Q-learning on FrozenLake and Taxi, actor-critic on CartPole, and two players of tic-tac-toe.
    """
    console = Console(highlight=False)
    folder = _examples()
    with local_stack(port, console, verbose=verbose) as stack:
        once = uuid.uuid4().hex[:4]
        trainings = [
            _training(name, f"demo-{name}-{once}", folder / file) for name, file in TRAININGS.items()
        ]

        def ready(supervisor: Supervisor) -> None:
            banner(stack, console)
            _start(trainings, supervisor, stack)
            if opens:
                open_page(stack.url)

        stack.run(console, first=trainings, on_ready=ready)


def _examples() -> Path:
    """The folder of training programs: in the checkout, else where the wheel installed it."""
    if lacking := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UsageError(
            f"The demo's trainings need {', '.join(lacking)}: install stepstream-server[examples]."
        )
    folders = (Path(__file__).parents[1] / "examples", Path(sys.prefix) / "share" / "stepstream" / "examples")
    return next(folder for folder in folders if (folder / TRAININGS["frozenlake"]).exists())


def _training(name: str, run_id: str, file: Path) -> Service:
    worker = [*ALONE, sys.executable, str(file)]

    def spawn() -> subprocess.Popen[bytes]:
        # `run` ends its worker and records that, so it gets SIGTERM, also when we die.
        return process.spawn(
            program("run", "--quiet", "--run-id", run_id, "--", *worker),
            output=subprocess.DEVNULL,
            errors=subprocess.PIPE,
            death_signal=signal.SIGTERM,
            variables=dict.fromkeys(unknown_variables(), ""),  # this command has said it already
        )

    return Service(name, spawn, keep=False, due=None)


def _start(trainings: list[Service], supervisor: Supervisor, stack: LocalStack) -> None:
    """Start the trainings, now that the page can be opened."""
    left = {training.name for training in trainings}

    def ended(name: str, code: int) -> None:
        left.discard(name)
        if supervisor.is_stopping:
            return
        supervisor.say(name, f"training is over ({how_it_ended(code)})", "green" if code == 0 else "bold red")
        if not left:
            supervisor.say(
                "demo", f"all trainings are over; look around at {stack.url}, Ctrl-C ends the stack", "bold"
            )

    for training in trainings:
        training.due = time.monotonic()
        training.on_end = partial(ended, training.name)
        supervisor.say(training.name, "training starts")
