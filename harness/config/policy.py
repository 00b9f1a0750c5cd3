"""Numbering policies: presets by name, and files of one's own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints
from zoneinfo import ZoneInfo

from harness.config.number_format import parse_format
from harness.model.errors import UsageError, nearest
from harness.model.policy import GapBudget, Policy

_PRESETS = files("harness.config") / "policies"


def policy_names() -> list[str]:
    """Return the names of the presets."""
    return sorted(item.name.removesuffix(".toml") for item in _PRESETS.iterdir() if item.name.endswith(".toml"))


def load_policy(name: str) -> Policy:
    """Return the preset of this name, or the policy in the file at this path.

    Raises:
        UsageError: there is neither; the file is not TOML; a field is unknown or its value makes no sense.
    """
    if name in policy_names():
        return _read(name, (_PRESETS / f"{name}.toml").read_text(encoding="utf-8"), f"preset {name}")
    path = Path(name)
    if path.suffix != ".toml" and not path.exists():
        known = policy_names()
        raise UsageError(f"no policy is called {name!r}{nearest(name, known)}; give a .toml file, or one of: {', '.join(known)}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"the policy {name} cannot be read: {e}") from e
    return _read(path.stem, text, name)


def _read(name: str, text: str, where: str) -> Policy:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{where} is not TOML: {e}") from e
    return policy_of(document, name=name, where=where)


def policy_of(document: Mapping[str, Any], *, name: str, where: str) -> Policy:
    """Return the policy that a table of fields describes. Raises UsageError as `load_policy` does."""
    chosen = dict(document)
    budget = chosen.pop("budget", None)
    values = _typed(chosen, Policy, where)
    if budget is not None:
        if not isinstance(budget, Mapping):
            raise UsageError(f"{where}: budget is a table: [budget]")
        values["budget"] = GapBudget(**_typed(budget, GapBudget, f"{where}: budget"))
    policy = Policy(**{"name": name, **values})
    _sane(policy, where)
    return policy


def _typed(document: Mapping[str, Any], kind: type, where: str) -> dict[str, Any]:
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key not in hints:
            raise UsageError(f"{where}: there is no field {key!r}{nearest(key, known)}; there are: {', '.join(known)}")
        values[key] = _value(value, hints[key], f"{where}: {key}")
    return values


def _value(value: Any, hint: Any, where: str) -> Any:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        try:
            return hint(value)
        except ValueError:
            choices = [str(item) for item in hint]
            raise UsageError(f"{where} cannot be {value!r}{nearest(str(value), choices)}; one of: {', '.join(choices)}") from None
    if hint == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise UsageError(f"{where} is a list of texts, not {value!r}")
    kinds: dict[Any, tuple[type, ...]] = {
        str: (str,),
        bool: (bool,),
        int: (int,),
        float: (int, float),
        str | None: (str,),
        int | None: (int,),
    }
    allowed = kinds[hint]
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise UsageError(f"{where} is {'a number' if int in allowed else 'a text' if str in allowed else 'true or false'}, not {value!r}")
    return value


def _sane(policy: Policy, where: str) -> None:
    try:
        ZoneInfo(policy.time_zone)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"{where}: time_zone {policy.time_zone!r} is unknown; give an IANA name such as Europe/Berlin") from None
    if not 1 <= policy.fiscal_start_month <= 12:
        raise UsageError(f"{where}: fiscal_start_month is 1 to 12, not {policy.fiscal_start_month}")
    if policy.format is not None:
        parse_format(policy.format)
    budget = policy.budget
    if not 0 <= budget.normal <= budget.investigate <= 1:
        raise UsageError(f"{where}: the budget needs 0 <= normal <= investigate <= 1, not {budget.normal} and {budget.investigate}")
    if budget.denominator not in ("range", "issued"):
        raise UsageError(f"{where}: the budget's denominator is range or issued, not {budget.denominator!r}")
    if not 0 < budget.significance < 1:
        raise UsageError(f"{where}: the budget's significance lies between 0 and 1, not {budget.significance}")
