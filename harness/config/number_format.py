"""Templates of printed numbers: ``INV-{00000}``, ``PAY{yyyy}{0000}``, ``Inv{branch}{MM_DD_YYYY}_{0000}``.

A template is text with fields in braces. A field of zeros is the number, padded to as many digits; exactly one is needed.
A field of ``yyyy``, ``yy``, ``mm``, ``dd`` (in either case) and separators is a part of the document's date; ``fy`` is the
fiscal year (``2026-27``). Any other name is a scope key, whose value stands there as it is.

The number may outgrow its padding, so ``9999`` is followed by ``10000``. A padded number has no further leading zeros: that
makes printing one to one, and is why ``PAY2026042070`` is not a number of ``PAY{yyyy}{0000}``. A scope key next to the number
with nothing between them cannot be told from it when it ends in a digit, so such a template is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from harness.model import Period, Policy, UsageError

_FIELD = re.compile(r"\{([^{}]*)\}")
_DATE_TOKEN = re.compile(r"yyyy|yy|mm|dd|fy", re.IGNORECASE)
_DATE_FIELD = re.compile(r"(?:yyyy|yy|mm|dd|fy|[-_./])+", re.IGNORECASE)
_PATTERNS = {
    "yyyy": "[0-9]{4}",
    "yy": "[0-9]{2}",
    "mm": "[0-9]{2}",
    "dd": "[0-9]{2}",
    "fy": "[0-9]{4}-[0-9]{2}",
}


class _Kind(StrEnum):
    LITERAL = "literal"
    NUMBER = "number"
    DATE = "date"
    SCOPE = "scope"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of a template: literal text, the number (``text`` is its zeros), a date token, or a scope key."""

    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ParsedNumber:
    """What a printed number says: the number, its digits as printed, date parts by token and scope values by key."""

    number: int
    digits: str
    dates: Mapping[str, str]
    scope: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template, read. ``width`` is the padding; ``pattern`` matches what it prints (Python's and Polars' dialect).

    The pattern's groups are ``number``, ``d0``, ``d1`` ... for the date tokens and ``s0``, ``s1`` ... for scope keys.
    """

    text: str
    parts: tuple[Part, ...]
    width: int
    pattern: str

    @property
    def date_tokens(self) -> tuple[str, ...]:
        """The date tokens in the order of their groups ``d0``, ``d1`` ..."""
        return tuple(p.text for p in self.parts if p.kind == _Kind.DATE)

    @property
    def scope_keys(self) -> tuple[str, ...]:
        """The scope keys in the order of their groups ``s0``, ``s1`` ..."""
        return tuple(p.text for p in self.parts if p.kind == _Kind.SCOPE)


@cache
def read_template(text: str) -> Template:
    """Read a template.

    Raises:
        UsageError: it has no field of zeros, or two; a field is empty or a brace is alone; the number touches a scope key.
    """
    parts: list[Part] = []
    at = 0
    for field in _FIELD.finditer(text):
        parts.extend(_literal(text, text[at : field.start()]))
        parts.extend(_field(text, field.group(1)))
        at = field.end()
    parts.extend(_literal(text, text[at:]))
    numbers = [p for p in parts if p.kind == _Kind.NUMBER]
    if len(numbers) != 1:
        raise UsageError(f"the number format {text!r} has {len(numbers)} number fields and needs one, for example INV-{{00000}}")
    for left, right in pairwise(parts):
        kinds = {left.kind, right.kind}
        if kinds == {_Kind.NUMBER, _Kind.SCOPE} or (left.kind == right.kind == _Kind.SCOPE):
            raise UsageError(
                f"in the number format {text!r} nothing separates {left.text!r} from {right.text!r}, so a printed number "
                "could be read in two ways; put a separator between them"
            )
    return Template(text=text, parts=tuple(parts), width=len(numbers[0].text), pattern=_pattern(parts))


def format_number(
    template: str, number: int, when: date | datetime, scope_values: Mapping[str, str] | None = None, *, fiscal_start: int = 1
) -> str:
    """Print a number. ``when`` is the document's date in the policy's time zone; ``fiscal_start`` the month of ``fy``.

    Raises:
        UsageError: the template is wrong, a scope value is missing, or the number is negative.
    """
    if number < 0:
        raise UsageError(f"a number cannot be negative: {number}")
    values = scope_values or {}
    read = read_template(template)
    out = []
    for part in read.parts:
        if part.kind == _Kind.NUMBER:
            out.append(f"{number:0{read.width}d}")
        elif part.kind == _Kind.DATE:
            out.append(date_part(part.text, when, fiscal_start))
        elif part.kind == _Kind.SCOPE:
            if part.text not in values:
                raise UsageError(f"the number format {template!r} needs a value for {part.text!r}")
            out.append(values[part.text])
        else:
            out.append(part.text)
    return "".join(out)


def parse_number(template: str, text: str) -> ParsedNumber | None:
    """Read a printed number back, or return None if the template cannot have printed it."""
    read = read_template(template)
    found = re.fullmatch(read.pattern, text)
    if found is None:
        return None
    digits = found["number"]
    if digits != f"{int(digits):0{read.width}d}":
        return None
    return ParsedNumber(
        number=int(digits),
        digits=digits,
        dates={token: found[f"d{i}"] for i, token in enumerate(read.date_tokens)},
        scope={key: found[f"s{i}"] for i, key in enumerate(read.scope_keys)},
    )


def date_part(token: str, when: date | datetime, fiscal_start: int = 1) -> str:
    """Return what a date token prints for a date."""
    if token == "fy":
        return fiscal_year(when, fiscal_start)
    return when.strftime({"yyyy": f"{when.year:04d}", "yy": "%y", "mm": "%m", "dd": "%d"}[token])


def fiscal_year(when: date | datetime, start_month: int) -> str:
    """Return the fiscal year of a date: ``2026-27``, or ``2026`` where it is the calendar year."""
    if start_month == 1:
        return f"{when.year:04d}"
    first = when.year if when.month >= start_month else when.year - 1
    return f"{first:04d}-{(first + 1) % 100:02d}"


def period_of(policy: Policy, when: datetime) -> str:
    """Return the period in which a moment falls: empty without periods, ``2026``, ``2026-27``, ``2026-11``, ``2026-11-20``."""
    local = when.astimezone(ZoneInfo(policy.time_zone))
    if policy.period is Period.FISCAL_YEAR:
        return fiscal_year(local, policy.fiscal_start_month)
    return {
        Period.NONE: "",
        Period.YEAR: f"{local.year:04d}",
        Period.MONTH: f"{local.year:04d}-{local.month:02d}",
        Period.DAY: f"{local.year:04d}-{local.month:02d}-{local.day:02d}",
    }[policy.period]


def _literal(template: str, text: str) -> list[Part]:
    if "{" in text or "}" in text:
        raise UsageError(f"the number format {template!r} has a brace without its partner")
    return [Part(kind=_Kind.LITERAL, text=text)] if text else []


def _field(template: str, field: str) -> list[Part]:
    if field and not field.strip("0"):
        return [Part(kind=_Kind.NUMBER, text=field)]
    if _DATE_FIELD.fullmatch(field) and _DATE_TOKEN.search(field):
        parts, at = [], 0
        for token in _DATE_TOKEN.finditer(field):
            parts.extend(_literal(template, field[at : token.start()]))
            parts.append(Part(kind=_Kind.DATE, text=token.group().lower()))
            at = token.end()
        return [*parts, *_literal(template, field[at:])]
    if field.isidentifier():
        return [Part(kind=_Kind.SCOPE, text=field)]
    raise UsageError(
        f"the number format {template!r} has a field {{{field}}} that is neither zeros, nor a date such as {{yyyy}}, "
        "nor the name of a scope key"
    )


def _pattern(parts: list[Part]) -> str:
    out, dates, scopes = [], 0, 0
    for part in parts:
        if part.kind == _Kind.NUMBER:
            out.append(f"(?P<number>[0-9]{{{len(part.text)},}})")
        elif part.kind == _Kind.DATE:
            out.append(f"(?P<d{dates}>{_PATTERNS[part.text]})")
            dates += 1
        elif part.kind == _Kind.SCOPE:
            out.append(f"(?P<s{scopes}>.+?)")
            scopes += 1
        else:
            out.append(re.escape(part.text))
    return "".join(out)
