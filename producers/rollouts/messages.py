"""Messages of a conversation in one form, and the turns that they make. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from producers.rollouts.model import Message, Row, Turn, inside, listed, rest, text_of, to_json

_ASSISTANT = ("assistant", "model", "ai", "gpt")


def is_models(message: Message) -> bool:
    """Whether the model said it."""
    return message.get("role") in _ASSISTANT


def message_of(raw: Any) -> Message:
    """A message in one form, whatever the framework: role, content, reasoning, tool_calls and the rest."""
    if not isinstance(raw, dict):
        return {"role": "text", "content": text_of(raw)}
    made: Message = {"role": str(raw.get("role", raw.get("from", "text")))}
    content = raw.get("content", raw.get("value"))
    if content is not None:
        made["content"] = content if isinstance(content, str) else text_of(content)
    reasoning = raw.get("reasoning_content") or raw.get("reasoning") or raw.get("thinking")
    if isinstance(reasoning, str) and reasoning:
        made["reasoning"] = reasoning
    if calls := [_call(call) for call in listed(raw.get("tool_calls")) if isinstance(call, dict)]:
        made["tool_calls"] = calls
    for name in ("tool_call_id", "name"):
        if isinstance(raw.get(name), str):
            made[name] = raw[name]
    if others := rest(raw, "role", "from", "content", "value", "reasoning_content", "reasoning", "thinking",
                      "tool_calls", "tool_call_id", "name"):  # fmt: skip
        made["extras"] = others
    return made


def _call(call: Row) -> Row:
    function = inside(call.get("function"))
    arguments = function.get("arguments", call.get("arguments"))
    if isinstance(arguments, dict):  # parquet's structs have every key of the column
        arguments = {name: value for name, value in arguments.items() if value is not None}
    made = {"name": function.get("name", call.get("name")), "arguments": arguments}
    return {**({"id": call["id"]} if call.get("id") else {}), **made}


def messages_of(raw: Any, role: str = "text") -> list[Message]:
    """Messages of a list of them, or of one undivided text."""
    if isinstance(raw, list):
        return [message_of(item) for item in raw]
    return [] if raw is None else [{"role": role, "content": text_of(raw) or ""}]


def turns_of(messages: Iterable[Message]) -> list[Turn]:
    """The model's turns: each of its messages, with what it read since the one before."""
    return [Turn(*exchange) for exchange in exchanges(messages)[0]]


def exchanges(messages: Iterable[Message]) -> tuple[list[tuple[str, str]], str | None]:
    """What the model read and said, turn by turn, and the last thing it said (`final_text`)."""
    found: list[tuple[str, str]] = []
    read: list[str] = []
    final = None
    for message in messages:
        content = message.get("content") or ""
        if is_models(message):
            found.append(("\n\n".join(read), content or said(message)))
            read, final = [], content
        else:
            read.append(content)
    return found, final


def said(message: Message) -> str:
    """What the model said as text; of a message that only calls tools, the calls."""
    content = message.get("content") or ""
    if not content and message.get("tool_calls"):
        return to_json(message["tool_calls"])
    return content


def final_text(messages: Iterable[Message]) -> str | None:
    """The last thing the model said; empty where it said nothing or only called tools."""
    return exchanges(messages)[1]
