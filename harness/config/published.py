"""The published JSON schema of ``racegate.toml``, made from its sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from harness.config.policy import policy_names
from harness.config.sections import BooksSection, OperationSection, RunSection, ServiceConfig, StoreSection, TargetSection
from harness.config.service import ENCODINGS, METHODS, SECTIONS
from harness.model.books import TABLES

NAME = "racegate.config/1"
_CHOICES: Mapping[str, tuple[str, ...]] = {"encoding": ENCODINGS, "method": METHODS}


def config_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema, draft 2020-12) of a configuration read as TOML."""
    meanings = {"gate": "what racegate gate runs; see the gate's own page"} | {
        f.name: f.metadata["about"] for f in fields(ServiceConfig) if "about" in f.metadata
    }
    policy = {"oneOf": [{"type": "string", "examples": policy_names()}, {"type": "object"}]}
    books = {"type": "object", "properties": {t: _reference(BooksSection) for t in TABLES if t != "inexact"}}
    properties: dict[str, Any] = {
        "target": _reference(TargetSection),
        "login": _reference(OperationSection),
        "operations": {"type": "object", "additionalProperties": _reference(OperationSection)},
        "store": _reference(StoreSection),
        "books": {**books, "additionalProperties": False},
        "policy": policy,
        "runs": {"type": "array", "items": _reference(RunSection)},
        "gate": {"type": "object"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": NAME,
        "title": "racegate.toml",
        "description": "A service in any language, described in one file.",
        "type": "object",
        "properties": {name: {**properties[name], "description": meanings[name]} for name in SECTIONS},
        "additionalProperties": False,
        "$defs": {s.__name__: _section(s) for s in (TargetSection, OperationSection, StoreSection, BooksSection, RunSection)},
    }


def _reference(section: type) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{section.__name__}"}


def _section(section: Any) -> dict[str, Any]:
    hints = get_type_hints(section)
    described: dict[str, Any] = {}
    for item in fields(section):
        kind = {**_kind(hints[item.name]), "description": item.metadata["about"]}
        if item.name in _CHOICES:
            kind["enum"] = list(_CHOICES[item.name])
        if item.default is not MISSING and item.default not in (None, ()):
            kind["default"] = item.default
        described[item.name] = kind
    required = [f.name for f in fields(section) if f.default is MISSING and f.default_factory is MISSING]
    return {
        "type": "object",
        "description": (section.__doc__ or "").split("\n")[0],
        "properties": described,
        "required": required,
        "additionalProperties": False,
    }


def _kind(hint: Any) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        kinds = [_kind(k) for k in arguments if k is not NoneType]
        return kinds[0] if len(kinds) == 1 else {"oneOf": kinds}
    if origin is tuple:
        return {"type": "array", "items": _kind(arguments[0])}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", **({} if arguments[1] is Any else {"additionalProperties": _kind(arguments[1])})}
    simple: Mapping[Any, dict[str, Any]] = {
        str: {"type": "string"},
        int: {"type": "integer", "exclusiveMinimum": 0},
        float: {"type": "number", "exclusiveMinimum": 0},
    }
    return simple.get(hint, {"type": "object"})
