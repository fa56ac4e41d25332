"""A training run: its calls append rows, and its streams begin and end here."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping

from stepstream import _ending, _ulid, _warn
from stepstream._axes import Axes
from stepstream._config import Config
from stepstream._encoder import MAX_PLANS, Encoder, short
from stepstream._frames import FrameGate
from stepstream._plan import EPISODE, FRAME, LINE, METRICS, STEP, truth
from stepstream._settings import Settings, fallback_spool_dir
from stepstream._spool import Spool
from stepstream._values import PLAIN, flattened, freeze
from stepstream._wandb import Image, Missing, missing
from stepstream._writer import HIGH_WATER, Writer

_now = time.monotonic_ns
WORKER_OF = "STEPSTREAM_WORKER_OF"
"""Environment variable with the run to which `stepstream.log` in child programs logs."""
_shapes: dict[tuple, tuple] = {}
"""Shapes of calls that have plain values only and need no copy, by names and types. Rows of one shape hold
the same object, so comparing and keeping them is cheap."""


class Run:
    """One run. Made by `stepstream.init`; every method may be called from any thread.

    Args:
        run_id: names the run everywhere; None: a new ULID.
        agent_id: the agent of calls that name none; None: `default`.
        facts: further fields of `run_started`: project, name, env_id, tags ….
        owner: False in a worker process that joins a run of another process, which ends it.
    """

    def __init__(
        self,
        run_id: str | None = None,
        agent_id: str | None = None,
        config: object = None,
        *,
        facts: Mapping[str, object] | None = None,
        settings: Settings | None = None,
        owner: bool = True,
    ) -> None:
        self._settings = settings or Settings()
        self.id = self.run_id = short("run_id", str(run_id or _ulid.new()))
        self.agent_id = agent_id if agent_id is not None else self._settings.agent_id
        self._facts = {name: value for name, value in (facts or {}).items() if value is not None}
        self._put: Callable[[tuple], None]
        """Takes a row; once the thread runs, it is the buffer's own `append`."""
        self._status: str | None = None
        self._late = 0
        self._owner = owner
        self._begin()
        self.config = Config(config, self._announce)
        self.summary = Config()
        self._pending: dict[str, object] = {}
        self._axes = Axes()
        self._announce()

    @property
    def project(self) -> object:
        """The project given to `init`."""
        return self._facts.get("project")

    @property
    def name(self) -> str:
        """The name given to `init`, else the run's id."""
        return str(self._facts.get("name") or self.id)

    @property
    def disabled(self) -> bool:
        """True: this run writes nothing (`mode="disabled"`)."""
        return self._settings.disabled

    @property
    def finished(self) -> bool:
        """True after `finish`."""
        return self._status is not None

    # What training code calls

    def step(self, /, **fields: object) -> None:
        """One environment step, in Gymnasium's terms. Any other name is a metric.

        Args:
            reward, action, observation, terminated, truncated, info: as the environment's step has them; the
                observation is that which was acted on.
            agent_id: the agent, if there are several.
            frame: a picture of the environment: (H, W, 3) uint8, PNG or JPEG bytes, or ANSI text; or a
                function that renders one, such as `env.render`, called only when a picture is due.
            episode_index, step_index: counted per agent from 0 where left out.
        """
        # Parameters of their own for the names would cost half as much again as all of this.
        try:
            shape = _shapes[(*fields, *map(type, fields.values()))]
        except KeyError:
            shape, fields = self._step_new(fields)
        self._put((shape, _now(), *fields.values()))
        if len(self._rows) > HIGH_WATER:
            self._writer.relieve()

    def _step_new(self, fields: dict[str, object]) -> tuple[tuple, dict[str, object]]:
        """Shape and values of a step with a new shape, or with other than plain values."""
        key, frame = (*fields, *map(type, fields.values())), fields.get("frame")
        plain = frame is None and PLAIN.issuperset(key[len(fields) :])
        fields = {name: freeze(value) if name != "frame" else None for name, value in fields.items()}
        if frame is not None:
            ended = truth(fields.get("terminated")) or truth(fields.get("truncated"))
            fields["frame"] = self._frames.take(fields.get("agent_id"), frame, ended)
        return _shape(STEP, fields, key if plain else None), fields

    def episode(
        self,
        *,
        episode_return: object = None,
        episode_length: object = None,
        agent_id: object = None,
        episode_index: int | None = None,
        terminated: object = None,
        truncated: object = None,
        seed: int | None = None,
        duration: float | None = None,
        elapsed: float | None = None,
        rollout: Mapping[str, object] | None = None,
        **metrics: object,
    ) -> None:
        """One finished episode. Missing values are taken from the agent's steps, if there were any.

        Args:
            duration: seconds that this episode took.
            elapsed: seconds since a Monitor began.
            rollout: what makes it a rollout of a language model: see `stepstream.log_rollout`.
        """
        fields = {
            "episode_index": episode_index,
            "episode_return": freeze(episode_return),
            "episode_length": freeze(episode_length),
            "terminated": freeze(terminated),
            "truncated": freeze(truncated),
            "seed": freeze(seed),
            "duration_seconds": freeze(duration),
            "elapsed": freeze(elapsed),
            "rollout": freeze(rollout),
        }
        self._put(((EPISODE,), _now(), agent_id, fields, freeze(metrics)))

    def log(
        self,
        data: Mapping[str, object] | None = None,
        step: int | None = None,
        commit: bool | None = None,
        sync: object = None,
        *,
        agent_id: object = None,
    ) -> None:
        """Numbers by name, at a global step.

        Args:
            step: the global step; None: the run's environment steps so far or, if none are logged,
                the number of earlier calls.
            commit: False: keep them for the next call.
        """
        try:
            odd = commit is not None or self._pending or self._axes
            shape = None if odd else _shapes[_logged_key(data)]  # type: ignore[arg-type]
        except (KeyError, TypeError, AttributeError):
            shape = None
        if shape is not None:
            self._put((shape, _now(), step, agent_id, *data.values()))  # type: ignore[union-attr]
        else:
            self._log_new(data, step, commit, agent_id)
        if len(self._rows) > HIGH_WATER:
            self._writer.relieve()

    def _log_new(self, data: object, step: object, commit: bool | None, agent_id: object) -> None:
        """A call with a new shape, or with other than plain values."""
        if not isinstance(data, Mapping):
            what = type(data).__name__
            _warn.once("log", f"log takes a dictionary of numbers by name, not {what}: left out.")
            return
        given = flattened(data)
        flat = {name: value for name, value in given.items() if not isinstance(value, Missing)}
        if given and not flat:
            return
        named = {name: self._unwrapped(value, agent_id) for name, value in flat.items()}
        if self._pending or commit is False:
            self._pending.update(named)
            if commit is False:
                return
            named, self._pending = self._pending, {}
        for at, group in self._axes.parts(named, freeze(step)):
            plain = PLAIN.issuperset(map(type, group.values()))
            shape = _shape(METRICS, group, _logged_key(group) if plain else None)
            self._put((shape, _now(), at, agent_id, *group.values()))

    def define_metric(self, name: str, step_metric: object = None, **_: object) -> None:
        """As wandb's: the x axis of metrics with this name, which may end in `*`, is another metric.

        Args:
            step_metric: the other one's name: its value, in the same `log` or the last one that had it, is
                their global step.
        """
        self._axes.define(str(name), step_metric)

    def frame(self, image: object, *, agent_id: object = None) -> None:
        """A picture of the current state; `step(frame=…)` is better, as it names the step."""
        picture = self._frames.take(agent_id, image, False)
        if picture is not None:
            self._put(((FRAME,), _now(), agent_id, picture))

    def lose(self, what: str, error: Exception) -> None:
        """An event that could not be read: warned about once, and counted on the run's page."""
        _warn.once(f"lost:{what}", f"{what} could not be logged and was left out ({error!r}).")
        self._writer.dropped += 1

    def flush(self) -> None:
        """Write all events logged so far; normally not needed, as this happens continuously."""
        self._writer.flush()

    def finish(
        self,
        status: str | int | None = None,
        exit_code: int | None = None,
        quiet: object = None,
        *,
        error: str | None = None,
    ) -> None:
        """End the run. Also happens by itself at the end of the program.

        Args:
            status: `completed` (default), `failed`, `cancelled` or `skipped`.
            exit_code: as in wandb: anything but 0 is `failed`.
            error: why it failed.
        """
        if isinstance(status, int):
            status, exit_code = None, status
        if self._status is not None:
            return
        self._status = status or ("failed" if exit_code else "completed")
        if self._pending:
            self.log({})
        last: dict[str, object] = {
            "status": self._status,
            "error": error,
            "summary": dict(self.summary) or None,
        }
        last = {name: freeze(value) for name, value in last.items() if value is not None}
        _ending.live.discard(self)
        if self.disabled:
            return
        self._put = self._after_finish
        if os.environ.get(WORKER_OF) == self.id:
            del os.environ[WORKER_OF]
        self._writer.close(((LINE,), _now(), "run_completed", last) if self._owner else None)

    def __getattr__(self, name: str) -> object:
        """Other attributes of wandb's runs: facts of `init`; the rest does nothing, with one warning."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._facts:
            return self._facts[name]
        return missing(f"run.{name}")

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self.finish(_ending.how(error), error=_ending.why(error))

    def __reduce__(self) -> tuple:
        """Pickled to another process, it is the same run there, with its own stream."""
        return joined, (self.id, self.agent_id)

    def __repr__(self) -> str:
        return f"<stepstream run {self.name} ({self._status or 'running'})>"

    # How it works

    def _begin(self) -> None:
        """Make buffer, encoder and thread of this process; the first line makes the stream's folder."""
        self._pid = os.getpid()
        self.together = threading.RLock()
        """Held while what belongs together is logged, as threads log side by side."""
        self._frames = FrameGate(self._settings.frames_per_second)
        worker = None if self._owner else _worker_name()
        encoder = Encoder(self.id, self.agent_id, worker, self._frames)
        if self._owner:
            os.environ[WORKER_OF] = self.id
        self._writer = Writer(encoder, self._open_spool, self._settings.flush_interval)
        self._rows = self._writer.rows
        self._put = self._ignore if self._settings.disabled else self._first
        _ending.live.add(self)

    def _first(self, row: tuple) -> None:
        """Add the first row of this process: later ones are only appended."""
        _ending.watch()
        self._put = self._rows.append
        self._rows.append(row)
        with contextlib.suppress(RuntimeError):  # the interpreter is ending: `finish` writes the row
            self._writer.start()

    def _open_spool(self) -> Spool:
        parent, stream_id = self._settings.parent_stream, _ulid.new()
        about: dict[str, object] = {
            "run_id": self.id,
            "agent_id": self.agent_id,
            "pid": os.getpid(),
            "owner": self._owner,
            "host": os.uname().nodename if hasattr(os, "uname") else "",
        }
        name = f"{parent}.{stream_id}" if parent else stream_id
        try:
            return Spool(self._settings.spool_dir, name, about, self._settings.segment_bytes)
        except OSError as error:
            folder = fallback_spool_dir()
            spool = Spool(folder, name, about, self._settings.segment_bytes)
            _warn.once(
                "home",
                f"{self._settings.spool_dir} cannot be written ({error}); this run is kept in "
                f"{folder}: `stepstream forward --dir {folder}` ships it.",
            )
            return spool

    def _announce(self) -> None:
        """Write the run's facts, again when the config changes."""
        if self._owner and self._status is None:
            config = freeze(dict(self.config))
            self._put(((LINE,), _now(), "run_started", {**self._facts, "config": config}))

    def _unwrapped(self, value: object, agent_id: object) -> object:
        if not isinstance(value, Image):
            return freeze(value)
        if value.stepstream_frame is not None:
            self.frame(value.stepstream_frame, agent_id=agent_id)
        return value.caption

    def _after_finish(self, row: tuple) -> None:
        _warn.once("finished", f"run {self.name} is finished; what is logged to it now is dropped.")
        self._late += 1
        _ending.late.add(self)

    def _tell_late(self) -> None:
        """At the end of the program, write how many events came after the run's end, in another stream."""
        dropped = self._writer.count_lost()["stepstream/dropped"] + self._late
        self._late = 0
        after = Run(self.id, self.agent_id, settings=self._settings, owner=False)
        after.log({"stepstream/dropped": dropped})
        after.finish()

    def _ignore(self, row: tuple) -> None:
        """A disabled run."""

    def _in_child(self) -> None:
        """After a fork: the child logs to its own stream and never ends the run."""
        self._writer.abandon()
        self.together = threading.RLock()
        self._owner = False
        if self._status is None:
            self._rows = []
            self._put = self._first_in_child

    def _first_in_child(self, row: tuple) -> None:
        self._begin()  # only now: right after the fork, multiprocessing has not named the process yet
        self._put(row)


def joined(run_id: str, agent_id: str | None) -> Run:
    """A run of another process in this one: one object for each run."""
    for run in list(_ending.live):
        if isinstance(run, Run) and run.id == run_id:
            return run
    return Run(run_id, agent_id, owner=False)


def _shape(kind: int, named: Mapping, key: tuple | None) -> tuple:
    """The shape of a call; remembered under a key if such calls need no copies."""
    shape = (kind, tuple(named), tuple(map(type, named.values())))
    return _shapes.setdefault(key, shape) if key is not None and len(_shapes) < MAX_PLANS else shape


def _logged_key(data: Mapping) -> tuple:
    return (METRICS, *data, *map(type, data.values()))


def _worker_name() -> str:
    process = sys.modules.get("multiprocessing.process")
    name = process.current_process().name if process is not None else "MainProcess"
    return f"{name}-{os.getpid()}"
