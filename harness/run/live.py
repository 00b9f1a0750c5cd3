"""What is known of a load run while it goes on: the history as it grows, the books now and then, and who waits for whom.

Nothing here decides the verdict, which is given over everything when the run is over; this is to see trouble as it comes.
The history files are followed as they grow, which costs the store nothing. The books are read in a snapshot, with the same
invariants as afterwards where they hold at any moment, and so seldom that reading takes a small share of the time: after a
read the watch rests `REST_SHARE` times as long as the read took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from harness.engines.load.measures import percentiles_of
from harness.invariants import judge
from harness.invariants.numbering.gaps import budget_sentence, over_budget
from harness.invariants.registry import REGISTRY
from harness.model import FindingClass, History, Policy
from harness.model.policy import Continuity, GapBudget
from harness.recording.recorder import now
from harness.run.activity import NOT_KNOWN, Activity
from harness.stores.base import Database
from harness.targets.base import BooksQuery
from harness.targets.books_reader import read_books

ANY_MOMENT = frozenset({"N-UNIQ", "N-COUNTER1", "N-COUNTER>=MAX", "P-CONS", "P-NOOVER", "P-PEND1", "P-SPLIT", "S-STOCK"})
"""Invariants that every snapshot of the books obeys, also in the middle of a run."""

NOTHING_TOLD = History.of([])
"""The history under which a snapshot is judged: what clients were told is followed as it comes, and judged at the end."""

EVERY = 1.0
"""Seconds between two samples."""

BOOKS_AFTER = 3.0
"""Seconds into the run at which the books are read for the first time."""

HOLDS_EVERY = 0.02
"""Seconds between two looks at whether a single user's transaction holds something."""

REST_SHARE = 40
"""How many times longer than a read of the books the watch rests after it: reading takes less than 2.5 % of the time."""

BLOCK = 1 << 22
"""Bytes of a history that are read at a time."""

SHOWN = 50
"""Findings that are kept for showing."""

LARGEST = 50_000_000
"""Width of the range of numbers in a scope that is followed."""


@dataclass
class _Series:
    """The numbers of one scope and period: for each the hash of the token that got it, 0 for none."""

    base: int
    tokens: Any = field(default_factory=lambda: np.zeros(1024, dtype=np.uint32))
    least: int = 0
    most: int = -1
    distinct: int = 0

    def take(self, number: int, token: int) -> bool:
        """Take an issued number in; tell whether it had been issued to another token."""
        at = number - self.base
        if not 0 <= at < LARGEST:
            return False
        if at >= len(self.tokens):
            self.tokens = np.concatenate([self.tokens, np.zeros(at + 1, dtype=np.uint32)])
        before = int(self.tokens[at])
        if before:
            return before != token
        self.tokens[at] = token
        self.distinct += 1
        self.least = min(self.least, at) if self.distinct > 1 else at
        self.most = max(self.most, at)
        return False

    @property
    def missing(self) -> int:
        """How many numbers between the least and the most nobody was told."""
        return self.most - self.least + 1 - self.distinct if self.distinct else 0


