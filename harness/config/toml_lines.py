"""Finds the line on which a key of a TOML file stands, for errors that point at it."""

from __future__ import annotations

import re
from collections.abc import Mapping

_HEADER = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=(.*)$""")
_PART = re.compile(r""""([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)""")


def key_lines(text: str) -> Mapping[tuple[str, ...], int]:
    """Return the line (from 1) of every table and key; the items of a list of tables are counted ``"1"``, ``"2"``, ...

    What stands inside an inline table or a list is not found: look for the key that holds it.
    """
    found: dict[tuple[str, ...], int] = {}
    counts: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    closing: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if closing is not None:  # inside a text of several lines
            closing = None if closing in line else closing
            continue
        if header := _HEADER.match(line):
            table = _parts(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, 0) + 1
                found.setdefault(table, number)
                table = (*table, str(counts[table]))
            else:
                table = _counted(table, counts)
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            path = (*table, *_parts(key[1]))
            for length in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:length], number)
            closing = next((q for q in ('"""', "'''") if key[2].count(q) == 1), None)
    return found


def line_of(lines: Mapping[tuple[str, ...], int], where: str) -> int | None:
    """Return the line of a dotted key, or of the nearest table that holds it."""
    path = tuple(where.split("."))
    for length in range(len(path), 0, -1):
        if line := lines.get(path[:length]):
            return line
    return None


def _parts(text: str) -> tuple[str, ...]:
    return tuple(next(p for p in found if p) if any(found) else "" for found in _PART.findall(text))


def _counted(table: tuple[str, ...], counts: Mapping[tuple[str, ...], int]) -> tuple[str, ...]:
    """Return the path with the number of the last item where it leads through a list of tables."""
    path: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    for at, part in enumerate(table):
        path, plain = (*path, part), (*plain, part)
        if at < len(table) - 1 and plain in counts:
            path = (*path, str(counts[plain]))
    return path
