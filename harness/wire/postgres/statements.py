"""What an SQL text is, as far as its tokens tell. Pure, and cached by text: an application says the same few again and again.

This is not a parser: it splits an SQL text into PostgreSQL's lexical tokens (strings, dollar quotes, nested comments,
numbers, words) and looks at the first words. Where tokens cannot tell (a function that writes, a rule), the kind is only a
label for people; nothing that must be right depends on it. What must be right is `Facts.housekeeping`, because such a
statement is not asked about outside a transaction: it is a list of what is known to touch no row and no lock, and
everything else is not housekeeping.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote

from harness.wire.base import StepKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of an SQL text.

    ``housekeeping`` holds outside a transaction, ``harmless`` also inside one (takes no snapshot, drops no lock).
    ``takes_session_locks`` and ``drops_session_locks``: advisory locks that outlive a transaction.
    """

    fingerprint: str
    kind: StepKind
    statements: int
    housekeeping: bool
    harmless: bool
    takes_session_locks: bool
    drops_session_locks: bool
    isolation: str | None = None
    """The level that the session's later transactions have from here on; empty: the server's again; None: nothing changes."""

    tags: Mapping[str, str] = field(default_factory=dict)


_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>--[^\n]*|/\*)
    | (?P<escape>[eE]'(?:[^'\\]|\\.|'')*(?:'|$))
    | (?P<string>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|$))
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*(?:"|$))
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$)
    | (?P<parameter>\$\d+)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)
    | (?P<number>0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)
    | (?P<end>;)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_TAG = re.compile(r"([\w.%-]+)\s*=\s*'((?:[^'\\]|\\.)*)'")
_LIST = re.compile(r"\(\s*\?(?:\s*,\s*\?)+\s*\)")
_MANY_ROWS = re.compile(r"(\((?:[^()]|\(\?\))*\))(?:\s*,\s*\1)+")
_DIGITS = re.compile(r"\d+")

_KINDS = {
    "begin": StepKind.BEGIN,
    "start": StepKind.BEGIN,
    "commit": StepKind.COMMIT,
    "end": StepKind.COMMIT,
    "rollback": StepKind.ROLLBACK,
    "abort": StepKind.ROLLBACK,
    "select": StepKind.READ,
    "values": StepKind.READ,
    "table": StepKind.READ,
    "show": StepKind.READ,
    "fetch": StepKind.READ,
    "explain": StepKind.READ,
    "insert": StepKind.WRITE,
    "update": StepKind.WRITE,
    "delete": StepKind.WRITE,
    "merge": StepKind.WRITE,
    "truncate": StepKind.WRITE,
    "copy": StepKind.WRITE,
}
_NAMES = frozenset({"savepoint", "release", "rollback", "deallocate", "execute", "prepare", "declare", "fetch", "close", "move"})
"""Commands whose names drivers make up (``sa_savepoint_1``): digits in them differ from run to run."""

_HARMLESS = frozenset({"show", "reset", "deallocate", "unlisten"})
_OUTSIDE = frozenset({"discard", "commit", "end", "rollback", "abort", "close"})
_CALLS = frozenset(
    {"version", "current_schema", "current_schemas", "current_database", "current_setting", "pg_backend_pid"}
    | {"pg_is_in_recovery", "set_config", "inet_server_addr", "select", "coalesce", "cast", "in", "and", "or"}
    | {"unnest", "generate_series", "from", "values", "as", "array", "any", "exists"}
)
"""What a SELECT without FROM may call (or have before a parenthesis) and still touch nothing."""

_CALL = re.compile(r"([\w.$]+)\s*\(")
_UNLOCK_ALL = "select pg_advisory_unlock_all()"
_CATALOGUE = re.compile(r"\b(?:from|join)\s+(?:only\s+)?(\S+)")
_FROM_LIST = re.compile(r"\bfrom\s+[^()]*?,", re.DOTALL)
_DOES_SOMETHING = re.compile(
    r"\b(?:insert|update|delete|merge|into|for|nextval|setval|\w*lock\w*|pg_sleep\w*|lo_\w+|dblink\w*|pg_(?:terminate|cancel)\w*"
    r"|pg_notify|set_config|pg_current_xact_id|txid_current)\b"
)
_DEFINED = re.compile(r"(?:\bwith(?:\s+recursive)?|,)\s+(\w+)\s*(?:\([^()]*\))?\s*as\s+(?:not\s+)?(?:materialized\s+)?\(")


_LEVEL = re.compile(
    r"\b(?:session\s+characteristics\s+as\s+transaction\b[^;]*?\bisolation\s+level|default_transaction_isolation(?:'\s*,|\s*=|\s+to\b))"
    r"\s*'?(serializable|repeatable\s+read|read\s+committed|read\s+uncommitted|default)\b",
    re.IGNORECASE,
)
_RESET = re.compile(r"\b(?:discard\s+all|reset\s+(?:all|default_transaction_isolation))\b", re.IGNORECASE)

CACHED_LENGTH = 8192
"""Longer texts are bulk loads with their values inside: they do not come again, and would fill the memory."""


def facts_of(sql: bytes) -> Facts:
    """Return what is known of an SQL text (UTF-8; bytes that are not are replaced)."""
    return _cached(sql) if len(sql) <= CACHED_LENGTH else _analyse(sql)


