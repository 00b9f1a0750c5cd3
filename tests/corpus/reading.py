"""Reads the corpus: small histories and books, a few lines each.

A file holds the cases of one invariant; its first line names it. A case begins with what the verdict must be and a title::

    reject: two clients read the same count
      policy company-series continuity=gapless
      c3 create a 0..412 ok INV-00004 basis="the count 3"
      c7 create b 100..413 ok INV-00004
      documents INV-00004 a
      documents INV-00004 b status=void
      says INV-00004 was issued twice
      total 1

The verdict is ``accept``, ``cost`` (accept, and say so), ``reject``, ``liveness``, ``unknown`` or ``skip``.

``cN`` lines are operations: client, name, token, milliseconds of invocation and completion (none: open), outcome, number as
printed, and further parts of the answer. ``arg.x=1`` is an argument; ``code=``, ``retryable=``, ``refusal=``, ``constraint=`` and
``message=`` make a failure. Any other first word is a table of the books; in ``documents`` the number as printed and the token
(``-`` for none) come first. Unless given, scope is ``acme/invoice``, period empty, status ``issued``, dated 2026-11-20.

``books incomplete`` and ``history incomplete`` say that evidence is missing,
``documents empty`` that a table exists and is empty,
``lacks orders.status`` that the target does not give a column of a table that it keeps,
``mixed`` that findings of other classes are there as well,
``alone`` that the case speaks of the whole of its books, so that it means something else beside another.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.config.policy import load_policy, policy_from
from harness.model import TABLES, Books, Failure, History, Operation, Outcome, Policy
from harness.model.books import filled

HERE = Path(__file__).parent

VERDICTS = ("accept", "cost", "reject", "liveness", "unknown", "skip")

FAILURE = ("code", "message", "retryable", "refusal", "constraint")


@dataclass
class Case:
    """One case of the corpus."""

    invariant: str
    file: str
    verdict: str
    title: str
    policy: Policy = field(default_factory=lambda: load_policy("company-series"))
    operations: list[Operation] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    says: list[str] = field(default_factory=list)
    findings: int | None = None
    total: int | None = None
    mixed: bool = False
    alone: bool = False
    books_complete: bool = True
    history_complete: bool = True
    lacks: list[str] = field(default_factory=list)

    @property
    def history(self) -> History:
        return History.of(
            self.operations,
            open_at=0,
            complete=self.history_complete,
            trouble=None if self.history_complete else "a file is lost",
        )

    @property
    def books(self) -> Books:
        books = Books.of(complete=self.books_complete, trouble=None if self.books_complete else "the read was cut", **self.rows)
        lacking = {tuple(column.split(".")) for column in self.lacks}
        given = {t: frozenset(c for c in TABLES[t] if (t, c) not in lacking) for t in books.tables}
        kept = {t: filled(t, frame.select(sorted(given[t]))) for t, frame in books.tables.items()}
        return replace(books, tables=kept, given=given) if lacking else books

    def __str__(self) -> str:
        return f"{self.invariant} {self.verdict}: {self.title}"


def corpus() -> list[Case]:
    """Return every case of every file."""
    return [case for path in sorted(HERE.glob("*.txt")) for case in read_cases(path)]


def read_cases(path: Path) -> list[Case]:
    """Return the cases of one file. Raises ValueError with file and line where it cannot be read."""
    cases: list[Case] = []
    invariant = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.split("  # ")[0].rstrip()
        if not text or text.startswith("#"):
            continue
        try:
            if not invariant:
                invariant = text.split()[0]
            elif not text.startswith(" "):
                verdict, _, title = text.partition(": ")
                if verdict not in VERDICTS or not title:
                    raise ValueError(f"expected one of {VERDICTS} and a title")
                cases.append(Case(invariant=invariant, file=path.name, verdict=verdict, title=title))
            else:
                _add(cases[-1], text.strip())
        except (ValueError, KeyError, IndexError) as e:
            raise ValueError(f"{path}:{number}: {e}: {line}") from e
    return cases


def _add(case: Case, line: str) -> None:
    if line.startswith("says "):
        case.says.append(line[5:])
        return
    word, *rest = shlex.split(line)
    if re.fullmatch(r"c-?\d+", word):
        case.operations.append(_operation(int(word[1:]), rest))
    elif word == "policy":
        case.policy = _policy(rest)
    elif word in ("total", "findings"):
        setattr(case, word, int(rest[0]))
    elif word == "lacks":
        case.lacks += rest
    elif word in ("mixed", "alone"):
        setattr(case, word, True)
    elif rest == ["incomplete"]:
        setattr(case, f"{word}_complete", False)
    else:
        rows = case.rows.setdefault(word, [])
        if rest != ["empty"]:
            rows.append(_row(word, rest, len(rows) + 1))


def _policy(words: list[str]) -> Policy:
    named, changes = load_policy(words[0]), _pairs(words[1:])
    budget = {k.removeprefix("budget."): changes.pop(k) for k in list(changes) if k.startswith("budget.")}
    changed = policy_from({"name": named.name, **changes, "budget": budget}, where="the corpus")
    kept = {key: getattr(changed, key) for key in changes}
    return replace(named, **kept, **({"budget": changed.budget} if budget else {}))


def _operation(client: int, words: list[str]) -> Operation:
    f, token, span, outcome, *rest = words
    start, _, end = span.partition("..")
    printed = rest.pop(0) if rest and "=" not in rest[0] else None
    pairs = _pairs(rest)
    arguments = {k.removeprefix("arg."): pairs.pop(k) for k in list(pairs) if k.startswith("arg.")}
    why = {k: pairs.pop(k) for k in FAILURE if k in pairs}
    attempts = pairs.pop("attempts", 1)
    result: dict[str, Any] | None = None
    if outcome == "ok":
        result = {"scope": "acme/invoice", "period": "", **(_number(printed) if printed else {}), **pairs}
        result = {k: v for k, v in result.items() if v is not None}
    else:
        arguments |= pairs
    return Operation(
        process=client,
        client=client,
        f=f,
        token=token,
        arguments=arguments,
        invoked=round(float(start) * 1e6),
        completed=round(float(end) * 1e6) if end else None,
        outcome=Outcome(outcome),
        result=result,
        failure=Failure(**{"message": "", **why}) if why else None,
        attempts=attempts,
    )


def _row(table: str, words: list[str], row: int) -> dict[str, Any]:
    if table != "documents":
        values = _pairs(words)
        plain = {"scope": "acme/invoice", "period": ""} if table == "counters" else {}
        texts = {name for name, kind in TABLES[table].items() if str(kind) == "String"}
        return {**plain, **{k: str(v) if k in texts and v is not None else v for k, v in values.items()}}
    texts = [w for w in words if "=" not in w]
    pairs = _pairs([w for w in words if "=" in w])
    token = texts[1] if len(texts) > 1 and texts[1] != "-" else None
    values = {
        "id": str(row),
        "scope": "acme/invoice",
        "period": "",
        "token": token,
        "status": "issued",
        "dated": datetime(2026, 11, 20, tzinfo=UTC),
        **_number(texts[0]),
        **{k: str(v) if k == "id" else v for k, v in pairs.items()},
    }
    if isinstance(values["dated"], str):
        values["dated"] = datetime.fromisoformat(values["dated"]).astimezone(UTC)
    return values


def _number(printed: str) -> dict[str, Any]:
    """Take the number from the end of its print; ``PAY2026`` counts as a prefix."""
    digits = re.search(r"(?:PAY\d{4})?(\d+)$", printed)
    return {"text": printed, "number": int(digits[1]) if digits else None}


def _pairs(words: list[str]) -> dict[str, Any]:
    pairs = {}
    for word in words:
        key, _, value = word.partition("=")
        pairs[key] = _value(key, value)
    return pairs


TEXTS = {"scope", "period", "text", "subject", "token", "reason", "code", "message", "document"}


def _value(key: str, value: str) -> Any:
    if value in ("null", "true", "false"):
        return {"null": None, "true": True, "false": False}[value]
    if key in TEXTS or key in ("code", "message"):
        return value
    if re.fullmatch(r"-?\d+", value):
        return int(value)
    if re.fullmatch(r"-?\d+\.\d+", value):
        return float(value)
    if value.startswith("[") and value.endswith("]"):
        return [v for v in value[1:-1].split(",") if v]
    return value
