"""The newest run of this process: what `stepstream.log` and integrations log to."""

from __future__ import annotations

import sys

from stepstream import _warn
from stepstream._settings import Settings

# `begin` imports the rest: json and threading take longer than all of this module, and a program that only
# imports stepstream should not pay for them.
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


class Process:
    """The state of this process's runs."""

    newest: Run | None = None
    used_run_id = False


def begin(
    project: str | None = None,
    name: str | None = None,
    config: object = None,
    run_id: str | None = None,
    agent_id: str | None = None,
    **wandbs: object,
) -> Run:
    """Begin a run, as `stepstream.init` does, without `sync_tensorboard`."""
    from stepstream._facts import facts
    from stepstream._run import Run

    settings = Settings()
    settings.disabled = settings.disabled or wandbs.get("mode") == "disabled"
    _warn_of_unknown(wandbs)
    before = Process.newest
    if before is not None and not before.finished:
        if wandbs.get("reinit") == "return_previous":
            return before
        _second_run(before, wandbs.get("reinit"))
    run_id = run_id or wandbs.get("id") or _named_run(settings)  # type: ignore[assignment]
    told = {"project": project, "name": name, **{key: wandbs.get(key) for key in _KEPT}, **facts()}
    Process.newest = Run(run_id, agent_id, config, facts=told, settings=settings)
    _say_where(Process.newest, settings)
    return Process.newest


def newest() -> Run | None:
    """The newest run of this process, also after its end; wandb's `wandb.run`."""
    return Process.newest


def newest_or_new(**facts: object) -> Run:
    """The newest run that has not ended, else a new one; integrations log to it."""
    run = Process.newest
    return run if run is not None and not run.finished else begin(**facts)  # type: ignore[arg-type]


def _named_run(settings: Settings) -> str | None:
    """The run id in the environment is for the first init of a process; a second init makes another run."""
    if settings.run_id is None or Process.used_run_id:
        return None
    Process.used_run_id = True
    return settings.run_id


def _say_where(run: Run, settings: Settings) -> None:
    """Print the address of the run's page; under `stepstream run`, that program prints it."""
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
