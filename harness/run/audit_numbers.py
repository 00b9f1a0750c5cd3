"""The numbers of a live database, however many: what was issued twice, what is missing, in memory that is bounded.

Of each document a few integers are kept: its place and number packed into one, and hashes of what else must be unique. Sorted,
they show what stands twice and what is missing; the documents concerned are then read again in full and told of by the same
rules that judge a run. Twenty-four bytes a document at most, so fifty million fit in a gigabyte when hashes get a pass each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from harness.invariants.numbering.columns import PLACE, stored
from harness.model import Books, EnvironmentProblem, Policy
from harness.targets.books_reader import typed

NUMBER_BITS = 40
"""Numbers up to 10^12 are packed; higher ones and negative ones are looked at one by one."""

PLACE_BITS = 22
RESERVED = 1

MOST_ODD = 200_000
MOST_TOLD = 2_000
"""Values that stand more than once and are read again in full; all are counted."""

TOGETHER = 15_000_000
"""Documents up to which hashes are kept beside the numbers; with more, each gets a pass of its own."""

_BLOCK = 1_000_000


class Column:
    """Sixty-four bits of each document, in an array that grows without being copied."""

    def __init__(self) -> None:
        self._held: np.ndarray[Any, np.dtype[np.uint64]] = np.empty(_BLOCK, dtype=np.uint64)
        self.length = 0

    def add(self, values: np.ndarray[Any, Any]) -> None:
        """Append values."""
        wanted = self.length + len(values)
        if wanted > len(self._held):
            self._held.resize(max(wanted, int(len(self._held) * 1.25)), refcheck=False)
        self._held[self.length : wanted] = values
        self.length = wanted

    def sort(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """Sort in place and return the values."""
        values = self._held[: self.length]
        values.sort()
        return values

    def repeated(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """Return the values that stand more than once, each once."""
        values = self.sort()
        found = []
        for at in range(0, max(len(values) - 1, 0), _BLOCK):
            block = values[at : at + _BLOCK + 1]
            found.append(np.unique(block[:-1][block[:-1] == block[1:]]))
        return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What the numbers show.

    ``holes`` and ``spans`` are as `harness.invariants.numbering.gaps` has them, ``highest`` is the document with the highest
    number of each place, ``twice`` numbers that stand more than once, ``odd`` those that could not be packed.
    """

    count: int
    holes: pl.DataFrame
    spans: pl.DataFrame
    highest: pl.DataFrame
    twice: Sequence[int]
    repeats: int
    odd: pl.DataFrame


