"""What scripts written for wandb use besides init, log, config and finish."""

from __future__ import annotations

from collections.abc import Iterator

from stepstream import _warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Image:
    """A picture in `log({"view": Image(array)})`: shown as the agent's frame."""

    def __init__(self, data_or_path: object = None, caption: str | None = None, **_: object) -> None:
        if isinstance(data_or_path, str):
            _warn.once("image path", "Image(path) is not read: give it the array. It was left out.")
            data_or_path = None
        self.stepstream_frame, self.caption = data_or_path, caption


class Histogram(dict):
    """A distribution, as numbers that a curve can show: `name/min`, `/max`, `/mean`, `/std`, `/count`.

    Args:
        sequence: numbers of any kind: an array, a tensor, nested lists.
        np_histogram: counts and edges, as numpy makes them: mean and std are then those of the bins' middles.
    """

    def __init__(self, sequence: Any = None, np_histogram: Any = None, num_bins: int = 64) -> None:
        try:
            super().__init__(_of_bins(*np_histogram) if np_histogram is not None else _of_numbers(sequence))
        except Exception as error:  # training goes on, whatever failed
            _warn.once("histogram", f"a histogram could not be made and was left out ({error!r}).")


def _of_numbers(values: Any) -> dict[str, float]:
    if hasattr(values, "detach"):  # torch, whose std is another one than numpy's
        values = values.detach().float().cpu().numpy()
    if hasattr(values, "std"):
        numbers = {name: float(getattr(values, name)()) for name in ("min", "max", "mean", "std")}
        return {**numbers, "count": int(values.size)}
    values = list(_flat(values))
    return {"min": min(values), "max": max(values), **_spread(values, [1.0] * len(values))}


def _of_bins(counts: Any, edges: Any) -> dict[str, float]:
    edges = list(map(float, edges))
    middles = [(low + high) / 2 for low, high in zip(edges, edges[1:])]
    return {"min": edges[0], "max": edges[-1], **_spread(middles, list(map(float, counts)))}


def _spread(values: list[float], weights: list[float]) -> dict[str, float]:
    count = sum(weights)
    mean = sum(value * weight for value, weight in zip(values, weights)) / count
    variance = sum((value - mean) ** 2 * weight for value, weight in zip(values, weights)) / count
    return {"mean": mean, "std": variance**0.5, "count": int(count)}


def _flat(values: Any) -> Iterator[float]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield float(value)


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
