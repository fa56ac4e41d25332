"""What scripts written for wandb use besides init, log, config and finish."""

from __future__ import annotations

from stepstream import _warn


class Image:
    """A picture in `log({"view": Image(array)})`: shown as the agent's frame."""

    def __init__(self, data_or_path: object = None, caption: str | None = None, **_: object) -> None:
        if isinstance(data_or_path, str):
            _warn.once("image path", "Image(path) is not read: give it the array. It was left out.")
            data_or_path = None
        self.stepstream_frame, self.caption = data_or_path, caption


class Missing:
    """Takes the place of a part of wandb that is not here: whatever is done with it does nothing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: object, **named: object) -> Missing:
        # A decorator that is not here leaves what it decorates as it is.
        return args[0] if len(args) == 1 and not named and callable(args[0]) else self  # type: ignore[return-value]

    def __getattr__(self, name: str) -> Missing:
        if name.startswith("_"):
            raise AttributeError(name)
        return Missing(f"{self._name}.{name}")

    def __setitem__(self, name: object, value: object) -> None:
        """Nothing is kept."""

    def __enter__(self) -> Missing:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was held."""

    def __iter__(self) -> object:
        return iter(())

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<stepstream has no {self._name}>"


def missing(name: str) -> Missing:
    """A stand-in for `wandb.<name>`, with one warning that names it."""
    _warn.once(f"wandb:{name}", f"there is no stepstream.{name}: using it does nothing.")
    return Missing(name)
