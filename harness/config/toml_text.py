"""Writes plain values as inline TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def inline(value: Any) -> str:
    """Return plain values as inline TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(inline(v) for v in value) + "]"
    return as_text(value) if isinstance(value, str) else json.dumps(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else as_text(key)


def as_text(text: str) -> str:
    """Return a text between quotes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
