"""Docstrings of public functions name units and the errors that they raise, as CONTRIBUTING asks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("schemas", "infra", "producers", "consumers", "dashboard", "cli")
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
QUANTITY = re.compile(
    r"(^|_)(time|timeout|age|pause|delay|duration|interval|wait|lag|now|deadline|size|memory|height|since)(_|$)"
)
"""Names of numbers that mean nothing without a unit."""
WITH_UNIT = re.compile(r"_(s|ms|us|seconds|bytes|mb|px)$")
UNIT = re.compile(r"\b(seconds?|ms|µs|bytes?|MiB|characters|pixels)\b")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def errors_of_ours() -> set[str]:
    """Return the names of StepstreamError and of all classes derived from it."""
    known = {"StepstreamError"}
    classes = [node for path in MODULES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    while True:
        more = {
            node.name
            for node in classes
            if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & known
        }
        if more <= known:
            return known
        known |= more


ERRORS = errors_of_ours()


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """Return the nodes of a function, without those of the functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def raised(function: Function) -> set[str]:
    """Return the names of our errors that the function raises itself."""
    calls = (node.exc for node in own_nodes(function) if isinstance(node, ast.Raise))
    return {
        call.func.id for call in calls if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    } & ERRORS


def is_command(function: Function) -> bool:
    """Tell whether a function is a command, whose docstring is its `--help`."""
    return any(".command" in ast.unparse(decorator) for decorator in function.decorator_list)


def public_functions(tree: ast.Module) -> Iterator[tuple[str, Function, str]]:
    """Return name, node and docstring of each public function; `__init__` has that of its class, too."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_") and not is_command(node):
            yield node.name, node, ast.get_docstring(node) or ""
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            above = ast.get_docstring(node) or ""
            for inner in node.body:
                if isinstance(inner, Function) and (
                    inner.name in ("__init__", "__call__") or inner.name[0] != "_"
                ):
                    own = ast.get_docstring(inner) or ""
                    yield f"{node.name}.{inner.name}", inner, above + own if inner.name[0] == "_" else own


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_public_function_names_the_errors_that_it_raises(path: Path) -> None:
    """The docstring of a public function names each error that it raises under `Raises:`."""
    lacking = [
        f"{name} raises {error}"
        for name, function, text in public_functions(ast.parse(path.read_text(encoding="utf-8")))
        for error in sorted(raised(function))
        if "Raises:" not in text or error not in text.partition("Raises:")[2]
    ]
    assert lacking == []


def unitless(function: Function, text: str) -> Iterator[str]:
    """Return the numbers among the parameters whose unit neither their name nor the docstring has."""
    for parameter in (*function.args.args, *function.args.kwonlyargs):
        kind = ast.unparse(parameter.annotation) if parameter.annotation else ""
        is_number = re.fullmatch(r"(int|float)( \| None)?", kind) and QUANTITY.search(parameter.arg)
        if is_number and not WITH_UNIT.search(parameter.arg) and not UNIT.search(text):
            yield parameter.arg


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_public_function_names_the_units_of_its_numbers(path: Path) -> None:
    """The name, the function's docstring or that of its class has the unit of each number."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = {
        node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.ClassDef)
    }
    lacking = [
        f"{name}: {parameter}"
        for name, function, text in public_functions(tree)
        for parameter in unitless(function, text + classes.get(name.partition(".")[0], ""))
    ]
    assert lacking == []