def _analyse(sql: bytes) -> Facts:
    statements, tags = _split(sql.decode("utf-8", "replace"))
    shapes = [_shape(tokens) for tokens in statements]
    folded = [shape.lower() for shape in shapes]
    return Facts(
        fingerprint="; ".join(shapes),
        kind=joined_kind({_kind(text) for text in folded}),
        statements=max(len(shapes), 1),
        housekeeping=all(_housekeeping(text) for text in folded),
        harmless=all(_harmless(text) for text in folded),
        takes_session_locks=any("advisory_lock" in text for text in folded),
        drops_session_locks=any("advisory_unlock" in text or text == "discard all" for text in folded),
        isolation=level_chosen(sql.decode("utf-8", "replace")) if any(_chooses(text) for text in folded) else None,
        tags=tags,
    )


_cached = lru_cache(maxsize=4096)(_analyse)


def _split(text: str) -> tuple[list[list[tuple[str, str]]], dict[str, str]]:
    """Return each statement's tokens without comments, and the tags found in comments."""
    statements: list[list[tuple[str, str]]] = [[]]
    tags: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match is not None  # the last alternative takes any character
        sort, token, start = match.lastgroup or "other", match.group(), at
        at = match.end()
        if sort == "comment":
            if token == "/*":
                at = _end_of_comment(text, at)
            for key, value in _TAG.findall(text[start:at]):
                tags[unquote(key)] = unquote(value.replace("\\'", "'"))
            statements[-1].append(("space", " "))
        elif sort == "dollar":
            closing = text.find(token, at)
            at = len(text) if closing < 0 else closing + len(token)
            statements[-1].append(("string", "?"))
        elif sort == "end":
            statements.append([])
        else:
            statements[-1].append((sort, token))
    return [s for s in statements if any(sort != "space" for sort, _ in s)], tags


def _end_of_comment(text: str, at: int) -> int:
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, at)
        if edge is None:
            return len(text)
        depth += 1 if edge.group() == "/*" else -1
        at = edge.end()
    return at


def _shape(tokens: list[tuple[str, str]]) -> str:
    """Return the statement with literals as ``?``, blanks folded, lists of values of any length alike."""
    parts: list[str] = []
    first = next(token for sort, token in tokens if sort != "space").lower()
    made_up = first in _NAMES
    for sort, token in tokens:
        if sort == "space":
            if parts and parts[-1] != " ":
                parts.append(" ")
        elif sort in ("string", "escape", "number"):
            parts.append("?")
        elif made_up and sort in ("word", "quoted"):
            parts.append(_DIGITS.sub("#", token))
        else:
            parts.append(token)
    text = _LIST.sub("(?, ...)", "".join(parts).strip())
    return _MANY_ROWS.sub(r"\1, ...", text)


def _chooses(folded: str) -> bool:
    return folded.startswith(("set ", "reset ", "discard ")) or "set_config" in folded


def level_chosen(text: str) -> str | None:
    """Return the isolation level that a text chooses for later transactions, empty for the server's own, None for none."""
    chosen = [(found.end(), " ".join(found[1].lower().split())) for found in _LEVEL.finditer(text)]
    chosen += [(found.end(), "default") for found in _RESET.finditer(text)]
    return None if not chosen else max(chosen)[1].replace("default", "")


def _kind(folded: str) -> StepKind:
    word = folded.split(None, 1)[0].strip("(")
    if word == "with":
        return StepKind.WRITE if re.search(r"\b(?:insert|update|delete|merge)\b", folded) else StepKind.READ
    if word == "rollback" and re.match(r"rollback(?: work| transaction)? to\b", folded):
        return StepKind.OTHER
    return _KINDS.get(word, StepKind.OTHER)


def joined_kind(kinds: set[StepKind]) -> StepKind:
    """Return the kind of a step with statements of all these kinds: the one that others feel most."""
    if len(kinds) == 1:
        return next(iter(kinds))
    for kind in (StepKind.COMMIT, StepKind.ROLLBACK, StepKind.WRITE, StepKind.READ):
        if kind in kinds:
            return kind
    return StepKind.OTHER


def _harmless(folded: str) -> bool:
    words = folded.split()
    if words[0] == "set":
        # SET CONSTRAINTS runs the deferred checks, SET TRANSACTION chooses what later statements see
        return len(words) > 1 and words[1] not in ("constraints", "transaction")
    return words[0] in _HARMLESS


def _housekeeping(folded: str) -> bool:
    """Tell whether the statement touches no row and no lock when it runs in a transaction of its own."""
    words = folded.split()
    if _harmless(folded) or (words[0] in _OUTSIDE and "prepared" not in words):
        return True
    if folded.startswith("set transaction") or folded == _UNLOCK_ALL:
        return True
    return _reads_catalogue(folded) or _asks_nothing(folded)


def _asks_nothing(folded: str) -> bool:
    """Tell whether this is a sign of life or a question about the connection: ``SELECT 1``, ``SELECT version()``."""
    if not folded.startswith("select") or re.search(r"\b(?:from|into)\b", folded):
        return False
    return _calls_known(folded)


def _calls_known(folded: str) -> bool:
    calls = _CALL.findall(folded.replace('"', ""))
    return all(name.removeprefix("pg_catalog.") in _CALLS for name in calls)


def _reads_catalogue(folded: str) -> bool:
    """Tell whether this is a driver asking the system catalogue about types: every table in it is the system's."""
    tables = [name.replace('"', "").rstrip(");,") for name in _CATALOGUE.findall(folded)]
    if not tables or folded.split(None, 1)[0] not in ("select", "with"):
        return False
    if _DOES_SOMETHING.search(folded) or _FROM_LIST.search(folded):
        return False
    own = set(_DEFINED.findall(folded))
    if not any(t.startswith(("pg_", "information_schema.")) for t in tables) and not _calls_known(folded):
        return False
    return all(
        t.startswith(("pg_", "information_schema.")) or t in own or t.startswith(("(", "unnest(", "generate_series("))
        for t in tables
    )
