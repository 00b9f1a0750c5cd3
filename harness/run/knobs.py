"""Settings that a user chooses by name: ``--set isolation=serializable --set scopes=20``.

A scenario and a target each declare their settings; a name is given to whichever declares it, and to both if both do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.model.errors import UsageError, nearest


def parse_assignments(texts: list[str]) -> dict[str, str]:
    """Split ``name=value`` texts. Raises UsageError for one without ``=`` or a name given twice with another value."""
    chosen: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {text!r} is not name=value, for example --set unique_index=true")
        name = name.strip().replace("-", "_")
        if chosen.setdefault(name, value.strip()) != value.strip():
            raise UsageError(f"--set gives {name} two values, {chosen[name]!r} and {value.strip()!r}; choose one")
    return chosen


def divide(chosen: Mapping[str, Any], *declared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give each chosen setting to the groups that declare it, typed; return one mapping per group.

    Raises:
        UsageError: nobody declares a name, or a value does not fit.
    """
    known = {name for group in declared for name in group}
    for name in chosen:
        if name not in known:
            options = ", ".join(sorted(known)) or "none"
            raise UsageError(f"no setting is called {name!r}{nearest(name, known)}; there are: {options}")
    return [{name: typed(name, chosen[name], group[name]) for name in chosen if name in group} for group in declared]


def defaults(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default of every setting in the group."""
    return {name: setting.default for name, setting in group.items()}


def typed(name: str, value: Any, setting: Any) -> Any:
    """Return the value as the setting's type and as one of its choices, if it has any. Raises UsageError otherwise."""
    choices = tuple(setting.choices)
    if choices:
        for choice in choices:
            if _plain(choice) == _plain(value):
                return choice
        listed = ", ".join(str(c).lower() if isinstance(c, bool) else str(c) for c in choices)
        raise UsageError(f"{name} cannot be {value!r}; choose one of: {listed}")
    kind = type(setting.default)
    if not isinstance(value, str):
        return value
    if kind is bool:
        truth = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
        if value.lower() not in truth:
            raise UsageError(f"{name} is a switch: true or false, not {value!r}")
        return truth[value.lower()]
    if kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            raise UsageError(f"{name} is a number such as {setting.default}, not {value!r}") from None
    return value


def _plain(value: Any) -> str:
    return str(value).strip().lower().replace("-", " ").replace("_", " ")
