"""What a number looks like: its format, the period that it names, and the index that guards its scope."""

from __future__ import annotations

import re

import polars as pl

from harness.config.number_format import Template, read_template
from harness.invariants.numbering.columns import number_name, place_name, stored
from harness.invariants.numbering.scopes import each_place, ends
from harness.invariants.registry import NotChecked, invariant
from harness.invariants.telling import listed, rows, shown, violation
from harness.model import Books, Finding, History, Policy
from harness.model.policy import Overflow, Period

NUMBER_COLUMN = re.compile(r"(^|_)(number|text|no|paymentnumber|invoicenumber)$", re.IGNORECASE)
"""What a column with the number is called in an index. A ``reference`` is the client's as often, and is left alone."""

PERIOD_COLUMN = re.compile(r"(^|_)(period|year|month|day|date)$", re.IGNORECASE)


def _form_demanded(policy: Policy) -> str | None:
    if policy.format or policy.maximum is not None or policy.max_length is not None or policy.charset:
        return None
    return f"policy {policy.name} demands no format"


def _period_demanded(policy: Policy) -> str | None:
    dated = policy.format is not None and read_template(policy.format).date_tokens
    return None if dated or policy.period is not Period.NONE else f"policy {policy.name} knows no periods"


@invariant("N-FMT", tables=["documents"], unless=_form_demanded)
def well_formed_numbers(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Every number is printed in the policy's format: read back and printed again it is the same."""
    documents = stored(books, policy).with_columns(raw=books.table("documents")["number"], why=pl.lit(None, pl.String()))
    if documents.height and not documents["number"].count() + documents["text"].count():
        raise NotChecked("documents have neither number nor text")
    # What has neither is a draft: it has no number yet that could be in a wrong format.
    documents = documents.filter(pl.col("raw").is_not_null() | pl.col("text").is_not_null())
    wrong = _judged(documents, policy).filter(pl.col("why").is_not_null()).sort("scope", "period", "number", nulls_last=True)

    def one(scope: str, period: str, bad: pl.DataFrame) -> Finding:
        first = bad.row(0, named=True)
        asked = history.operations.join(ends(bad), on="token", how="semi")
        return violation(
            "N-FMT",
            f"{number_name(first['text'], first['raw'])} of {place_name(scope, period)} {first['why']}",
            total=bad.height,
            operations=shown(history, asked),
            books={"documents": rows(ends(bad).drop("row", "raw", "why"))},
        )

    return each_place("N-FMT", wrong, one, many="more numbers are not in the format")


def _judged(documents: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Add ``why``: what is wrong with the number, null where nothing is."""
    text = pl.col("text")
    reasons: list[tuple[pl.Expr, pl.Expr]] = []
    if policy.format is not None:
        template = read_template(policy.format)
        digits = _group(template, "number")
        again = pl.col("number").cast(pl.String()).str.zfill(template.width)
        reasons += [
            (text.is_null(), pl.lit(f"is not printed at all, where {policy.format} is the format")),
            (digits.is_null(), pl.lit(f"does not have the format {policy.format}")),
            (
                pl.col("raw").is_not_null() & (digits.cast(pl.Int64(), strict=False) != pl.col("raw")),
                _said("is printed for the number ", pl.col("raw")),
            ),
            (
                digits != again,
                _said("would be printed with ", again, f" in the format {policy.format}"),
            ),
        ]
        for i, key in enumerate(template.scope_keys):
            if key in policy.scope_keys:
                continue
            value, first = _group(template, f"s{i}"), _group(template, f"s{i}").sort_by("number").first().over("scope")
            reasons.append((value != first, _said("is printed with ", value, " where its scope began with ") + first))
        if policy.overflow is Overflow.ERROR:
            reasons.append(
                (
                    digits.str.len_chars() > template.width,
                    pl.lit(f"has more than the {template.width} digits that the policy allows"),
                )
            )
    if policy.maximum is not None:
        reasons.append((pl.col("number") > policy.maximum, pl.lit(f"is above the policy's maximum of {policy.maximum}")))
    if policy.max_length is not None:
        reasons.append(
            (
                text.str.len_chars() > policy.max_length,
                _said("has ", text.str.len_chars(), f" characters, where {policy.max_length} are allowed"),
            )
        )
    if policy.charset:
        allowed = f"^[{policy.charset}]*$"
        reasons.append((~text.str.contains(allowed), pl.lit(f"has characters outside {policy.charset}")))
    why = pl.coalesce(*(pl.when(wrong).then(reason) for wrong, reason in reasons))
    return documents.with_columns(why=why)


def _said(before: str, value: pl.Expr, after: str = "") -> pl.Expr:
    return pl.concat_str(pl.lit(before), value, pl.lit(after))


@invariant("N-PERIOD", tables=["documents"], unless=_period_demanded)
def own_period(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The period of a number is that of its document's date, in the policy's time zone."""
    documents = stored(books, policy).filter(pl.col("dated").is_not_null())
    local = documents.with_columns(local=_local(documents, policy))
    own = _period(policy)
    checks = [(pl.col("period") != "") & (pl.col("period") != own)] if policy.period is not Period.NONE else []
    if policy.format is not None:
        template = read_template(policy.format)
        for i, token in enumerate(template.date_tokens):
            checks.append(_group(template, f"d{i}") != _token(token, policy))
    wrong = local.with_columns(own=own).filter(pl.any_horizontal(*(c.fill_null(value=False) for c in checks)))
    wrong = wrong.sort("dated", "number", nulls_last=True)

    def one(scope: str, period: str, bad: pl.DataFrame) -> Finding:
        first = bad.row(0, named=True)
        asked = history.operations.join(ends(bad), on="token", how="semi")
        claims = f"is counted in {period}" if period and period != first["own"] else "names another date in print"
        return violation(
            "N-PERIOD",
            f"{number_name(first['text'], first['number'])} of {scope or 'the only scope'} {claims}, but its document is dated "
            f"{first['local']:%Y-%m-%d %H:%M:%S} in {policy.time_zone}" + (f", which is {first['own']}" if first["own"] else ""),
            total=bad.height,
            operations=shown(history, asked),
            books={"documents": rows(ends(bad).drop("row", "local", "own"))},
        )

    return each_place("N-PERIOD", wrong, one, many="more numbers are of another period than their documents")


def _local(documents: pl.DataFrame, policy: Policy) -> pl.Expr:
    """Return each document's date as it is in the policy's time zone.

    Documents that are all of midnight in UTC, to the microsecond, have a date and no time. A date is the same in every zone,
    where its midnight would be of the day before in all zones west of UTC.
    """
    dated = documents["dated"]
    local = dated.dt.convert_time_zone(policy.time_zone)
    if (dated == dated.dt.truncate("1d")).all() and (dated.dt.date() != local.dt.date()).any():
        return pl.col("dated").dt.replace_time_zone(None)
    return pl.col("dated").dt.convert_time_zone(policy.time_zone)


@invariant("N-SCOPE", tables=["documents", "indexes"])
def index_covers_scope(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The unique index on the number covers exactly the scope in which the numbers are counted."""
    findings = []
    indexes = books.table("indexes")
    own = indexes.filter(pl.col("table") == "documents")
    if indexes.height and own.is_empty():
        other = listed(repr(name) for name in indexes["table"].unique().sort())
        raise NotChecked(f"no index is of documents, but of {other}: table must be 'documents' for those of the documents' table")
    for columns in own["columns"].drop_nulls().unique().sort():
        names = [c.strip() for c in columns.split(",")]
        keys = [c for c in names if not NUMBER_COLUMN.search(c)]
        if len(keys) == len(names):
            continue
        if complaint := _misfit(keys, books, policy):
            findings.append(
                violation(
                    "N-SCOPE",
                    f"the unique index over {listed(names)} {complaint}",
                    total=1,
                    books={"indexes": [{"table": "documents", "columns": columns}]},
                )
            )
    return findings


def _misfit(keys: list[str], books: Books, policy: Policy) -> str | None:
    """Say what is wrong with an index on the number and these columns, or return None."""
    documents = stored(books, policy)
    by_period = [k for k in keys if PERIOD_COLUMN.search(k)]
    places = [k for k in keys if k not in by_period]
    template = read_template(policy.format) if policy.format is not None else None
    printed_scope = set(template.scope_keys) if template else set()
    printed_period = bool(template and template.date_tokens)
    scoped = "scope" in places
    wanted = set() if scoped else set(policy.scope_keys) - printed_scope
    several = documents["scope"].n_unique() > 1
    known = {"scope"} | set(policy.scope_keys)
    # Columns that all have names of their own, such as tenant_id, may be what the numbers are counted by: nobody knows.
    foreign = bool(places) and not {_plain(k) for k in places} & known
    if lacking := sorted(wanted - {_plain(k) for k in places}):
        if several and not scoped and not foreign:
            return (
                f"does not know {listed(lacking)}, by which the numbers are counted: "
                "the same number in two scopes is refused though both are right"
            )
        return None
    if not by_period and not printed_period and documents["period"].n_unique() > 1:
        return "does not know the period, in which the numbers start again: the first number of the next one is refused"
    if not foreign and (extra := sorted(k for k in places if _plain(k) not in known)):
        return f"also covers {listed(extra)}, by which the numbers are not counted: it lets the same number stand twice"
    return None


def _plain(column: str) -> str:
    return column.removesuffix("_id")


def _group(template: Template, name: str) -> pl.Expr:
    index = re.compile(template.pattern).groupindex[name]
    return pl.col("text").str.extract(f"^(?:{template.pattern})$", index)


def _token(token: str, policy: Policy) -> pl.Expr:
    local = pl.col("local").dt
    if token == "fy":
        return _fiscal(policy)
    return local.strftime({"yyyy": "%Y", "yy": "%y", "mm": "%m", "dd": "%d"}[token])


def _fiscal(policy: Policy) -> pl.Expr:
    local = pl.col("local").dt
    if policy.fiscal_start_month == 1:
        return local.strftime("%Y")
    first = local.year() - (local.month() < policy.fiscal_start_month).cast(pl.Int32())
    return pl.format("{}-{}", first, ((first + 1) % 100).cast(pl.String()).str.zfill(2))


def _period(policy: Policy) -> pl.Expr:
    local = pl.col("local").dt
    if policy.period is Period.FISCAL_YEAR:
        return _fiscal(policy)
    pattern = {Period.NONE: "", Period.YEAR: "%Y", Period.MONTH: "%Y-%m", Period.DAY: "%Y-%m-%d"}[policy.period]
    return local.strftime(pattern) if pattern else pl.lit("")
