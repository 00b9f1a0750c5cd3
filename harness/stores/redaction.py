"""Keeps passwords out of everything that is printed, logged or written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

HIDDEN = "***"

_IN_URL = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<user>[^\s:/@]*):(?P<password>[^\s/]*)@")
_IN_PAIRS = re.compile(r"(?i)\b(?P<key>password|passwd|pwd|sslpassword|token|secret)=(?P<value>'[^']*'|[^\s&;,]+)")


_SHORTEST = 6
_concealed: set[str] = set()


def conceal(variables: Mapping[str, str]) -> list[str]:
    """Take note of what environment variables hold, so that `redact` hides it; return what will be hidden.

    Of a URL only its password is a secret. Short values and plain numbers are none: hiding every ``3000`` would help nobody.
    """
    found: list[str] = []
    for value in variables.values():
        secret = value
        if "://" in value:
            try:
                secret = urlsplit(value).password or ""
            except ValueError:
                secret = value
        if len(secret) >= _SHORTEST and not secret.isdecimal():
            found += dict.fromkeys((secret, unquote(secret)))
    _concealed.update(found)
    return found


def redact(text: str) -> str:
    """Return the text with the passwords of URLs and of ``password=...`` pairs hidden, and what `conceal` was told of."""
    for secret in sorted(_concealed, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    hidden = _IN_URL.sub(rf"\g<scheme>\g<user>:{HIDDEN}@", text)
    return _IN_PAIRS.sub(rf"\g<key>={HIDDEN}", hidden)
