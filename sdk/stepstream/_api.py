"""`stepstream.init` and the functions that speak of the newest run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from stepstream import _warn
from stepstream._settings import Settings

# What a run is made of is imported by the first `init`: json and threading take longer than all of this,
# and a program that only imports stepstream should not pay for them.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from stepstream._run import Run

_KEPT = ("group", "job_type", "tags", "notes", "env_id", "algorithm", "entity")
"""Arguments of wandb's init and ours that `run_started` carries as they are."""
_HARMLESS = frozenset(
    "dir mode reinit resume force anonymous settings save_code allow_val_change config_exclude_keys "
    "config_include_keys magic sync_tensorboard".split()
)
"""Arguments of wandb's init that change nothing here, or that `init` reads itself."""


class _Process:
    """What this process knows of its runs."""

    newest: Run | None = None
    used_run_id = False


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
        project, name: what people see; free words.
        config: hyperparameters: a mapping, an argparse namespace, a dataclass.
        run_id: names the run everywhere. None: what `stepstream run --run-id` says, else a new ULID.
        agent_id: the agent of calls that name none.
        wandbs: `env_id`, `algorithm`, and wandb's own (`id`, `group`, `tags`, `mode="disabled"`, …).
    """
    from stepstream._facts import facts
    from stepstream._run import Run

    settings = Settings()
    settings.disabled = settings.disabled or wandbs.get("mode") == "disabled"
    _warn_of_unknown(wandbs)
    before = _Process.newest
    if before is not None and not before.finished:
        if wandbs.get("reinit") == "return_previous":
            return before
        _second_run(before, wandbs.get("reinit"))
    run_id = run_id or wandbs.get("id") or _named_run(settings)  # type: ignore[assignment]
    if wandbs.get("sync_tensorboard"):
        from stepstream.tensorboard import sync

        sync()
    told = {"project": project, "name": name, **{key: wandbs.get(key) for key in _KEPT}, **facts()}
    _Process.newest = Run(run_id, agent_id, config, facts=told, settings=settings)
    _say_where(_Process.newest, settings)
    return _Process.newest


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
    if _Process.newest is not None:
        _Process.newest.finish(status, exit_code, quiet)


def newest() -> Run | None:
    """The newest run of this process, also after its end; wandb's `wandb.run`."""
    return _Process.newest


def newest_or_new(**facts: object) -> Run:
    """The newest run that has not ended, else a new one: what integrations log to."""
    run = _Process.newest
    return run if run is not None and not run.finished else init(**facts)  # type: ignore[arg-type]


def _current(what: str) -> Run:
    if _Process.newest is None:
        from stepstream._run import WORKER_OF, joined

        parent = os.environ.get(WORKER_OF)
        if parent:  # a worker process of a run
            _Process.newest = joined(parent, None)
        else:
            _warn.once("no init", f"{what} was called before init: a run was begun for it.")
            _Process.newest = init()
    return _Process.newest


def _named_run(settings: Settings) -> str | None:
    """The run that the environment names goes to the first init of a process; a second is another run."""
    if settings.run_id is None or _Process.used_run_id:
        return None
    _Process.used_run_id = True
    return settings.run_id


def _say_where(run: Run, settings: Settings) -> None:
    """Print the address of the run's page; below `stepstream run`, that says it."""
    if settings.disabled or settings.parent_stream:
        return
    from stepstream._address import page

    if address := page(settings.home, run.id):
        print(f"stepstream: run {run.name}: {address}", file=sys.stderr)


def _second_run(before: Run, reinit: object) -> None:
    if reinit is True or reinit == "finish_previous" or "ipykernel" in sys.modules:
        before.finish()
    elif reinit != "create_new":
        _warn.once(
            "two runs",
            f"run {before.name} has not ended and goes on beside the new one; "
            "stepstream.log now speaks of the new one.",
        )


def _warn_of_unknown(wandbs: dict[str, object]) -> None:
    for name, value in wandbs.items():
        if name not in _HARMLESS and name not in _KEPT and name != "id" and value not in (None, False):
            _warn.once(f"init:{name}", f"init({name}=…) does nothing here and was ignored.")
