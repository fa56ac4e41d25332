"""`stepstream.init`, and the functions that log to the newest run."""

from __future__ import annotations

import os
from collections.abc import Mapping

from stepstream import _warn
from stepstream._newest import Process, begin

# The first `init` imports the rest: json and threading take longer than all of this module, and a program
# that only imports stepstream should not pay for them.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from stepstream._run import Run


def init(
    project: str | None = None,
    name: str | None = None,
    config: object = None,
    run_id: str | None = None,
    agent_id: str | None = None,
    **wandbs: object,
) -> Run:
    """Begin a run; it ends with `finish`, with the `with` block, or with the program.

    Args:
        project, name: free text for people.
        config: hyperparameters: a mapping, an argparse namespace, a dataclass.
        run_id: the run's id everywhere. None: that of `stepstream run --run-id`, else a new ULID.
        agent_id: the agent of calls that name none.
        wandbs: `env_id`, `algorithm`, and wandb's own (`id`, `group`, `tags`, `mode="disabled"`, …).
    """
    if wandbs.get("sync_tensorboard"):
        from stepstream.tensorboard import sync

        sync()
    return begin(project, name, config, run_id, agent_id, **wandbs)


def step(**fields: object) -> None:
    """`Run.step` of the newest run."""
    _current("step").step(**fields)


def episode(**fields: object) -> None:
    """`Run.episode` of the newest run."""
    _current("episode").episode(**fields)  # type: ignore[arg-type]


def log(data: Mapping[str, object] | None = None, step: int | None = None, **more: object) -> None:
    """`Run.log` of the newest run."""
    _current("log").log(data, step, **more)  # type: ignore[arg-type]


def define_metric(name: str, step_metric: object = None, **more: object) -> None:
    """`Run.define_metric` of the newest run."""
    _current("define_metric").define_metric(name, step_metric, **more)


def frame(image: object, *, agent_id: object = None) -> None:
    """`Run.frame` of the newest run."""
    _current("frame").frame(image, agent_id=agent_id)


def finish(status: str | int | None = None, exit_code: int | None = None, quiet: object = None) -> None:
    """`Run.finish` of the newest run; without one, nothing happens."""
    if Process.newest is not None:
        Process.newest.finish(status, exit_code, quiet)


def _current(what: str) -> Run:
    if Process.newest is None:
        from stepstream._run import WORKER_OF, joined

        parent = os.environ.get(WORKER_OF)
        if parent:  # a worker process of a run
            Process.newest = joined(parent, None)
        else:
            _warn.once("no init", f"{what} was called before init: a run was begun for it.")
            Process.newest = init()
    return Process.newest
