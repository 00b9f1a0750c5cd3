"""Audits a live database: every rule that its state alone can break, from one snapshot that cannot write.

Documents may be many: they are streamed (`harness.run.audit_numbers`). Everything else is read whole, up to a limit. What a
history would have to tell (who was told what, which attempt failed) is not judged, and said to be not.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from harness.config.number_format import read_template
from harness.config.sections import ServiceConfig
from harness.invariants import REGISTRY, judge
from harness.invariants.effects import APPROVALS
from harness.invariants.numbering.columns import PLACE, number_name, place_name, stored
from harness.invariants.numbering.gaps import budget_findings, gapless_findings, names
from harness.invariants.telling import money, rows, times
from harness.model import (
    Books,
    Continuity,
    EnvironmentProblem,
    Finding,
    FindingClass,
    History,
    Policy,
    UsageError,
    Verdict,
    verdict_of,
)
from harness.run.audit_numbers import Column, Numbers, Tally, documents_of, hashes_of, still_missing
from harness.targets.base import BooksQuery
from harness.targets.books_reader import typed
from harness.targets.books_stream import Snapshot
from harness.targets.http import books_queries

NEEDS_HISTORY: Mapping[str, str] = {
    "N-EXPLAINED": "a database does not tell which attempts failed",
    "N-MONO": "a database does not tell who was answered before whom",
    "N-DURABLE": "a database does not tell what was acknowledged",
    "N-IMMUT": "a database does not tell what it held before",
    "P-KEYMATCH": "a database does not tell what was sent",
    "O-CONS": "a database does not tell what was acknowledged",
    "L-RETRY": "a database does not tell what clients saw",
    "L-PROGRESS": "a database does not tell what clients saw",
    "A-DELIVER": "a database does not tell which events are still on their way",
}
"""Rules that an audit leaves to a run, and why."""

BY_ROW = ("N-FMT", "N-PERIOD", "N-VOID")
BY_PLACE = ("N-COUNTER1", "N-COUNTER>=MAX", "N-SCOPE")
BY_DUPLICATE = ("N-UNIQ", "N-DOC1")
WHOLE = (
    "P-PEND1",
    "P-CONS",
    "P-NOOVER",
    "P-REFUND",
    "P-SPLIT",
    "O-DRIFT",
    "O-INST",
    "O-CANCEL",
    "S-STOCK",
    "S-CREDIT",
    "A-MATCH",
)
MOST_ROWS = 4_000_000
"""Rows of all tables but documents together: more do not fit in the memory that an audit may have."""

RECHECKED = 200_000
"""Missing numbers up to which each is asked for again; with more, all documents are read a second time."""

SETTLE = 1.0
"""Seconds that a number may need from a sequence to its row where no transaction shows it."""

TOLD_OF_ONE = 5


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """What to look at. ``since`` limits the documents to those dated then or later; ``patience`` is in seconds."""

    config: ServiceConfig
    policy: Policy
    since: datetime.datetime | None = None
    patience: float = 30.0
    settle: float = SETTLE
    now: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What an audit found. ``rows`` counts what was read by table; ``books`` are what was read whole, ``numbers`` the rest."""

    verdict: Verdict
    findings: Sequence[Finding]
    checked: Sequence[str]
    skipped: Mapping[str, str]
    rows: Mapping[str, int]
    seconds: float
    store: str
    policy: Policy
    books: Books
    numbers: Numbers | None
    suspects: pl.DataFrame


def audit(snapshot: Snapshot, request: AuditRequest, observe: Callable[[str, int], None] = lambda table, rows: None) -> Audited:
    """Audit what a snapshot shows.

    Args:
        snapshot: of the database. A later one is taken of the same database where numbers are missing.
        request: how the books are read and what they must obey.
        observe: told a table and how many of its rows were read so far.

    Raises:
        UsageError: a query of the books is wrong, or there is none.
        EnvironmentProblem: the database refuses, is too slow, or holds more than can be looked at.
    """
    began = time.perf_counter()
    queries = {q.table: q for q in books_queries(request.config)}
    if not queries:
        raise UsageError(
            f"{request.config.file} has no [books.NAME], so there is nothing to look at; racegate init proposes them"
        )
    work = _Audit(snapshot, request, observe)
    if "documents" in queries:
        work.numbers_of(queries["documents"])
    work.all_else([q for table, q in queries.items() if table != "documents"])
    findings = work.findings
    checked = list(dict.fromkeys(work.checked))
    return Audited(
        verdict=verdict_of(findings, checked=len(checked)),
        findings=findings,
        checked=[i for i in REGISTRY if i in checked],
        skipped={i: reason for i, reason in {**NEEDS_HISTORY, **work.skipped}.items() if i not in checked},
        rows=work.rows,
        seconds=time.perf_counter() - began,
        store=snapshot.description,
        policy=request.policy,
        books=work.books,
        numbers=work.numbers,
        suspects=work.suspects,
    )