class HistoryTail:
    """Follows the history files of a run as they grow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._at: dict[Path, int] = {}
        self._series: dict[tuple[str, str], _Series] = {}
        self.issued = 0
        self.duplicates = 0
        self.found: list[str] = []

    def follow(self) -> None:
        """Take in what was written since the last time."""
        for path in sorted(self._folder.glob("load-*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._at.get(path, 0))
                while end := self._follow(file.read(BLOCK)):
                    self._at[path] = self._at.get(path, 0) + end
                    file.seek(self._at[path])

    @property
    def missing(self) -> int:
        """How many numbers inside the issued ranges nobody was told yet."""
        return sum(series.missing for series in self._series.values())

    def over_budget(self, budget: GapBudget, unsettled: int) -> str | None:
        """Tell which series lacks more numbers than a budget allows, if one does.

        Args:
            budget: what is allowed.
            unsettled: operations that are not over, or whose outcome nobody knows: each may still bring a number.
        """
        for (scope, period), series in self._series.items():
            gone = series.missing - unsettled
            base = series.distinct + (max(gone, 0) if budget.denominator == "range" else 0)
            if gone > 0 and over_budget(gone, base, budget):
                return budget_sentence(gone, base, f"{scope} {period}".strip(), budget)
        return None

    def _follow(self, data: bytes) -> int:
        """Take in the whole lines of what was read, and return how many bytes they have."""
        end = data.rfind(b"\n") + 1
        for line in data[:end].splitlines():
            if b'"type":"ok"' in line and b'"number":' in line:
                self._take(orjson.loads(line))
        return end

    def _take(self, event: Mapping[str, Any]) -> None:
        answer = event["value"]
        number, scope = answer.get("number"), answer.get("scope")
        if not isinstance(number, int) or scope is None:
            return
        key = (scope, answer.get("period") or "")
        series = self._series.setdefault(key, _Series(base=max(number - 1000, 0)))
        self.issued += 1
        if series.take(number, (hash(event["token"]) & 0xFFFFFFFE) | 1):
            self.duplicates += 1
            if len(self.found) < SHOWN:
                text = answer.get("text") or number
                self.found.append(f"{text} was issued again in {scope}, to client {event['client']}")


class LiveWatch:
    """Watches one run from a thread of its own. Use it as a context manager.

    Args:
        folder: the run's history.
        database: where the books are, if there is one.
        queries: how they are read.
        invariants: ids of the scenario's invariants.
        policy: what the numbers must obey.
        alone: there is one user: how long its transactions hold what they wrote is measured too.
        checks: look at history, books and locks while the run goes on; otherwise only what the processes say is sampled.
        tell: is given a sample a second.
    """

    def __init__(
        self,
        *,
        folder: Path,
        database: Database | None,
        queries: Sequence[BooksQuery],
        invariants: Sequence[str],
        policy: Policy,
        alone: bool = False,
        checks: bool = True,
        tell: Callable[[Mapping[str, Any]], None] = lambda sample: None,
    ) -> None:
        self.tail = HistoryTail(folder)
        self.samples: list[Mapping[str, Any]] = []
        self.findings: dict[str, str] = {}
        self._database, self._queries, self._policy, self._tell = database, queries, policy, tell
        self._ids = [i for i in invariants if i in ANY_MOMENT and set(REGISTRY[i].tables) <= {q.table for q in queries}]
        self._activity = Activity(database)
        self._alone = alone and checks
        self._checks = checks
        self._holding: list[float] = []
        self._lock = threading.Lock()
        self._heard: dict[str, Mapping[str, Any]] = {}
        self._recent: dict[int, int] = {}
        self._over = threading.Event()
        self._marks: list[Mapping[str, Any]] = []
        self._began = time.monotonic()
        self._books_due = self._began + BOOKS_AFTER
        self._books_seconds = 0.0
        self._before = (self._began, 0, 0)
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def __enter__(self) -> LiveWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self._activity.close()
        self.tail.follow()

    def hear(self, name: str, message: Mapping[str, Any]) -> None:
        """Take in what a process said of its progress."""
        with self._lock:
            if not self._heard:
                self._began = time.monotonic()
                self._before = (self._began, 0, 0)
                self._books_due = self._began + BOOKS_AFTER
            self._heard[name] = message
            for bucket, count in message.get("recent", {}).items():
                self._recent[int(bucket)] = self._recent.get(int(bucket), 0) + count

    def mark(self, text: str) -> None:
        """Note on the timeline that something was done."""
        with self._lock:
            self._marks.append({"at": round(time.monotonic() - self._began, 2), "time": now(), "text": text})

    def facts(self) -> dict[str, Any]:
        """Return what is worth keeping of the watch."""
        conflicts = [s["write_conflicts"] for s in self.samples if s["write_conflicts"] is not None]
        steady = [s["correct_rate"] for s in self.samples if s["users"]]
        return {
            "samples": len(self.samples),
            "duplicates": self.tail.duplicates,
            "gap_rate": self.samples[-1]["gap_rate"] if self.samples else None,
            "lock_waits": _mean([s["lock_waits"] for s in self.samples if s["lock_waits"] is not None]),
            "write_conflicts": conflicts[-1] - conflicts[0] if conflicts else None,
            "events": [event for s in self.samples for event in s["events"]] + self._marks,
            "rates": steady[1:] or steady,
            "holding": _mean(self._holding),
            "books_read_seconds": round(self._books_seconds, 3),
            "findings": list(self.findings.values())[:SHOWN],
        }

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._over.wait(HOLDS_EVERY if self._alone else EVERY):
            if not self._heard:
                continue
            if self._alone and (held := self._activity.writing()) is not None:
                self._holding.append(held)
            if time.monotonic() - looked >= EVERY:
                looked = time.monotonic()
                self._look()

    def _look(self) -> None:
        if self._checks:
            self.tail.follow()
            if self._database is not None and self._ids and time.monotonic() >= self._books_due and not self._over.is_set():
                self._check_books(self._database)
        sample = self._sample()
        self.samples.append(sample)
        self._tell(sample)

    def _check_books(self, database: Database) -> None:
        """Run the invariants that hold at any moment over a snapshot of the books."""
        began = time.monotonic()
        books = read_books(database, self._queries)
        for finding in judge(NOTHING_TOLD, books, self._policy, self._ids).findings if books.complete else ():
            if finding.finding_class is FindingClass.INDETERMINATE:
                continue  # what cannot be said is said afterwards, with the whole history
            name = finding.invariant
            what = finding.message.split(": by a request that was never answered")[0]  # who it was is for the judge to say
            self.findings.setdefault(name, f"{name}: {what}")
        took = time.monotonic() - began
        self._books_seconds += took
        self._books_due = time.monotonic() + max(REST_SHARE * took, 2.0)

    def _sample(self) -> dict[str, Any]:
        at = time.monotonic()
        with self._lock:
            heard, recent, self._recent = list(self._heard.values()), self._recent, {}
            marks, self._marks = self._marks, []
        counts = {name: sum(m["counts"][name] for m in heard) for name in ("invoked", "ok", "fail", "info", "dropped")}
        before, ok, wrong = self._before
        duplicates = self.tail.duplicates
        span = max(at - before, 1e-3)
        self._before = (at, counts["ok"], duplicates)
        if duplicates:
            self.findings["live"] = f"{self.tail.found[0]} ({duplicates} numbers issued twice so far)"
        in_flight = counts["invoked"] - counts["ok"] - counts["fail"] - counts["info"]
        self._look_at_gaps(in_flight + counts["info"])
        budget = self._policy.budget if self._policy.continuity is Continuity.BUDGET else None
        unexplained = max(self.tail.missing - in_flight - counts["fail"] - counts["info"], 0)
        numbers = self.tail.issued + self.tail.missing
        return {
            "at": round(at - self._began, 2),
            "users": sum(m["users"] for m in heard),
            **counts,
            "rate": round((counts["ok"] - ok) / span, 1),
            "correct_rate": round(max(counts["ok"] - ok - (duplicates - wrong), 0) / span, 1),
            **percentiles_of(recent),
            "in_flight": in_flight,
            "cpu": max((m.get("cpu", 0.0) for m in heard), default=0.0),
            "issued": self.tail.issued,
            "duplicates": duplicates,
            "gap_rate": round(self.tail.missing / numbers, 5) if numbers else 0.0,
            "gap_normal": budget and budget.normal,
            "gap_limit": budget and budget.investigate,
            "lost": unexplained,
            **(self._activity.now() if self._checks else NOT_KNOWN),
            "events": marks,
            "findings": list(self.findings.values())[:SHOWN],
        }

    def _look_at_gaps(self, unsettled: int) -> None:
        """Tell of gaps as long as they are over the policy's budget; a late number may still fill one."""
        self.findings.pop("N-GAPBUDGET", None)
        if self._policy.continuity is Continuity.BUDGET and (over := self.tail.over_budget(self._policy.budget, unsettled)):
            self.findings["N-GAPBUDGET"] = f"N-GAPBUDGET: {over}"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
