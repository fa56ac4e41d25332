"""Any value as JSON, without importing numpy or torch: a value is recognised by `tolist` and `detach`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii

from stepstream import _warn

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes longer than all of this package
    from typing import Any

quote: Callable[[str], str] = encode_basestring_ascii
"""A string as JSON, in ASCII."""
PLAIN = frozenset((int, float, bool, str, type(None)))
"""Immutable types that JSON has."""

MAX_ELEMENTS = 16_384
"""A larger array is summarised."""
MAX_CHARS = 1 << 20
"""A value with a longer JSON text is cut."""
MAX_ROLLOUT_CHARS = 32 << 20
"""The same for a rollout with its transcript and tokens: half of the longest line that `forward` reads."""
_MAX_DEPTH = 32


def freeze(value: object, depth: int = 0) -> object:
    """A copy of the value, as the training loop may change it later.

    Torch's tensors are detached from their graph; nothing is copied from a GPU here.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        return {key: item if type(item) in PLAIN else freeze(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and depth < _MAX_DEPTH:
        plain = PLAIN.issuperset(map(type, value))
        return list(value) if plain else [freeze(item, depth + 1) for item in value]
    try:
        return _of_array(value)
    except Exception:  # an object that merely looks like an array
        return value


def _of_array(value: Any) -> object:
    if hasattr(value, "detach"):  # torch
        value = value.detach()
        return value.clone() if getattr(value, "is_cuda", False) or value.numel() > 1 else value.item()
    if hasattr(value, "tolist"):  # numpy, jax, tensorflow's eager arrays
        if not getattr(value, "shape", ()):
            return value.tolist()
        if _elements(value) == 1:
            return value.reshape(-1)[0].item()
        return value.copy() if hasattr(value, "copy") else value
    return _plain_object(value)


def _plain_object(value: object) -> object:
    """Objects that are no arrays, while they still say what they said at the call."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, (set, frozenset)):
        return sorted((freeze(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {key: freeze(item) for key, item in value.items()}
    if hasattr(value, "__dict__") and type(value).__name__ == "Namespace":  # argparse's, hydra's
        return freeze(vars(value))
    if hasattr(value, "__dataclass_fields__"):
        return {name: freeze(getattr(value, name, None)) for name in value.__dataclass_fields__}
    return value


def number(value: object) -> Any:
    """The number that a reward or a return is, as its column takes it; None: it is none.

    A bool is 1 or 0; what `float` takes (a Decimal, a tensor, a text of digits) is that; so is either alone
    in lists.
    """
    try:
        value = value.tolist() if hasattr(value, "tolist") else value
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        found = None if "complex" in type(value).__name__ else float(value)  # type: ignore[arg-type]
    except Exception:
        return None
    return int(value) if isinstance(value, bool) else value if type(value) is int else found


def whole(value: object) -> Any:
    """The same for a count or an index: None, too, where it has a fraction."""
    found = number(value)
    try:
        return found if found is None or found == int(found) else None
    except (OverflowError, ValueError):  # an infinity, NaN
        return None


class Dumper:
    """Turns values into JSON text; what JSON cannot hold is replaced, counted and warned about once."""

    def __init__(self) -> None:
        self.replaced = 0
        self._markers: dict[int, object] = {}
        make = getattr(json.encoder, "c_make_encoder", None)
        plain: Callable[[object], str] = json.JSONEncoder(separators=(",", ":"), default=self._default).encode
        if make is not None:  # one encoder for all: building it costs more than a short value
            encoder = make(self._markers, self._default, quote, None, ":", ",", False, True, True)
            plain = lambda value: "".join(encoder(value, 0))  # noqa: E731  (a closure is the point)
        self._encode = plain

    def __call__(self, value: object, longest: int = MAX_CHARS) -> str:
        """JSON text of any value at all, of so many characters; NaN and the infinities are bare words."""
        try:
            text = self._encode(value)
        except Exception as error:  # circular, nested too deep, an object that raises when it is looked at
            self._markers.clear()
            return self._replace(value, f"could not be written as JSON ({error})", quote(_described(value)))
        if len(text) > longest:
            cut = quote(f"{text[:200]}… ({len(text):,} characters in all)")
            return self._replace(value, f"is {len(text):,} characters long as JSON: its head is kept", cut)
        return text

    def _default(self, value: object) -> object:
        if hasattr(value, "tolist"):
            if _elements(value) > MAX_ELEMENTS:
                return self._summary(value)
            plain = value.tolist()
            if type(plain) is not type(value):
                return plain
            real = number(value)  # NumPy's longest floats are their own `tolist`
            return _described(value) if real is None else real
        for convert in ("isoformat", "item", "as_posix"):
            if hasattr(value, convert):
                return getattr(value, convert)()
        if isinstance(value, (str, int, float)) or type(value).__module__ in ("uuid", "decimal", "fractions"):
            return str(value)
        text = _described(value)
        self._replace(value, "is nothing that JSON holds: its text is kept", text)
        return text

    def _summary(self, array: object) -> object:
        shape = [int(n) for n in getattr(array, "shape", ())]
        self._replace(
            array,
            f"has the shape {shape}, too large to log with each step: a summary is kept "
            "(pictures go by frame=)",
            "",
        )
        numbers = {name: getattr(array, name)() for name in ("min", "max") if hasattr(array, name)}
        return {"shape": shape, "dtype": str(getattr(array, "dtype", "")), **numbers}

    def _replace(self, value: object, what: str, instead: str) -> str:
        self.replaced += 1
        name = type(value).__name__
        _warn.once(f"value:{name}:{what[:12]}", f"a value of type {name} {what}.")
        return instead


def _elements(array: object) -> int:
    count = getattr(array, "size", 0)
    if callable(count):  # torch's size() is its shape
        count = array.numel() if hasattr(array, "numel") else 0
    return int(count)


def _described(value: object) -> str:
    try:
        return str(value)[:1000]
    except Exception:
        return f"<{type(value).__name__}>"


def flattened(data: Mapping[object, object], prefix: str = "") -> dict[str, object]:
    """Nested names joined by `/`."""
    flat: dict[str, object] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