@dataclass
class Tally:
    """Takes documents piece by piece. ``hashed`` are the columns that must be unique by themselves."""

    policy: Policy
    hashed: Sequence[str] = ()
    since: bool = False
    count: int = 0
    numbers: Column = field(default_factory=Column)
    hashes: dict[str, Column] = field(default_factory=dict)
    deferred: set[str] = field(default_factory=set)
    _places: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema={"scope": pl.String(), "period": pl.String(), "code": pl.UInt64()})
    )
    _highest: pl.DataFrame | None = None
    _odd: list[pl.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hashes = {name: Column() for name in self.hashed}

    def add(self, documents: pl.DataFrame) -> None:
        """Take documents as `harness.invariants.numbering.columns.stored` returns them. Raises EnvironmentProblem: too many."""
        self.count += documents.height
        documents = documents.with_columns(code=self._codes(documents))
        packed = documents.filter(pl.col("number").is_between(0, 2**NUMBER_BITS - 1))
        self._note_odd(documents.filter(pl.col("number").is_not_null() & ~pl.col("number").is_between(0, 2**NUMBER_BITS - 1)))
        self._note_highest(packed)
        reserved = (packed["status"] == "reserved").cast(pl.UInt64())
        keys = (packed["code"] * 2 ** (NUMBER_BITS + 1)) + packed["number"].cast(pl.UInt64()) * 2 + reserved
        self.numbers.add(keys.to_numpy())
        if self.count > TOGETHER and self.hashes:
            self.deferred |= self.hashes.keys()
            self.hashes = {}
        for name, column in self.hashes.items():
            column.add(hashes_of(documents, name, self.policy).drop_nulls().to_numpy())

    def _codes(self, documents: pl.DataFrame) -> pl.Series:
        here = documents.select(PLACE).unique()
        new = here.join(self._places, on=PLACE, how="anti")
        if new.height:
            first = self._places.height
            if first + new.height > 2**PLACE_BITS:
                raise EnvironmentProblem(
                    f"the documents have more than {2**PLACE_BITS:,} scopes and periods; audit a part of them"
                )
            codes = pl.Series("code", np.arange(first, first + new.height, dtype=np.uint64))
            self._places = pl.concat([self._places, new.with_columns(codes)])
        if self._places.height == 1:
            return pl.repeat(0, documents.height, dtype=pl.UInt64(), eager=True)
        return documents.select(PLACE).join(self._places, on=PLACE, how="left", maintain_order="left")["code"]

    def _note_odd(self, odd: pl.DataFrame) -> None:
        if odd.height:
            self._odd.append(odd.drop("code"))
            if sum(o.height for o in self._odd) > MOST_ODD:
                raise EnvironmentProblem(
                    f"more than {MOST_ODD:,} numbers are negative or above 2^{NUMBER_BITS}; is it the right column?"
                )

    def _note_highest(self, documents: pl.DataFrame) -> None:
        """Keep the document with the highest number of each place; reserved numbers are no documents yet."""
        issued = documents.filter(pl.col("status") != "reserved").select(*PLACE, "number", "text", "token", "status")
        top = issued.filter(pl.col("number") == pl.col("number").max().over(PLACE)).unique(PLACE, keep="first")
        known = top if self._highest is None else pl.concat([self._highest, top])
        self._highest = known.sort("number").unique(PLACE, keep="last", maintain_order=True)

    def finish(self) -> Numbers:
        """Sort and look."""
        values = self.numbers.sort()
        start = self.policy.start
        holes: list[tuple[np.ndarray[Any, Any], ...]] = []
        twice: set[int] = set()
        repeats = 0
        present = np.zeros(self._places.height, dtype=np.int64)
        least = np.full(self._places.height, 2**62, dtype=np.int64)
        last_code, last_number = -1, start - 1
        previous: int | None = None
        for at in range(0, len(values), _BLOCK):
            block = values[at : at + _BLOCK]
            whole = (block >> np.uint64(1)).astype(np.int64)
            before = np.concatenate([[whole[0] if previous is None else previous], whole[:-1]])
            same = whole == before
            if previous is None:
                same[0] = False
            previous = int(whole[-1])
            repeats += int(same.sum())
            if len(twice) < MOST_TOLD:
                twice |= set((np.unique(whole[same])[:MOST_TOLD] & (2**NUMBER_BITS - 1)).tolist())
            counted = ~same & ((block & np.uint64(RESERVED)) == 0)
            # a number that is reserved in one row and issued in the next is issued: its reserved twin sorts behind it
            kept = whole[counted]
            codes, numbers = kept >> NUMBER_BITS, kept & (2**NUMBER_BITS - 1)
            kept_from = numbers >= start
            codes, numbers = codes[kept_from], numbers[kept_from]
            if not len(codes):
                continue
            np.add.at(present, codes, 1)
            np.minimum.at(least, codes, numbers)
            prior_code = np.concatenate([[last_code], codes[:-1]])
            prior = np.concatenate([[last_number], numbers[:-1]])
            prior = np.where(prior_code == codes, prior, start - 1)
            gap = numbers - prior > 1
            if self.since:  # what lies before the first of the recent ones is not looked at
                gap &= prior_code == codes
            holes.append((codes[gap], prior[gap] + 1, numbers[gap] - 1))
            last_code, last_number = int(codes[-1]), int(numbers[-1])
        return Numbers(
            count=self.count,
            holes=self._holes(holes),
            spans=self._spans(present, least),
            highest=self._tops(),
            twice=sorted(twice),
            repeats=repeats,
            odd=pl.concat(self._odd) if self._odd else pl.DataFrame(),
        )

    def _tops(self) -> pl.DataFrame:
        empty = {"scope": pl.String(), "period": pl.String(), "number": pl.Int64(), "text": pl.String()}
        schema = {**empty, "token": pl.String(), "status": pl.String()}
        return self._highest if self._highest is not None else pl.DataFrame(schema=schema)

    def _holes(self, found: list[tuple[np.ndarray[Any, Any], ...]]) -> pl.DataFrame:
        parts = [np.concatenate(p) for p in zip(*found, strict=True)] if found else [np.empty(0, dtype=np.int64)] * 3
        frame = pl.DataFrame({"code": parts[0].astype(np.uint64), "first": parts[1], "last": parts[2]})
        top = self._tops().select(*PLACE, next="number", text="text")
        return (
            frame.join(self._places, on="code", how="left", maintain_order="left")
            .join(top, on=PLACE, how="left", maintain_order="left")
            .select(*PLACE, "first", "last", size=pl.col("last") - pl.col("first") + 1, next="next", text="text")
            .sort(*PLACE, "first")
        )

    def _spans(self, present: np.ndarray[Any, Any], least: np.ndarray[Any, Any]) -> pl.DataFrame:
        counted = self._places.with_columns(
            present=pl.Series(present, dtype=pl.Int64()), least=pl.Series(least, dtype=pl.Int64())
        ).filter(pl.col("present") > 0)
        begin = pl.col("least") if self.since else pl.lit(self.policy.start)
        return (
            counted.join(self._tops().select(*PLACE, top="number"), on=PLACE, how="left")
            .select(*PLACE, "present", range=pl.col("top") - begin + 1)
            .sort(PLACE)
        )


def hashes_of(documents: pl.DataFrame, name: str, policy: Policy) -> pl.Series:
    """Return sixty-four bits of what must be unique: of a printed number together with its scope, of all else by itself.

    Null where the value is null.
    """
    value = documents.select(h=pl.when(pl.col(name).is_not_null()).then(pl.col(name).hash(1)))["h"]
    if name != "text":
        return value
    within = ["scope"] if policy.unique_per == "ever" else PLACE
    place = documents.select(h=pl.struct(within).hash(2))["h"]
    return value ^ place


def documents_of(pieces: Iterator[pl.DataFrame], policy: Policy) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Turn pieces of text into documents as the rules see them; beside each piece, its amounts that are no whole number."""
    for text in pieces:
        frame, strange = typed("documents", text)
        yield stored(Books(tables={"documents": frame}), policy), strange


def still_missing(holes: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    """Return the holes without the numbers that a later look found.

    Args:
        holes: as in `Numbers`.
        later: the places and numbers that are there now.
    """
    there: dict[tuple[str, str], list[int]] = {}
    for scope, period, number in later.select(*PLACE, "number").unique().sort("number").iter_rows():
        there.setdefault((scope, period), []).append(number)
    kept: list[dict[str, Any]] = []
    for hole in holes.iter_rows(named=True):
        first = hole["first"]
        for number in [n for n in there.get((hole["scope"], hole["period"]), []) if hole["first"] <= n <= hole["last"]]:
            if number > first:
                kept.append({**hole, "first": first, "last": number - 1, "size": number - first})
            first = number + 1
        if first <= hole["last"]:
            kept.append({**hole, "first": first, "size": hole["last"] - first + 1})
    return pl.DataFrame(kept, schema=holes.schema)