class _Audit:
    """One audit under way."""

    def __init__(self, snapshot: Snapshot, request: AuditRequest, observe: Callable[[str, int], None]) -> None:
        self._snapshot, self._request, self._policy, self._observe = snapshot, request, request.policy, observe
        self.findings: list[Finding] = []
        self.checked: list[str] = []
        self.skipped: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        self.books = Books()
        self.numbers: Numbers | None = None
        self.suspects = stored(Books(), request.policy)
        self._inexact: list[pl.DataFrame] = []

    # --- documents

    def numbers_of(self, query: BooksQuery) -> None:
        """Stream the documents and tell what is wrong with their numbers."""
        known = self._snapshot.columns(query)
        hashed = [name for name in ("text", "document", "token") if name in known]
        wanted = ["scope", "period", "number", "text", "status", "document", "token", "amount"]
        if self._policy.period != "none" or (self._policy.format and read_template(self._policy.format).date_tokens):
            wanted.append("dated")
        tally = Tally(self._policy, hashed, since=self._request.since is not None)
        if reasons := "reason" in known:
            wanted.append("reason")
        by_row = _ByRow(self._policy, reasons=reasons)
        for documents, strange in self._pieces(query, columns=wanted):
            tally.add(documents)
            by_row.add(documents)
            self._inexact.append(strange)
            self._observe("documents", tally.count)
        self.rows["documents"] = tally.count
        repeated = {name: column.repeated() for name, column in tally.hashes.items()}
        numbers = tally.finish()
        deferred = sorted(tally.deferred)
        del tally  # its memory is needed for the hashes that were put off
        for name in deferred:
            column = Column()
            for documents, _ in self._pieces(query, columns=["scope", "period", name]):
                column.add(hashes_of(documents, name, self._policy).drop_nulls().to_numpy())
            repeated[name] = column.repeated()
        self.findings += by_row.findings
        self.checked += by_row.checked
        self.skipped |= by_row.skipped
        self._twice(query, numbers, repeated)
        numbers = self._without_open(query, numbers)
        self.numbers = numbers
        self._gaps(query, numbers)

    def _pieces(
        self, query: BooksQuery, *, columns: Sequence[str] | None = None, numbers: Sequence[int] | None = None, old: bool = False
    ) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        since = None if old else self._request.since
        return documents_of(self._snapshot.pieces(query, columns=columns, numbers=numbers, since=since), self._policy)

    def _twice(self, query: BooksQuery, numbers: Numbers, repeated: Mapping[str, Any]) -> None:
        """Read again, in full, the documents whose number, print, document or token stands more than once; judge them."""
        suspects = []
        looked_for = list(numbers.twice)
        if self._request.since is not None:  # a recent number may repeat one that is older
            looked_for = self._recent_numbers(query)
        for at in range(0, len(looked_for), 10_000):
            for documents, _ in self._pieces(query, numbers=looked_for[at : at + 10_000], old=True):
                suspects.append(documents)
        hashes = {name: pl.Series(values[:2_000], dtype=pl.UInt64()) for name, values in repeated.items()}
        for seen in suspects:  # most often the same documents, which need not be looked for again
            hashes = {n: v.filter(~v.is_in(hashes_of(seen, n, self._policy).implode())) for n, v in hashes.items()}
        hashes = {name: values for name, values in hashes.items() if len(values)}
        if hashes:
            for documents, _ in self._pieces(query):
                same = [hashes_of(documents, name, self._policy).is_in(found.implode()) for name, found in hashes.items()]
                picked = documents.filter(pl.any_horizontal(*same))
                if picked.height:
                    suspects.append(picked)
        if suspects:
            self.suspects = pl.concat(suspects).unique("row", keep="first", maintain_order=True)
        if numbers.odd.height:
            self.suspects = pl.concat([self.suspects, numbers.odd.select(self.suspects.columns)], how="vertical_relaxed")
        books = Books(tables={"documents": self.suspects.drop("row").with_columns(token=pl.lit(None, pl.String()))})
        found = judge(History.of([]), books, self._policy, BY_DUPLICATE)
        self.findings += found.findings
        self.checked += found.checked
        self.skipped |= found.skipped
        if numbers.repeats and not any(f.invariant == "N-UNIQ" for f in found.findings):
            raise EnvironmentProblem("numbers that stood twice did not when they were read again; is this a view that changes?")
        self._stored_twice("documents", self.suspects)

    def _recent_numbers(self, query: BooksQuery) -> list[int]:
        found: set[int] = set()
        for documents, _ in self._pieces(query, columns=["number"]):
            found |= set(documents["number"].drop_nulls().to_list())
        return sorted(found)

    def _stored_twice(self, table: str, frame: pl.DataFrame) -> None:
        """Tell of rows that one intent made more than once."""
        told = frame.filter(pl.col("token").is_not_null())
        if "token" not in frame.columns or told.is_empty():
            return
        self.checked.append("P-ONCE")
        twice = (
            told.group_by("token").agg(pl.len().alias("n")).filter(pl.col("n") > 1).sort("n", "token", descending=[True, False])
        )
        if twice.is_empty():
            return
        token, count = twice.row(0)
        involved = told.filter(pl.col("token") == token)
        listed = ", ".join(str(i) for i in involved["id"].head(TOLD_OF_ONE))
        self._tell("P-ONCE", f"the intent {token} is stored {times(count)} in {table}: {listed}", twice.height, {table: involved})

    def _tell(
        self,
        invariant: str,
        message: str,
        total: int,
        shown: Mapping[str, pl.DataFrame],
        kind: FindingClass = FindingClass.VIOLATION,
    ) -> None:
        more = f" ({total - 1} more like it)" if total > 1 else ""
        evidence = {"operations": [], "rows": {table: rows(frame) for table, frame in shown.items()}}
        self.findings.append(
            Finding(finding_class=kind, invariant=invariant, message=message + more, evidence=evidence, total=total)
        )

    def _without_open(self, query: BooksQuery, numbers: Numbers) -> Numbers:
        """Return the numbers without the holes that somebody was still filling: a hole is no gap while a transaction is open.

        Whoever was at work when the snapshot was taken is waited for; then the missing numbers are asked for again.
        """
        if numbers.holes.is_empty() or self._policy.continuity is Continuity.NONE:
            return numbers
        until = time.monotonic() + self._request.patience
        time.sleep(self._request.settle)  # a number may be drawn before any transaction begins; there is nothing to ask
        while (left := self._snapshot.still_open()) and time.monotonic() < until:
            time.sleep(0.1)  # between two questions to the server
        total = int(numbers.holes["size"].sum())
        with closing(self._snapshot.later()) as later:
            found = list(self._found_later(later, query, numbers.holes, total))
        holes = still_missing(numbers.holes, pl.concat(found)) if found else numbers.holes
        gone = int(holes["size"].sum()) if holes.height else 0
        if left and gone:
            self._tell(
                "N-GAPLESS",
                f"{gone} numbers are missing, and {left} transactions that may hold them are still open after "
                f"{self._request.patience:g} s: look again when they have ended, or wait longer with --patience",
                1,
                {},
                FindingClass.INDETERMINATE,
            )
            holes = holes.clear()
        return Numbers(**{**numbers.__dict__, "holes": holes})

    def _found_later(self, later: Snapshot, query: BooksQuery, holes: pl.DataFrame, total: int) -> Iterator[pl.DataFrame]:
        columns = ["scope", "period", "number", "text", "status"]
        if total > RECHECKED:
            spans = holes.select("first", "last").sort("first")
            low, high = spans["first"], spans["last"].cum_max()
            for documents, _ in documents_of(later.pieces(query, columns=columns), self._policy):
                at: Any = low.search_sorted(documents["number"].fill_null(-1), side="right")
                inside = (at > 0) & (documents["number"] <= high.gather((at.cast(pl.Int64()) - 1).clip(lower_bound=0)))
                yield documents.filter(inside & (pl.col("status") != "reserved"))
            return
        wanted = sorted({n for first, last in holes.select("first", "last").iter_rows() for n in range(first, last + 1)})
        for begin in range(0, len(wanted), 10_000):
            pieces = later.pieces(query, columns=columns, numbers=wanted[begin : begin + 10_000])
            for documents, _ in documents_of(pieces, self._policy):
                yield documents.filter(pl.col("status") != "reserved")

    def _gaps(self, query: BooksQuery, numbers: Numbers) -> None:
        holes, spans, policy = numbers.holes, numbers.spans, self._policy
        beside = self._beside(query, holes)
        if policy.continuity is Continuity.GAPLESS:
            self.checked.append("N-GAPLESS")
            self.findings += gapless_findings(holes, spans, beside, policy)
        else:
            self.skipped["N-GAPLESS"] = f"policy {policy.name} allows gaps"
        if policy.continuity is Continuity.BUDGET:
            self.checked.append("N-GAPBUDGET")
            self.findings += budget_findings(holes, spans, beside, policy)
        else:
            self.skipped["N-GAPBUDGET"] = f"policy {policy.name} has no gap budget"
        if holes.height and policy.continuity in (Continuity.EXPLAINED, Continuity.BUDGET):
            gone, of, places = int(holes["size"].sum()), int(spans["range"].sum()), holes.select(PLACE).n_unique()
            share = f"{gone / of:.2%} of {of:,}" if of else "all"
            self._tell(
                "N-EXPLAINED",
                f"{gone:,} {'number' if gone == 1 else 'numbers'} in {places:,} {'scope' if places == 1 else 'scopes'} "
                f"{'is' if gone == 1 else 'are'} missing ({share}), and a database does not say why: "
                f"{names(holes, policy)}",
                1,
                {"documents": beside.drop("row")},
                FindingClass.COST,
            )

    def _beside(self, query: BooksQuery, holes: pl.DataFrame) -> pl.DataFrame:
        """Read the documents on both sides of the first holes, the longest and the last."""
        if holes.is_empty():
            return self.suspects.clear()
        shown = pl.concat([holes.head(20), holes.sort("size", descending=True).head(1), holes.tail(1)])
        wanted = sorted({*(shown["first"] - 1).to_list(), *(shown["last"] + 1).to_list()})
        found = [documents for documents, _ in self._pieces(query, numbers=wanted)]
        return pl.concat(found).join(shown.select(PLACE).unique(), on=PLACE, how="semi") if found else self.suspects.clear()

    # --- everything else

    def all_else(self, queries: Sequence[BooksQuery]) -> None:
        """Read the other tables and judge what they hold."""
        tables: dict[str, pl.DataFrame] = {}
        given: dict[str, frozenset[str]] = {}
        total = 0
        for query in queries:
            frames = [typed(query.table, pl.DataFrame())[0]]
            for text in self._snapshot.pieces(query):
                frame, strange = typed(query.table, text)
                given[query.table] = frozenset(text.columns) | given.get(query.table, frozenset())
                frames.append(frame)
                self._inexact.append(strange)
                total += frame.height
                if total > MOST_ROWS:
                    raise EnvironmentProblem(
                        f"books.{query.table} and what was read before it have more than {MOST_ROWS:,} rows, which an audit does "
                        "not hold at once; narrow the queries of the books (for example to the open year)"
                    )
                self._observe(query.table, sum(f.height for f in frames))
            tables[query.table] = pl.concat(frames)
            self.rows[query.table] = tables[query.table].height
        if self._inexact:
            tables["inexact"] = pl.concat(self._inexact)
        self.books = Books(tables=tables, given=given)
        seen = dict(tables)
        if self.numbers is not None:
            schema = stored(Books(), self._policy).drop("row").schema
            tops = self.numbers.highest.with_columns(
                pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in self.numbers.highest.columns
            )
            seen["documents"] = tops.select(schema.names()).cast(pl.Schema(schema))
        relevant = [i for i in (*BY_PLACE, *WHOLE, "P-EXACT") if _speaks(i, seen)]
        found = judge(History.of([]), Books(tables=seen, given=given), self._policy, relevant)
        self.findings += found.findings
        self.checked += found.checked
        absent = {i: "the configuration reads no table for it" for i in (*BY_PLACE, *WHOLE) if i not in relevant}
        self.skipped |= {**absent, **found.skipped}
        for table in ("payments", "refunds", "installments"):
            if table in tables:
                self._stored_twice(table, tables[table])
        if "orders" in tables and "installments" in tables:
            self._advance_twice(tables["orders"], tables["installments"])
        if "counters" in tables and self.numbers is not None:
            self._without_counter(tables["counters"], self.numbers.highest)
        if "audit" in tables and "payments" in tables:
            self._approved_twice(tables["audit"], tables["payments"])

    def _without_counter(self, counters: pl.DataFrame, highest: pl.DataFrame) -> None:
        """Say which scopes have documents and no counter.

        It is only said: a service may begin a new counter at the highest number, and need none for a period that is over. Where
        no counter at all is of a document's scope, the two are counted by different things.
        """
        kept = counters.with_columns(pl.col(*PLACE).fill_null(""))
        last = highest.filter(pl.col("number").is_not_null()).sort("period").unique("scope", keep="last")
        if kept.height and highest.join(kept, on=PLACE, how="semi").is_empty():
            return
        alone = last.join(kept, on=PLACE, how="anti").sort("number", "scope", descending=[True, False])
        if alone.height:
            row = alone.row(0, named=True)
            self._tell(
                "N-COUNTER>=MAX",
                f"{place_name(row['scope'], row['period'])} has documents up to {number_name(row['text'], row['number'])} and no "
                "counter: does the service go on from there, or from the first number?",
                alone.height,
                {"documents": alone},
                FindingClass.COST,
            )

    def _approved_twice(self, log: pl.DataFrame, payments: pl.DataFrame) -> None:
        """Tell of payments that more than one audit row approves."""
        approvals = log.filter(pl.col("action").is_in(APPROVALS))
        if approvals.is_empty():
            self.skipped["P-TERM1"] = "the audit log tells of no approval"
            return
        self.checked.append("P-TERM1")
        twice = (
            approvals.group_by("subject")
            .agg(pl.len().alias("n"))
            .filter(pl.col("n") > 1)
            .sort("n", "subject", descending=[True, False])
        )
        if twice.height:
            subject, count = twice.row(0)
            shown = {
                "audit": approvals.filter(pl.col("subject") == subject),
                "payments": payments.filter(pl.col("id") == subject),
            }
            self._tell("P-TERM1", f"payment {subject} was approved {times(count)}", twice.height, shown)

    def _advance_twice(self, orders: pl.DataFrame, installments: pl.DataFrame) -> None:
        """Tell of orders whose first installment is their advance, stored a second time.

        Where the stored balance counts the two as one that is certain. Where it counts both, the customer may have paid the same
        amount again: then it is only said.
        """
        self.checked.append("O-BAL")
        sums = installments.group_by("order").agg(pl.col("amount").sum().alias("paid"))
        first = installments.filter(pl.col("number") == 1).unique("order", keep="first").select("order", again="amount")
        alike = (
            orders.filter(pl.col("advance") > 0)
            .join(first, left_on="id", right_on="order")
            .join(sums, left_on="id", right_on="order")
            .filter(pl.col("again") == pl.col("advance"))
            .with_columns(
                once=pl.col("total") - pl.col("discount").fill_null(0) - pl.col("paid") + pl.col("refunded").fill_null(0)
            )
            .sort("id")
        )
        certain = pl.col("balance") == pl.col("once")
        for part, kind, says in (
            (
                alike.filter(certain),
                FindingClass.VIOLATION,
                "is stored in the order and again as installment #1, and counted once",
            ),
            (alike.filter(~certain), FindingClass.COST, "equals its installment #1: is it stored twice, or was it paid twice?"),
        ):
            if part.height:
                row = part.row(0, named=True)
                shown = {"orders": part.select(orders.columns), "installments": installments.filter(pl.col("order") == row["id"])}
                self._tell(
                    "O-BAL", f"the advance of order {row['id']}, {money(row['advance'])}, {says}", part.height, shown, kind
                )


