"""One line in any training script: every step, episode, loss and picture on the screen.

    import stepstream

    run = stepstream.init(project="lunar", config={"lr": 3e-4})
    run.step(reward=reward, action=action, terminated=terminated, truncated=truncated, epsilon=0.1)
    run.log({"loss": 0.3})
    run.finish()

A call only appends to a buffer. A thread writes JSON lines to a spool on disk, and `stepstream up` or
`stepstream forward` ships that, now or later. Nothing here raises into training, whatever is wrong.

Names are wandb's where it has one, so `import stepstream as wandb` keeps a script's logging code.
"""

from __future__ import annotations

import importlib

from stepstream import _newest, _wandb
from stepstream._api import define_metric, episode, finish, frame, init, log, step
from stepstream._version import __version__ as __version__
from stepstream._wandb import Histogram, Image
from stepstream._warn import StepstreamWarning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stepstream._run import Run
    from stepstream.rollouts import log_rollout

_MODULES = ("integrations", "rollouts", "tensorboard")

__all__ = [
    "Histogram",
    "Image",
    "Run",
    "StepstreamWarning",
    "define_metric",
    "episode",
    "finish",
    "frame",
    "init",
    "log",
    "log_rollout",
    "step",
]


def __getattr__(name: str) -> object:
    """`run`, `config` and `summary` of the newest run; what of wandb's is missing here, as a stand-in."""
    if name.startswith("_"):
        raise AttributeError(f"module 'stepstream' has no attribute {name!r}")
    if name in _MODULES:  # `from stepstream import tensorboard` asks here first
        return importlib.import_module(f"stepstream.{name}")
    if name == "Run":
        from stepstream._run import Run

        return Run
    if name == "log_rollout":
        from stepstream.rollouts import log_rollout

        return log_rollout
    if name == "run":
        return _newest.newest()
    if name in ("config", "summary"):
        run = _newest.newest()
        return getattr(run, name) if run is not None else _wandb.missing(f"{name} before init")
    return _wandb.missing(name)
