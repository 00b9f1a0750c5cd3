"""Print: a number's text says the number, the period of its document's own date, and nothing else."""

from __future__ import annotations

import polars as pl

from harness.config.number_format import Template, read_template
from harness.invariants.issued import documents
from harness.invariants.registry import invariant
from harness.invariants.telling import rows, violation
from harness.model import Books, Finding, History, Overflow, Period, Policy

DATE_FORMATS = {"yyyy": "%Y", "yy": "%y", "mm": "%m", "dd": "%d"}
PERIOD_FORMATS = {Period.YEAR: "%Y", Period.MONTH: "%Y-%m", Period.DAY: "%Y-%m-%d"}


@invariant("N-FMT", tables=["documents"])
def text_says_the_number(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The printed text follows the policy's format and says the very number that is stored."""
    if policy.format is None:
        return []
    template = read_template(policy.format)
    read = _read(documents(books), template)
    digits = pl.col("digits")
    padded = pl.col("number").cast(pl.String()).str.zfill(template.width)
    wrong = digits.is_null() | (digits != padded)
    if policy.overflow is Overflow.ERROR:
        wrong |= digits.str.len_chars() > template.width
    if policy.maximum is not None:
        wrong |= pl.col("number") > policy.maximum
    if policy.max_length is not None:
        wrong |= pl.col("text").str.len_chars() > policy.max_length
    broken = read.filter(wrong.fill_null(True)).sort("number")
    if broken.is_empty():
        return []
    first = broken.row(0, named=True)
    return [
        violation(
            "N-FMT",
            f"{first['text']!r} does not print number {first['number']} as {policy.format}",
            total=broken.height,
            books={"documents": rows(broken.select(books.table("documents").columns))},
        )
    ]


@invariant("N-PERIOD", tables=["documents"])
def period_is_the_documents_own(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The period of a number is that of its document's own date, in the policy's time zone."""
    dated = documents(books).filter(pl.col("dated").is_not_null())
    local = dated.with_columns(day=pl.col("dated").dt.convert_time_zone(policy.time_zone))
    wrong = pl.lit(False)
    expected = _period(policy)
    if expected is not None:
        local = local.with_columns(due=expected)
        wrong |= pl.col("period") != pl.col("due")
    if policy.format is not None:
        template = read_template(policy.format)
        local = _read(local, template)
        for group, token in enumerate(template.date_tokens):
            if token in DATE_FORMATS:
                wrong |= pl.col(f"d{group}") != pl.col("day").dt.strftime(DATE_FORMATS[token])
    broken = local.filter(wrong).sort("dated")
    if broken.is_empty():
        return []
    first = broken.row(0, named=True)
    period = f" in the period {first['period']}" if first["period"] else ""
    return [
        violation(
            "N-PERIOD",
            f"{first['text']} was issued{period} for a document dated {first['day']:%Y-%m-%d %H:%M} ({policy.time_zone})",
            total=broken.height,
            books={"documents": rows(broken.select(books.table("documents").columns))},
        )
    ]


def _period(policy: Policy) -> pl.Expr | None:
    day = pl.col("day").dt
    if policy.period in PERIOD_FORMATS:
        return day.strftime(PERIOD_FORMATS[policy.period])
    if policy.period is Period.FISCAL_YEAR:
        first = day.year() - (day.month() < policy.fiscal_start_month).cast(pl.Int32())
        return pl.format("{}-{}", first, ((first + 1) % 100).cast(pl.String()).str.zfill(2))
    return None


def _read(frame: pl.DataFrame, template: Template) -> pl.DataFrame:
    """Take the texts apart: columns ``digits`` and ``d0``, ``d1`` ..., null where the text does not follow the format."""
    found = pl.col("text").str.extract_groups(f"^{template.pattern}$").struct
    dates = {f"d{n}": found.field(f"d{n}") for n in range(len(template.date_tokens))}
    return frame.with_columns(digits=found.field("number"), **dates)


