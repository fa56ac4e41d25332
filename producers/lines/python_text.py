"""Python's own text of a dict, as `print(metrics)` writes it: single quotes, None, np.float32(1.0)."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

LONGEST = 1024 * 1024
"""A longer text is not parsed: Python's parser would take many times its size in memory."""
NUMPY = re.compile(r"(?:np|numpy)\.(?:float|int|uint|bool|str)\w*\((.+)\)", re.A | re.S)
"""The text of a NumPy scalar; the group holds its value."""
_BEGIN = re.compile(r"\{\s*(?:'|\}$)")
_NAMES = {"nan": float("nan"), "inf": float("inf"), "True_": True, "False_": False}


class NoValueError(ValueError):
    """A part of the text has no JSON form; the message is that part."""


def is_dict(text: str) -> bool:
    """Whether the text begins like a Python dict, whose names have single quotes."""
    return _BEGIN.match(text) is not None


def as_json(text: str) -> str:
    """The JSON of a dict's text. Tuples and arrays become lists.

    Raises:
        NoValueError: something in it is no plain value; the message names it.
    """
    try:
        if len(text) > LONGEST:
            raise NoValueError(f"of {len(text):,} characters")
        return json.dumps(_value(ast.parse(text, mode="eval").body))
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise NoValueError(getattr(error, "text", None) or "the whole") from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        return node.value
    if isinstance(node, ast.Dict):
        return {_key(key): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        found = _value(node.operand)
        if isinstance(found, (int, float)):
            return -found if isinstance(node.op, ast.USub) else found
    if isinstance(node, ast.Call) and _is_wrapper(node) and node.args:
        return _value(node.args[0])
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    if name in _NAMES:
        return _NAMES[name]
    raise NoValueError(ast.unparse(node)[:40])


def _key(node: ast.expr | None) -> str:
    found = None if node is None else _value(node)
    if not isinstance(found, (str, int, float)):
        raise NoValueError("a name that is no text")
    return str(found)


def _is_wrapper(node: ast.Call) -> bool:
    """np.float32(1.0), array([…]), tensor(1.0): the value itself."""
    name = ast.unparse(node.func).rpartition(".")[2]
    return name in ("array", "tensor", "bool") or NUMPY.fullmatch(f"np.{name}(0)") is not None
