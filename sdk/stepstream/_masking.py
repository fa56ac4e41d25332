"""Masks secrets in command lines, which would otherwise be stored in Kafka and SQL."""

from __future__ import annotations

import re

MASK = "***"
WORDS = "key,token,secret,password,passwd,passphrase,pwd,credential,auth,cookie,dsn"
"""An option or variable with one of these words in its name has a secret value."""

_NUMBER = re.compile(r"[-+.\d]{1,7}$")
"""Names such as `--max-tokens` that are no secrets."""
_URL_PASSWORD = re.compile(r"(?<=://)([^/?#\s:@]*):([^/?#\s]*)@")
_URL_QUERY = re.compile(r"([?&][^=&#\s]+=)([^&#\s]*)")


def masked(command: list[str], more: str = "") -> list[str]:
    """A command line with its secrets replaced by `***`.

    Args:
        command: the program and its arguments.
        more: further words of names, separated by commas.
    """
    secret = _names(more)
    found: list[str] = []
    hide = False
    for argument in command:
        name, equals, _ = argument.partition("=")
        value = argument[len(name) + 1 :]
        if hide and not argument.startswith("-"):
            found.append(argument if _NUMBER.match(argument) else MASK)
        elif equals and secret.search(name) and "://" not in name and not _NUMBER.match(value):
            found.append(f"{name}={MASK}")
        elif len(words := argument.split()) > 1 and masked(words, more) != words:
            found.append(" ".join(masked(words, more)))  # of `sh -c`
        else:
            found.append(masked_url(argument, more))
        hide = not equals and argument.startswith("-") and bool(secret.search(argument))
    return found


def masked_url(text: str, more: str = "") -> str:
    """A text with the passwords of the URLs in it replaced, before the host and in the query."""
    secret = _names(more)
    text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    if "://" not in text:
        return text
    return _URL_QUERY.sub(lambda found: found[1] + (MASK if secret.search(found[1]) else found[2]), text)


def _names(more: str) -> re.Pattern[str]:
    words = "|".join(re.escape(word.strip()) for word in f"{WORDS},{more}".split(",") if word.strip())
    return re.compile(rf"(?:^|[^a-z])(?:[a-z0-9]*)(?:{words})s?(?:[^a-z]|$)", re.IGNORECASE)
