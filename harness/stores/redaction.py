"""Keeps passwords out of everything that is printed, logged or written."""

from __future__ import annotations

import re

HIDDEN = "***"

_IN_URL = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<user>[^\s:/@]*):(?P<password>[^\s/]*)@")
_IN_PAIRS = re.compile(r"(?i)\b(?P<key>password|passwd|pwd|sslpassword|token|secret)=(?P<value>'[^']*'|[^\s&;,]+)")


def redact(text: str) -> str:
    """Return the text with the passwords of URLs and of ``password=...`` pairs hidden."""
    hidden = _IN_URL.sub(rf"\g<scheme>\g<user>:{HIDDEN}@", text)
    return _IN_PAIRS.sub(rf"\g<key>={HIDDEN}", hidden)
