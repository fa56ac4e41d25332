"""`run.config` and `run.summary`: dictionaries whose keys are attributes too, as wandb's are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Config(dict):
    """A dictionary whose keys are attributes: `config.lr`. Calls `changed` after each change."""

    def __init__(self, values: object = None, changed: Callable[[], None] = lambda: None) -> None:
        super().__init__(as_dict(values))
        object.__setattr__(self, "_changed", changed)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value

    def __setitem__(self, name: str, value: object) -> None:
        super().__setitem__(name, value)
        self._changed()

    def update(  # type: ignore[override]
        self, values: object = None, allow_val_change: object = None, **more: object
    ) -> None:
        """Set all of `values`: a mapping, an argparse namespace, a dataclass."""
        super().update({**as_dict(values), **more})
        self._changed()

    def setdefaults(self, values: object) -> None:
        """Set the values whose keys are not set yet."""
        super().update({**as_dict(values), **self})
        self._changed()

    def as_dict(self) -> dict[str, Any]:
        """A plain dictionary with the same items."""
        return dict(self)


def as_dict(values: object) -> dict[str, Any]:
    """A mapping, a namespace, a dataclass or any object with attributes as a dictionary."""
    if values is None:
        return {}
    if isinstance(values, Mapping):
        return {str(name): value for name, value in values.items()}
    try:
        return {name: value for name, value in vars(values).items() if not name.startswith("_")}
    except TypeError:
        return {"config": values}
