"""One warning for each thing that is odd: training goes on whatever happens here."""

from __future__ import annotations

import os
import sys
import warnings

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_said: set[str] = set()
_untold: list[str] = []


class StepstreamWarning(UserWarning):
    """Something could not be logged as asked; the message says what was done instead."""


def once(key: str, message: str) -> bool:
    """Warn unless `key` was warned about before in this process; True if it was said now."""
    if key in _said:
        return False
    _said.add(key)
    _untold.append(message)
    try:
        warnings.warn("stepstream: " + message, StepstreamWarning, stacklevel=_users_level())
    except Exception:  # a filter made an error of it (-W error): training must not end for it
        if sys.stderr is not None:
            sys.stderr.write("stepstream: " + message + "\n")
    return True


def untold() -> list[str]:
    """Warnings that no run has in its stream yet; they count as told from now on."""
    messages = _untold[:]
    del _untold[: len(messages)]
    return messages


def forget() -> None:
    """Start anew: for tests."""
    _said.clear()
    _untold.clear()


def _users_level() -> int:
    """How far up the first caller outside this package is, so that the warning names the user's line."""
    level, frame = 2, sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
