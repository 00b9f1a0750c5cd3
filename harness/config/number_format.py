"""Number formats: ``INV-{00000}``, ``PAY{yyyy}{0000}``, ``Inv{branch}{MM_DD_YYYY}_{0000}``.

Zeros in braces are the padded number, letters a date part or the name of a scope key; everything else stands for itself.
A number that outgrows its padding grows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from harness.model.errors import UsageError

DATE_PARTS = {
    "yyyy": ("%Y", r"\d{4}"),
    "yy": ("%y", r"\d{2}"),
    "mm": ("%m", r"\d{2}"),
    "dd": ("%d", r"\d{2}"),
    "MM_DD_YYYY": ("%m_%d_%Y", r"\d{2}_\d{2}_\d{4}"),
    "YYYY_MM_DD": ("%Y_%m_%d", r"\d{4}_\d{2}_\d{2}"),
    "yyyymmdd": ("%Y%m%d", r"\d{8}"),
    "yyyymm": ("%Y%m", r"\d{6}"),
}

_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, kw_only=True)
class NumberFormat:
    """A format that was understood.

    ``pattern`` is a regular expression with the groups ``digits`` and ``date_NAME``; ``dates`` pairs each date part with its
    strftime format; ``pieces`` are (kind, text) with kinds literal, number, date and key.
    """

    template: str
    pieces: tuple[tuple[str, str], ...]
    width: int
    pattern: str
    dates: tuple[tuple[str, str], ...]


@cache
def parse_format(template: str) -> NumberFormat:
    """Understand a format. Raises UsageError when it has no number, two of them, or a brace that is not closed."""
    pieces: list[tuple[str, str]] = []
    at = 0
    for match in _FIELD.finditer(template):
        if match.start() > at:
            pieces.append(("literal", template[at : match.start()]))
        name = match[1]
        if name and set(name) == {"0"}:
            pieces.append(("number", name))
        elif name in DATE_PARTS:
            pieces.append(("date", name))
        elif name.isidentifier():
            pieces.append(("key", name))
        else:
            raise UsageError(f"the number format {template!r} has a field {{{name}}} that means nothing")
        at = match.end()
    if at < len(template):
        pieces.append(("literal", template[at:]))
    if any(kind == "literal" and set(text) & set("{}") for kind, text in pieces):
        raise UsageError(f"the number format {template!r} has a brace without its partner")
    numbers = [text for kind, text in pieces if kind == "number"]
    if len(numbers) != 1:
        raise UsageError(f"the number format {template!r} needs one number such as {{00000}}, and has {len(numbers)}")
    names = [text for kind, text in pieces if kind == "date"]
    if len(set(names)) != len(names):
        raise UsageError(f"the number format {template!r} has a date part twice")
    return NumberFormat(
        template=template,
        pieces=tuple(pieces),
        width=len(numbers[0]),
        pattern="^" + "".join(_pattern(kind, text) for kind, text in pieces) + "$",
        dates=tuple((name, DATE_PARTS[name][0]) for name in names),
    )


def format_number(template: str, number: int, *, dated: datetime, keys: Mapping[str, str]) -> str:
    """Return the number as printed for a document of this date and these scope keys.

    Raises:
        UsageError: the format names a scope key that is not given.
    """
    text = ""
    for kind, value in parse_format(template).pieces:
        if kind == "number":
            text += str(number).zfill(len(value))
        elif kind == "date":
            text += dated.strftime(DATE_PARTS[value][0])
        elif kind == "key":
            if value not in keys:
                raise UsageError(f"the number format {template!r} needs the scope key {value!r}")
            text += keys[value]
        else:
            text += value
    return text


def parse_number(template: str, text: str) -> int | None:
    """Return the number that a text prints, or None if it does not follow the format."""
    found = parse_format(template)
    match = re.match(found.pattern.replace("(?<", "(?P<"), text)
    if match is None:
        return None
    digits = match["digits"]
    number = int(digits)
    return number if digits == str(number).zfill(found.width) else None


def _pattern(kind: str, text: str) -> str:
    if kind == "number":
        return f"(?<digits>[0-9]{{{len(text)},}})"
    if kind == "date":
        return f"(?<date_{text}>{DATE_PARTS[text][1]})"
    if kind == "key":
        return ".+?"
    return re.escape(text)
