"""Writes plain values as TOML, for tests: tables as sections, lists of tables as ``[[...]]``."""

from __future__ import annotations

import json
from typing import Any


def as_toml(document: dict[str, Any]) -> str:
    lines: list[str] = []
    _table(document, (), lines)
    return "\n".join(lines) + "\n"


def _table(table: dict[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    later = []
    for key, value in table.items():
        sections = isinstance(value, list) and value and all(isinstance(v, dict) for v in value) and not path
        if (isinstance(value, dict) and len(path) < 2) or sections:
            later.append((key, value))
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in later:
        inner = (*path, key)
        for item in value if isinstance(value, list) else [value]:
            brackets = ("[[", "]]") if isinstance(value, list) else ("[", "]")
            lines.append(brackets[0] + ".".join(_key(k) for k in inner) + brackets[1])
            _table(item, inner, lines)


def _key(key: str) -> str:
    return key if key.isascii() and key.isidentifier() else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value).replace("Infinity", "inf") if not isinstance(value, float) else repr(value)


def _text(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" if ord(c) < 32 or ord(c) == 127 or c in '"\\' else c for c in text) + '"'
