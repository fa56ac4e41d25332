"""`define_metric`: metrics whose x axis is another metric instead of the run's steps."""

from __future__ import annotations

from stepstream import _warn
from stepstream._values import whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Axes:
    """The definitions of `define_metric`: which metrics have another one as their step."""

    def __init__(self) -> None:
        self._of: dict[str, str | None] = {}
        self._last: dict[str | None, int] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def define(self, name: str, step_metric: object) -> None:
        """Set the step of metrics with this name; None: the run's own."""
        if name.endswith("*") or "*" not in name:
            self._of[name] = None if step_metric is None else str(getattr(step_metric, "name", step_metric))
        else:
            _warn.once("define_metric", f"define_metric({name!r}) was left out: only its end may be a *.")

    def parts(self, named: dict[str, Any], step: object) -> list[tuple[object, dict[str, Any]]]:
        """Logged values grouped by step: the given step, or the value of another metric in a tuple."""
        if not self._of:
            return [(step, named)]
        for axis in self._of.values():
            if axis in named and (at := whole(named[axis])) is not None:
                self._last[axis] = int(at)
        found: dict[object, dict[str, Any]] = {}
        for name, value in named.items():
            found.setdefault(self._step(name, named, step), {})[name] = value
        return list(found.items())

    def _step(self, name: str, named: dict[str, Any], step: object) -> object:
        """A metric that is a step itself goes with its metrics."""
        axis = name if name in self._of.values() else self._axis(name)
        return (self._last[axis],) if axis in self._last else step

    def _axis(self, name: str) -> str | None:
        """The step of a metric: by its whole name, else by the longest prefix."""
        fitting = [known for known in self._of if known[-1:] == "*" and name.startswith(known[:-1])]
        best = name if name in self._of else max(fitting, key=len, default=None)
        return None if best is None else self._of[best]
