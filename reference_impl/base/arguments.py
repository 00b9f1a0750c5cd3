"""Reads the plain arguments of a request into typed values, or refuses them.

Everything that comes from outside passes through here exactly once, before any connection is touched: what is not
understood changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from reference_impl.base.refusal import Refused, invalid

MAX_MONEY = 10**13
"""Largest amount in minor units: a hundred billion pesos. Sums of many still fit 64 bits."""

MAX_TEXT = 200
MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.,]+([Zz]|[+-][0-9:]+)?")
"""What a time looks like (RFC 3339). `datetime.fromisoformat` knows the rest, but takes any character between date and time."""

FURTHEST_OFFSET = timedelta(hours=14)
"""No place is further from UTC, and PostgreSQL takes no more than 16 hours."""

_IN_ORDER = json.JSONEncoder(sort_keys=True)  # json.dumps would make one for each request

CURRENCY = "PHP"
COMPANY = "main"
"""The company that a request belongs to when it names none."""


def known(arguments: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse arguments that nobody asked for: a misspelt ``amount`` must not become a default."""
    if strange := set(arguments) - set(names):
        raise invalid(f"There is no argument {sorted(strange)[0]!r}; expected {', '.join(sorted(names))}.")


def text(arguments: Mapping[str, Any], name: str, *, default: str | None = None) -> str:
    """Return a short, printable text that is not blank, as it was given."""
    value = arguments.get(name, default)
    if value is None:
        raise invalid(f"{name} is missing.")
    if not isinstance(value, str):
        raise invalid(f"{name} must be a text, not {_kind(value)}.")
    if len(value) > MAX_TEXT or not value.isprintable() or not value.strip():
        raise invalid(f"{name} must have 1 to {MAX_TEXT} printable characters and not be blank.")
    return value


def texts(arguments: Mapping[str, Any], name: str, *, most: int) -> list[str]:
    """Return a list of 1 to ``most`` short texts, none twice."""
    value = arguments.get(name)
    if not isinstance(value, list | tuple):
        raise invalid(f"{name} must be a list, not {_kind(value)}.")
    if not 1 <= len(value) <= most:
        raise invalid(f"{name} must have 1 to {most} entries, not {len(value)}.")
    read = [text({name: entry}, name) for entry in value]
    if len(set(read)) < len(read):
        raise invalid(f"{name} names something twice.")
    return read


def money(arguments: Mapping[str, Any], name: str = "amount", *, least: int = 1) -> int:
    """Return an amount in whole minor units, from ``least`` to `MAX_MONEY`. A fraction is refused, not rounded."""
    value = arguments.get(name)
    if value is None:
        raise Refused("invalid_amount", f"{name} is missing.", status=422)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused("invalid_amount", f"{name} must be a whole number of minor units, not {_kind(value)}.", status=422)
    if not least <= value <= MAX_MONEY:
        raise Refused(
            "invalid_amount",
            f"{name} must be from {least} to {MAX_MONEY} minor units, not {_short(value)}.",
            status=422,
        )
    return value


def count(arguments: Mapping[str, Any], name: str, *, least: int = 1, most: int = 10**9, default: int | None = None) -> int:
    """Return a whole number from ``least`` to ``most``."""
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid(f"{name} must be a whole number, not {_kind(value)}.")
    if not least <= value <= most:
        raise invalid(f"{name} must be from {least} to {most}, not {_short(value)}.")
    return value


def switch(arguments: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """Return a yes or no."""
    value = arguments.get(name, default)
    if not isinstance(value, bool):
        raise invalid(f"{name} must be true or false, not {_kind(value)}.")
    return value


def currency(arguments: Mapping[str, Any]) -> str:
    """Return the currency, which is the one that the books are kept in."""
    value = arguments.get("currency", CURRENCY)
    if value != CURRENCY:
        raise Refused("foreign_currency", f"Only {CURRENCY} is accepted, not {_short(value)}.", status=422)
    return CURRENCY


def moment(arguments: Mapping[str, Any], name: str = "at") -> datetime:
    """Return a moment with its offset from UTC; the present if none is given. Tests own the clock by giving it."""
    value = arguments.get(name)
    if value is None:
        return datetime.now(UTC)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise invalid(f"{name} must be a text such as 2026-11-20T10:00:00+08:00.")
    try:
        parsed = datetime.fromisoformat(value.upper()) if MOMENT.fullmatch(value) else None
    except ValueError:
        parsed = None
    if parsed is None:
        raise invalid(f"{name} must be a time such as 2026-11-20T10:00:00+08:00.")
    if parsed.tzinfo is None:
        raise invalid(f"{name} needs an offset from UTC, such as +08:00.")
    offset = parsed.utcoffset() or timedelta()
    if abs(offset) > FURTHEST_OFFSET or offset % timedelta(minutes=1):
        raise invalid(f"{name} needs an offset from UTC that somebody lives by, from -14:00 to +14:00.")
    if not 2000 <= parsed.year <= 2200:
        raise invalid(f"{name} must lie in the years 2000 to 2200.")
    return parsed


def fingerprint(f: str, understood: Mapping[str, Any]) -> str:
    """Return what makes two requests with one key the same request: all that was understood of it but key and clock.

    A default counts whether it was said or not, because it is among what was understood.
    """
    return hashlib.sha256(_IN_ORDER.encode([f, understood]).encode()).hexdigest()


def pesos(amount: int) -> str:
    """Return minor units as people read them: ``₱1,875.55``."""
    sign = "-" if amount < 0 else ""
    return f"{sign}₱{abs(amount) // 100:,}.{abs(amount) % 100:02d}"


def _kind(value: Any) -> str:
    return {
        bool: "true or false",
        float: "a fraction",
        int: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
        type(None): "nothing",
    }.get(type(value), type(value).__name__)


def _short(value: Any) -> str:
    shown = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number with more than 20 digits"
    return shown if len(shown) <= 40 else shown[:40] + "..."
