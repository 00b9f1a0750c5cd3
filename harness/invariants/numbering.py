"""Numbers: unique, one per document, stored as acknowledged, never changed, and counters that agree with them."""

from __future__ import annotations

import polars as pl

from harness.invariants.issued import PLACE, acknowledged, creates, documents, printed
from harness.invariants.registry import invariant
from harness.invariants.telling import answer, listed, rows, shown, times, violation, whom
from harness.model import Books, Finding, History, Policy


@invariant("N-UNIQ", tables=["documents"])
def unique_numbers(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Within its scope and period a number is issued once, over all time, void numbers included."""
    stored = documents(books)
    twice = _repeated(stored.group_by(*PLACE, "number").len())
    told = acknowledged(history).group_by(*PLACE, "number").agg(len=pl.col("token").n_unique())
    only_told = _repeated(told).join(twice, on=[*PLACE, "number"], how="anti")
    every = pl.concat([twice, only_told])
    if every.is_empty():
        return []
    first = _first(every, history)
    same = [pl.col(name) == first[name] for name in (*PLACE, "number")]
    involved = creates(history).filter(pl.col("outcome") == "ok", *same).sort("completed", nulls_last=True)
    of_books = stored.filter(*same)
    text = next((t for t in [*of_books["text"], *involved["text"]] if t), f"number {first['number']}")
    by = listed(whom(history, o) for o in involved.iter_rows(named=True)) if involved.height else "nobody that we know"
    return [
        violation(
            "N-UNIQ",
            f"{text} was issued {times(first['len'])}: by {by}{_both_read(involved)}",
            total=every.height,
            operations=shown(history, involved),
            books={"documents": rows(of_books)},
        )
    ]


def _repeated(counted: pl.DataFrame) -> pl.DataFrame:
    return counted.filter(pl.col("len") > 1).select(*PLACE, "number", pl.col("len").cast(pl.Int64()))


def _first(every: pl.DataFrame, history: History) -> dict[str, object]:
    """Return the duplicate whose second client was told first."""
    told = creates(history).filter(pl.col("outcome") == "ok").group_by(*PLACE, "number").agg(at=pl.col("completed").sort().get(1, null_on_oob=True))
    ordered = every.join(told, on=[*PLACE, "number"], how="left").sort("at", *PLACE, "number", nulls_last=True)
    return ordered.row(0, named=True)


def _both_read(involved: pl.DataFrame) -> str:
    """Say what they all derived the number from, if their answers tell and agree."""
    bases = involved.select(basis=answer("basis"))["basis"]
    if involved.height < 2 or bases.null_count() or bases.n_unique() != 1:
        return ""
    return f"; {'both' if involved.height == 2 else 'all'} read {bases[0]}"


@invariant("N-DOC1", tables=["documents"])
def one_number_per_document(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A document has one number, and a number one document."""
    several = (
        books.table("documents")
        .filter(pl.col("document").is_not_null())
        .group_by("document")
        .agg(pl.col("number").n_unique().alias("numbers"), pl.col("text"))
        .filter(pl.col("numbers") > 1)
        .sort("document")
    )
    if several.is_empty():
        return []
    first = several.row(0, named=True)
    return [
        violation(
            "N-DOC1",
            f"document {first['document']} has {first['numbers']} numbers: {listed(str(t) for t in first['text'])}",
            total=several.height,
            books={"documents": rows(books.table("documents").filter(pl.col("document") == first["document"]))},
        )
    ]


@invariant("N-DURABLE", tables=["documents"])
def acknowledged_is_stored(history: History, books: Books, policy: Policy) -> list[Finding]:
    """What a client was told is stored: an acknowledged document exists."""
    told = acknowledged(history)
    stored = documents(books)
    by_token = stored["token"].is_not_null().any()
    keys = ["token"] if by_token else [*PLACE, "number"]
    lost = told.join(stored, on=keys, how="anti").sort("completed", nulls_last=True)
    if lost.is_empty():
        return []
    first = lost.row(0, named=True)
    operations = creates(history).filter(pl.col("token") == first["token"])
    return [
        violation(
            "N-DURABLE",
            f"{first['text'] or first['number']} was acknowledged to {whom(history, first)} and is not stored",
            total=lost.height,
            operations=shown(history, operations),
        )
    ]


@invariant("N-IMMUT", tables=["documents"])
def numbers_never_change(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The number that a client was told is the number that its document has, for ever."""
    told = acknowledged(history)
    stored = documents(books).filter(pl.col("token").is_not_null())
    known = told.join(stored.select("token").unique(), on="token", how="semi")
    changed = known.join(stored, on=["token", *PLACE, "number"], how="anti").sort("completed", nulls_last=True)
    if changed.is_empty():
        return []
    first = changed.row(0, named=True)
    now = stored.filter(pl.col("token") == first["token"])
    return [
        violation(
            "N-IMMUT",
            f"{whom(history, first)} was told {first['text'] or first['number']}, and its document has "
            f"{listed(str(t) for t in now['text'])}",
            total=changed.height,
            operations=shown(history, creates(history).filter(pl.col("token") == first["token"])),
            books={"documents": rows(now)},
        )
    ]


@invariant("N-VOID", tables=["documents"])
def void_numbers_stay_void(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A void number is not issued again, and every void has its reason."""
    findings = []
    stored = documents(books)
    void = stored.filter(pl.col("status") == "void")
    again = void.join(stored.filter(pl.col("status") != "void"), on=[*PLACE, "number"], how="semi").sort("number")
    if again.height:
        findings.append(
            violation(
                "N-VOID",
                f"{again['text'][0]} is void and was issued again",
                total=again.height,
                books={"documents": rows(stored.filter(pl.col("number") == again["number"][0]))},
            )
        )
    if not policy.voids_allowed and void.height:
        findings.append(
            violation(
                "N-VOID",
                f"{void['text'][0]} is void, and the policy allows none",
                total=void.height,
                books={"documents": rows(void)},
            )
        )
    silent = void.filter(pl.col("reason").fill_null("").str.strip_chars() == "")
    if policy.void_reason_required and silent.height:
        findings.append(
            violation(
                "N-VOID",
                f"{silent['text'][0]} is void without a reason",
                total=silent.height,
                books={"documents": rows(silent)},
            )
        )
    return findings


@invariant("N-COUNTER1", tables=["counters"])
def one_counter_per_scope(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A scope has one counter."""
    counters = books.table("counters").with_columns(pl.col(PLACE).fill_null(""))
    several = counters.group_by(PLACE).len().filter(pl.col("len") > 1).sort(PLACE)
    if several.is_empty():
        return []
    first = several.row(0, named=True)
    return [
        violation(
            "N-COUNTER1",
            f"{printed(first)} has {first['len']} counters: each issues its own numbers",
            total=several.height,
            books={"counters": rows(counters.join(several.head(1), on=PLACE, how="semi"))},
        )
    ]


@invariant("N-COUNTER>=MAX", tables=["counters", "documents"])
def counter_not_behind(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A counter is never below the highest number that was issued in its scope."""
    counters = (
        books.table("counters").with_columns(pl.col(PLACE).fill_null("")).group_by(PLACE).agg(pl.col("value").max())
    )
    highest = documents(books).group_by(PLACE).agg(highest=pl.col("number").max())
    behind = counters.join(highest, on=PLACE).filter(pl.col("value") < pl.col("highest")).sort(PLACE)
    if behind.is_empty():
        return []
    first = behind.row(0, named=True)
    return [
        violation(
            "N-COUNTER>=MAX",
            f"the counter of {printed(first)} stands at {first['value']}, and {first['highest']} was issued already",
            total=behind.height,
            books={"counters": rows(behind)},
        )
    ]


@invariant("N-SCOPE", tables=["indexes"])
def index_covers_the_scope(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A unique index on numbers covers the scope that the numbers are counted in."""
    scopes = documents(books)["scope"].n_unique()
    findings = []
    for table, columns in books.table("indexes").select("table", "columns").iter_rows():
        covered = {name.strip() for name in (columns or "").split(",")}
        if "number" in covered and "scope" not in covered:
            findings.append(
                violation(
                    "N-SCOPE",
                    f"the unique index of {table} on ({columns}) knows no scope, and numbers are counted in {scopes} scopes: "
                    "the second scope's first number collides with the first's",
                    total=1,
                    books={"indexes": [{"table": table, "columns": columns}]},
                )
            )
    return findings
