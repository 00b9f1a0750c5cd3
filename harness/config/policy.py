"""Policies by name or from a file.

A policy file is TOML; its keys are the fields of `harness.model.Policy`, with a table ``[budget]`` for the gap budget::

    name = "our-invoices"
    scope_keys = ["company", "document_type"]
    period = "year"
    time_zone = "Asia/Manila"
    format = "INV{yyyy}-{00000}"
    continuity = "budget"

    [budget]
    normal = 0.03
    investigate = 0.05

The presets beside this module (``policies/*.toml``) are files of the same kind. Those named after a jurisdiction are
defaults to start from, not legal advice.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from harness.config.number_format import read_template
from harness.model import Continuity, GapBudget, Overflow, Period, Policy, UsageError, nearest

PRESETS = Path(__file__).parent / "policies"

_ENUMS: Mapping[str, type[StrEnum]] = {"continuity": Continuity, "period": Period, "overflow": Overflow}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_keys(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(k, str) and k.isidentifier() for k in value)


_COUNT = (_is_count, "a whole number, 0 or more")
_SHARE = (_is_share, "a share between 0 and 1 (0.05 is 5 %)")
_SWITCH = (lambda value: isinstance(value, bool), "true or false")
_TEXT = (lambda value: isinstance(value, str), "text")
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("fiscal_start_month", "maximum", "max_length", "start", "minimum_sample"), _COUNT),
    **dict.fromkeys(("normal", "investigate", "significance"), _SHARE),
    **dict.fromkeys(("real_time_order", "dates_ascend", "voids_allowed", "void_reason_required"), _SWITCH),
    "scope_keys": (_is_keys, 'a list of argument names, such as ["company", "document_type"]'),
    "unique_per": (lambda value: value in ("ever", "period"), "ever or period"),
    "denominator": (lambda value: value in ("range", "issued"), "range or issued"),
}


def policy_names() -> list[str]:
    """Return the names of the presets, sorted."""
    return sorted(p.stem for p in PRESETS.glob("*.toml"))


def load_policy(name: str | Path) -> Policy:
    """Return a preset by name, or the policy in a file (anything with a slash or the ending ``.toml``).

    Raises:
        UsageError: there is no such preset or file, or the file is not a policy; the message names file, key and cure.
    """
    text = str(name)
    if text.endswith(".toml") or "/" in text:
        return read_policy(Path(text))
    path = PRESETS / f"{text}.toml"
    if text not in policy_names():
        raise UsageError(
            f"no policy is called {text!r}{nearest(text, policy_names())}; see: racegate list policies, "
            "or give the path of a .toml file"
        )
    return read_policy(path)


def read_policy(path: Path) -> Policy:
    """Read a policy from a TOML file. Raises UsageError as `load_policy` does."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"cannot read the policy {path}: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"{path} is not TOML: {e}") from e
    return policy_from(data, where=str(path))


def policy_from(data: Mapping[str, Any], *, where: str) -> Policy:
    """Make a policy of plain values; ``where`` is their file, named in errors and the default name. Raises UsageError."""
    known = {f.name for f in dataclasses.fields(Policy)}
    budget_known = {f.name for f in dataclasses.fields(GapBudget)}
    values: dict[str, Any] = {"name": Path(where).stem}
    for key, value in data.items():
        if key not in known:
            raise UsageError(f"{where}: unknown field {key!r}{nearest(key, known)}; known: {', '.join(sorted(known))}")
        if key == "budget":
            values[key] = _budget(value, budget_known, where)
        else:
            values[key] = _value(key, value, where)
    return _consistent(Policy(**values), where)


def plain(policy: Policy) -> dict[str, Any]:
    """Return a policy as the plain values that `policy_from` makes it of; what is not set is left out."""
    values = dataclasses.asdict(policy)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items() if value is not None}


def kept_policy(asked: Mapping[str, Any]) -> Policy:
    """Return the policy of a run by its ``run.json``. One of an older version holds no more than a name or a path.

    Raises:
        UsageError: as `load_policy`.
    """
    rules = asked.get("policy_rules")
    if isinstance(rules, Mapping):
        return policy_from(rules, where="policy_rules of run.json")
    return load_policy(asked.get("policy") or "")


def _budget(value: Any, known: set[str], where: str) -> GapBudget:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: budget must be a table: [budget] with normal, investigate ...")
    for key in value:
        if key not in known:
            raise UsageError(f"{where}: unknown field budget.{key}{nearest(key, known)}; known: {', '.join(sorted(known))}")
    budget = GapBudget(**{key: _value(key, item, where, table="budget.") for key, item in value.items()})
    if budget.normal > budget.investigate:
        raise UsageError(
            f"{where}: budget.normal ({budget.normal}) is above budget.investigate ({budget.investigate}); "
            "nothing would ever be investigated before it is abnormal"
        )
    return budget


def _value(key: str, value: Any, where: str, table: str = "") -> Any:
    if key in _ENUMS:
        choices = [e.value for e in _ENUMS[key]]
        if value not in choices:
            raise UsageError(f"{where}: {key} must be one of {', '.join(choices)}, not {value!r}{nearest(str(value), choices)}")
        return _ENUMS[key](value)
    fits, expected = _RULES.get(key, _TEXT)
    if not fits(value):
        raise UsageError(f"{where}: {table}{key} must be {expected}, not {value!r}")
    return tuple(value) if isinstance(value, list) else value


def _consistent(policy: Policy, where: str) -> Policy:
    """Check what single values cannot show."""
    if not 1 <= policy.fiscal_start_month <= 12:
        raise UsageError(f"{where}: fiscal_start_month must be a month from 1 to 12, not {policy.fiscal_start_month}")
    try:
        ZoneInfo(policy.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as e:
        raise UsageError(f"{where}: time_zone {policy.time_zone!r} is not known; use an IANA name such as Asia/Manila") from e
    if policy.charset is not None:
        try:
            re.compile(f"[{policy.charset}]")
        except re.error as e:
            raise UsageError(f"{where}: charset {policy.charset!r} is not the inside of a character class: {e}") from e
    if policy.maximum is not None and policy.maximum < policy.start:
        raise UsageError(f"{where}: maximum ({policy.maximum}) is below start ({policy.start})")
    if policy.format is not None:
        try:
            read_template(policy.format)
        except UsageError as e:
            raise UsageError(f"{where}: {e}") from e
    return policy