class _ByRow:
    """Judges documents by themselves, piece by piece, and adds up."""

    def __init__(self, policy: Policy, *, reasons: bool) -> None:
        self._policy = policy
        self._rules = [i for i in BY_ROW if (policy.format is not None or i != "N-FMT") and (reasons or i != "N-VOID")]
        self._found: dict[tuple[str, FindingClass], list[Finding]] = {}
        self.checked: list[str] = []
        self.skipped: dict[str, str] = {}

    def add(self, documents: pl.DataFrame) -> None:
        """Judge a piece."""
        judged = judge(History.of([]), Books(tables={"documents": documents.drop("row")}), self._policy, self._rules)
        self.checked, self.skipped = list(judged.checked), dict(judged.skipped)
        for finding in judged.findings:
            self._found.setdefault((finding.invariant, finding.finding_class), []).append(finding)

    @property
    def findings(self) -> list[Finding]:
        """Return the first finding of each rule, with the total of all."""
        merged = []
        for found in self._found.values():
            total = sum(f.total for f in found)
            first = found[0]
            message = first.message.split(" (", maxsplit=1)[0] if first.message.endswith("more like it)") else first.message
            more = f" ({total - 1} more like it)" if total > 1 else ""
            merged.append(
                Finding(
                    finding_class=first.finding_class,
                    invariant=first.invariant,
                    message=message + more,
                    evidence=first.evidence,
                    total=total,
                )
            )
        return merged


def _speaks(invariant: str, tables: Mapping[str, Any]) -> bool:
    needs = {"P-NOOVER": ("terms",), "P-EXACT": ("inexact",), "N-COUNTER>=MAX": ("counters", "documents")}
    if invariant == "P-NOOVER":
        return ("payments" in tables and "terms" in tables) or ("orders" in tables and "installments" in tables)
    return all(table in tables for table in needs.get(invariant, REGISTRY[invariant].tables))
