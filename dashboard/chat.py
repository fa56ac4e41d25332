"""A transcript as messages of parts: text, code, LaTeX, reasoning, calls of tools. Pure.

Only the shape is told apart: `formulas` says which LaTeX is drawn, and all else is shown as plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

Kind = Literal["text", "code", "math", "reasoning", "call", "more"]

_THOUGHT = re.compile(r"<(think|thinking|reasoning|thought)>(.*?)(?:</\1>|\Z)", re.S)
_ENDED = re.compile(r"\A(.*?)</(?:think|thinking|reasoning|thought)>", re.S)
_FENCE = re.compile(r"^```([\w+#.-]{0,40})[^\n]*\n(.*?)(?:^```[ \t]*(?:\n|\Z)|\Z)", re.S | re.M)
_MATH = re.compile(  # each alternative stops where another formula begins: no text takes long
    r"(?<!`)(`{1,2})(?!`)[^`\n]{1,300}\1(?!`)"  # code in a line is none
    r"|\$\$(?:(?!\$\$).)+\$\$|\\\[(?:(?!\\[\[\]]).)+\\\]|\\\((?:(?!\\[()]).)+\\\)"
    r"|(?<![\w$\\])\$(?=[^\s$])(?:\\.|[^\\$\n]){1,300}?(?<=[^\s])\$(?![\w$])"
    r"|\\begin\{((?:align|equation|gather|multline|eqnarray)\*?)\}(?:(?!\\begin\{\2\}).)+?\\end\{\2\}"
    r"|\\boxed\{(?=[^\s}])(?:[^{}\n]|\{(?:[^{}\n]|\{(?:[^{}\n]|\{[^{}\n]*\})*\})*\})*\}",
    re.S,
)
_MODELS = ("assistant", "model", "ai", "gpt")


class Part(Struct):
    """A piece of a message."""

    kind: Kind
    text: str
    name: str = ""
    """The language of code, the name of a tool."""


class Message(Struct):
    """What one role said."""

    role: str
    parts: list[Part] = field(default_factory=list)
    name: str = ""
    """Of the tool that answers, or of the speaker."""

    @property
    def tone(self) -> str:
        """How it is drawn: model, tool, system, user, or text of no role."""
        if self.role in _MODELS:
            return "model"
        return self.role if self.role in ("tool", "system", "user") else "text"


def messages(text: str | None, final_text: str | None) -> list[Message]:
    """The messages of a rollout's row; without any, the last thing the model said."""
    try:
        listed = msgspec.json.decode(text) if text else []
    except (msgspec.DecodeError, RecursionError):
        listed = [{"role": "text", "content": text}]
    found = [message(one) for one in listed] if isinstance(listed, list) else []
    if not found and final_text:
        return [message({"role": "assistant", "content": final_text})]
    return found


def message(said: Any) -> Message:
    """A message of the column `messages`."""
    if not isinstance(said, Mapping):
        return Message("text", [Part("text", _text(said))])
    made = Message(
        str(said.get("role", "text")), name=str(said.get("name") or said.get("tool_call_id") or "")
    )
    if reasoning := said.get("reasoning"):
        made.parts.append(Part("reasoning", _text(reasoning)))
    if (content := said.get("content")) is not None:
        made.parts += _parts(_text(content).lstrip("\n"), thinks=made.tone == "model")
    for call in said.get("tool_calls") or ():
        made.parts.append(_call(call))
    if others := said.get("extras"):
        made.parts.append(Part("more", _text(others)))
    return made


def _call(call: Any) -> Part:
    if not isinstance(call, Mapping):
        return Part("call", _text(call))
    return Part("call", _json(call.get("arguments")), str(call.get("name") or ""))


def _parts(text: str, *, thinks: bool) -> Iterator[Part]:
    """Reasoning that stands in the text itself is told apart, also where its beginning or end is missing."""
    at = 0
    if thinks and "<think" not in text and (ended := _ENDED.match(text)):
        yield Part("reasoning", ended[1].strip("\n"))
        at = ended.end()
    for thought in _THOUGHT.finditer(text, at) if thinks else ():
        yield from _prose(text[at : thought.start()])
        yield Part("reasoning", thought[2].strip("\n"))
        at = thought.end()
    yield from _prose(text[at:].lstrip("\n") if at else text)


def _prose(text: str) -> Iterator[Part]:
    at = 0
    for fence in _FENCE.finditer(text):
        yield from _formulas(text[at : fence.start()])
        yield Part("code", fence[2].rstrip("\n"), fence[1])
        at = fence.end()
    yield from _formulas(text[at:])


def _formulas(text: str) -> Iterator[Part]:
    at = 0
    for formula in _MATH.finditer(text):
        if formula[1]:
            continue
        if formula.start() > at:
            yield Part("text", text[at : formula.start()])
        yield Part("math", formula[0])
        at = formula.end()
    if text[at:].strip() or (text[at:] and at):
        yield Part("text", text[at:])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    """Structured text indented; text that is JSON likewise, all else as it is."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return str(value)
        if not isinstance(value, dict | list):
            return json.dumps(value, ensure_ascii=False)
    return json.dumps(value, indent=2, ensure_ascii=False)
