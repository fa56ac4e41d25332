"""Text of token ids, by the `tokenizer.json` beside a file: decoding only, which needs no model.

The kinds of decoder that language models use: byte-level BPE, SentencePiece's blanks and byte tokens,
WordPiece, and plain joining.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

Decode = Callable[[Sequence[int]], str]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BLANK = "\u2581"


def load(path: Path) -> Decode | None:
    """What decodes with a `tokenizer.json`; None: there is none, or it is none that we can read."""
    try:
        content = json.loads(path.read_bytes())
        return _decoder(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _decoder(content: dict[str, Any]) -> Decode:
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram: pairs of text and score
        tokens: dict[int, str] = {index: pair[0] for index, pair in enumerate(vocabulary)}
    else:
        tokens = {index: text for text, index in vocabulary.items()}
    added = {item["id"]: item["content"] for item in content.get("added_tokens") or []}
    kinds = set(_kinds(content.get("decoder") or {}))

    def decode(ids: Sequence[int]) -> str:
        parts: list[str] = []
        plain: list[str] = []
        for token in ids:
            if token in added:
                parts += [_joined(plain, kinds), added[token]]
                plain = []
            else:
                plain.append(tokens.get(token, "\ufffd"))
        return "".join([*parts, _joined(plain, kinds)])

    return decode


def _kinds(decoder: dict[str, Any]) -> list[str]:
    return [
        str(decoder.get("type")),
        *(kind for part in decoder.get("decoders") or [] for kind in _kinds(part)),
    ]


def _joined(tokens: list[str], kinds: set[str]) -> str:
    text = "".join(tokens)
    if "ByteLevel" in kinds:
        return _from_characters(text)
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        return _with_bytes(tokens).replace(_BLANK, " ")
    if "WordPiece" in kinds:
        return " ".join(tokens).replace(" ##", "")
    return text


def _with_bytes(tokens: list[str]) -> str:
    found = b"".join(
        bytes([int(byte[1], 16)]) if (byte := _BYTE.fullmatch(token)) else token.encode() for token in tokens
    )
    return found.decode("utf-8", "replace")


def _from_characters(text: str) -> str:
    table = _bytes_by_character()
    return b"".join(
        bytes([table[character]]) if character in table else character.encode() for character in text
    ).decode("utf-8", "replace")


@cache
def _bytes_by_character() -> dict[str, int]:
    """GPT-2's way to write each byte as a character that can be printed."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
