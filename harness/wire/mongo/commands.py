"""What a MongoDB command is, as far as its document tells. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from harness.wire.base import StepKind

UNGATED = frozenset(
    {
        "hello",
        "isMaster",
        "ismaster",
        "ping",
        "endSessions",
        "refreshSessions",
        "startSession",
        "saslStart",
        "saslContinue",
        "authenticate",
        "logout",
        "getnonce",
        "buildInfo",
        "buildinfo",
        "getParameter",
        "killCursors",
        "connectionStatus",
        "whatsmyuri",
        "hostInfo",
        "atlasVersion",
    }
)
"""What drivers say by themselves: it touches no document and no lock."""

KINDS = {
    "insert": StepKind.WRITE,
    "update": StepKind.WRITE,
    "delete": StepKind.WRITE,
    "bulkWrite": StepKind.WRITE,
    "findAndModify": StepKind.WRITE,
    "findandmodify": StepKind.WRITE,
    "find": StepKind.READ,
    "getMore": StepKind.READ,
    "count": StepKind.READ,
    "distinct": StepKind.READ,
    "aggregate": StepKind.READ,
    "commitTransaction": StepKind.COMMIT,
    "abortTransaction": StepKind.ROLLBACK,
}

_DRIVERS_OWN = frozenset(
    {"lsid", "$db", "$clusterTime", "txnNumber", "startTransaction", "autocommit", "$readPreference", "comment"}
    | {"maxTimeMS", "apiVersion", "apiStrict", "apiDeprecationErrors", "recoveryToken"}
)
"""Keys that say nothing of what the command does, or that differ from run to run."""

_VALUES = frozenset({"documents", "cursor", "cursors"})
"""Keys whose content is data: only that it is there belongs to the shape."""

SHOWN_LENGTH = 300


def kind_of(name: str, command: Mapping[str, Any]) -> StepKind:
    """Return what the command does."""
    if name == "aggregate":
        stages = command.get("pipeline")
        stages = stages if isinstance(stages, list) else []
        if any(isinstance(stage, Mapping) and ({"$out", "$merge"} & stage.keys()) for stage in stages):
            return StepKind.WRITE
    return KINDS.get(name, StepKind.OTHER)


def text_of(name: str, command: Mapping[str, Any]) -> str:
    """Return the command in short, with its values: ``update counters [{q: {_id: 'a'}, u: {$inc: {n: 1}}}]``."""
    return _short(name, command, _value)


def fingerprint_of(name: str, command: Mapping[str, Any]) -> str:
    """Return the command's shape, with every value as ``?``: the same in every run."""
    return _short(name, command, _shape, cut=False)


def _short(name: str, command: Mapping[str, Any], show: Any, *, cut: bool = True) -> str:
    subject = command.get(name)
    parts = [name]
    if name == "getMore":
        parts.append(str(command.get("collection", "")))
    elif isinstance(subject, str):
        parts.append(subject)
    for key, value in command.items():
        if key == name or key in _DRIVERS_OWN or (name == "getMore" and key == "collection"):
            continue
        if key in ("ordered", "new", "upsert") and isinstance(value, bool):
            if (key == "ordered") != value:
                parts.append(f"{key}: {str(value).lower()}")
            continue
        parts.append(f"{key}: {'?' if show is _shape and key in _VALUES else show(value)}")
    text = " ".join(parts)
    return text if not cut or len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 3] + "..."


def _shape(value: Any, depth: int = 0) -> str:
    if depth > 20:
        return "..."
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_shape(v, depth + 1)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        shapes = list(dict.fromkeys(_shape(v, depth + 1) for v in value))
        return "[" + ", ".join(shapes) + "]"
    return "?"


def _value(value: Any, depth: int = 0) -> str:
    if depth > 20:
        return "..."
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_value(v, depth + 1)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(v, depth + 1) for v in value) + "]"
    return _plain(value)


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return repr(value) if isinstance(value, str) else str(value)


def shown(document: Mapping[str, Any]) -> str:
    """Return a document in short, for showing."""
    text = _value(document)
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 3] + "..."


def leaves(value: Any, found: list[Any] | None = None, depth: int = 0) -> list[Any]:
    """Return the plain values inside a document, in order: what the ``?`` of the fingerprint stand for."""
    found = [] if found is None else found
    if depth > 20:
        return found
    if isinstance(value, Mapping):
        for inner in value.values():
            leaves(inner, found, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            leaves(inner, found, depth + 1)
    else:
        found.append(value)
    return found


def parameters_of(name: str, command: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values that the application put into the command."""
    kept = {k: v for k, v in command.items() if k != name and k not in _DRIVERS_OWN and not isinstance(v, bool)}
    return tuple(leaves(kept))
