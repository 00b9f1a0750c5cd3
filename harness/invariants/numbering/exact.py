"""The exact check of a history of numbers against the allocator that hands out ``start``, ``start`` + 1, ``start`` + 2 ...

A returned number is its place in the order, so nothing has to be searched. A history of one scope and period is
linearizable for the next-number allocator if and only if

(a) no two acknowledged operations have the same number, and none is below the start;
(b) no operation was invoked after one with a higher number had returned;
(c) for each ``k``: let ``m`` be the ``k``-th missing number, counted upwards and below the highest acknowledged one. At least
    ``k`` operations of unknown outcome were invoked by ``deadline(m)``, the earliest return of anything numbered above ``m``.

*Necessary.* In a linearization every number up to the highest was taken by exactly one operation, which took effect
between its invocation and its return. (a) is that. For (b): the operation with the higher number takes effect later,
hence returns after the other's invocation. For (c): each missing number was taken by an operation that nobody saw
return. The one that took ``m`` took effect before everything numbered above it, hence was invoked before each of those
returned. The ``k`` missing numbers up to ``m`` need ``k`` different operations, and ``deadline`` only grows with ``m``.

*Sufficient.* Operations of unknown outcome are interchangeable and have no return, so the missing number ``m`` may be
given to any of them that was invoked by ``deadline(m)``. These sets grow with ``m``, so Hall's condition for them is (c),
and handing them out in the order of their invocation gives each missing number one of its own; the others never took
effect. Order all by number. What returned before another was invoked has the lower number: for two acknowledged
operations by (b), for one that took a missing number and an acknowledged one above it by the deadline, and an operation
of unknown outcome precedes nobody, as it never returned. Hence the order respects real time.

A differential test compares this with an exhaustive search. Two conditions are at the caller's choice. Without (b) (a
sequence that caches blocks does not promise it) a missing number has no deadline either, and (c) counts: no more missing
numbers than operations that may have burnt one. And ``burnt`` says how many numbers each operation may have taken in vain:
by default one for an unknown outcome; where rollbacks cost numbers, one for each try that failed as well.

An operation of unknown outcome whose scope or period is not known counts in each place that it may belong to. That can
hide a lost number between several places, and never invents one.

How it is computed. Numbers are nearly dense, so each place (scope and period) is an array indexed by its number, filled
by scattering: no sort. Per number it holds the earliest return and the latest invocation; one running minimum from the
top gives every deadline, one search in the sorted invocations of the ambiguous every count. Places are packed into parts
of at most ``batch`` numbers and larger places are cut into several. Each part is read from disk by itself, with only its
rows; the earliest return of all later parts and the count of missing numbers so far are carried along. So the memory is
that of one part, however long the history (and of the ambiguous operations, 24 bytes each). A place whose numbers are not
dense (a timestamp among them) is sorted instead.

Intents that are sent again (the same token) look like a number issued twice, or too late. Only the few numbers that
look wrong are looked up again by their tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

PLACE = ["scope", "period"]

BATCH = 1 << 22
"""Numbers held in memory at a time, about 100 bytes each; few enough to stay near the processor."""

KEPT = 1000
"""Examples of each kind that are kept; the totals are exact."""

Ints = npt.NDArray[np.int64]

_NEVER = np.iinfo(np.int64).max

MAY_HAVE_TAKEN_ONE = (pl.col("outcome") == "info").cast(pl.Int64())


@dataclass(frozen=True, kw_only=True)
class NumberCheck:
    """What is wrong with a history of numbers. Tables hold the first `KEPT` examples, ``totals`` the exact counts.

    ``repeated``: scope, period, number, ``times``. ``late``: scope, period, number, ``invoked``, and ``above``, the earlier
    return of a higher number. ``lacking``: for each place that lacks operations, the first run of missing numbers (``first``,
    ``last``) that has too few, how many were ``needed`` so far and how many are ``there``, and how many numbers nobody can have
    taken (``unexplained``). ``below``: numbers below the start.
    """

    places: int
    numbers: int
    repeated: pl.DataFrame
    late: pl.DataFrame
    lacking: pl.DataFrame
    below: pl.DataFrame
    totals: dict[str, int]

    @property
    def valid(self) -> bool:
        """Whether the next-number allocator can have answered like this."""
        return not any(self.totals.values())


def check_numbers(
    operations: pl.LazyFrame,
    *,
    start: int = 1,
    ordered: bool = True,
    burnt: pl.Expr = MAY_HAVE_TAKEN_ONE,
    batch: int = BATCH,
) -> NumberCheck:
    """Check the numbers that operations were given.

    Args:
        operations: rows with the columns scope, period, number, token, invoked, completed and outcome of a history, of creates
            only. A lazy frame over a file is read part by part.
        start: the first number of every place.
        ordered: whether numbers must follow real time, condition (b) and the deadlines of (c).
        burnt: how many numbers an operation may have taken without an answer that says so.
        batch: numbers held in memory at a time.
    """
    ok = operations.filter(pl.col("outcome") == "ok", pl.col("number").is_not_null()).with_columns(pl.col(PLACE).fill_null(""))
    places = (
        ok.group_by(PLACE)
        .agg(
            count=pl.len().cast(pl.Int64()),
            below=(pl.col("number") < start).sum().cast(pl.Int64()),
            high=pl.col("number").max(),
            earliest=pl.col("invoked").min(),
            latest=pl.max_horizontal(pl.col("invoked").max(), pl.col("completed").max()),
        )
        .sort(PLACE)
        .collect(engine="streaming")
    )
    below = int(places["below"].sum())
    low = ok.filter(pl.col("number") < start).select(*PLACE, "number").head(KEPT)
    run = _Run(rows=operations, places=places, start=start, ordered=ordered, burnt=burnt)
    parts = _parts(places, start, batch, run.span)
    for part, later in zip(parts, run.later_returns(parts), strict=True):
        run.check(part, later)
    return NumberCheck(
        places=places.height,
        numbers=int(places["count"].sum()),
        repeated=_table(run.repeated, _REPEATED),
        late=_table(run.late, _LATE),
        lacking=run.lacking(),
        below=low.collect() if below else pl.DataFrame(schema=_NUMBER),
        totals={**run.totals, "below": below},
    )


_NUMBER = {"scope": pl.String(), "period": pl.String(), "number": pl.Int64()}
_REPEATED = {**_NUMBER, "times": pl.Int64()}
_LATE = {**_NUMBER, "invoked": pl.Int64(), "above": pl.Int64()}
_LACKING = {
    **{"scope": pl.String(), "period": pl.String()},
    **dict.fromkeys(("first", "last", "needed", "there", "unexplained"), pl.Int64()),
}


def _table(frames: list[pl.DataFrame], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return pl.concat(frames).head(KEPT) if frames else pl.DataFrame(schema=schema)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What is held in memory at a time: places ``first`` to ``last``, or of one place the numbers ``low`` to ``high``."""

    first: int
    last: int
    low: int
    high: int
    dense: bool = True


def _parts(places: pl.DataFrame, start: int, batch: int, span: int) -> list[_Part]:
    """Pack places into parts, cut those that are too large, and put those that are not dense by themselves."""
    parts: list[_Part] = []
    most = max(1, (1 << 62) // span)  # places in a part whose times can be told apart in 64 bits
    free, packed = 0, 0
    for at, (count, high) in enumerate(places.select("count", "high").iter_rows()):
        size = high - start + 1
        if size <= 0:
            continue
        if size > 4 * count + (1 << 16):
            parts.append(_Part(first=at, last=at, low=start, high=high, dense=False))
            free = 0
        elif size > batch:
            parts += [_Part(first=at, last=at, low=low, high=min(low + batch - 1, high)) for low in range(start, high + 1, batch)]
            free = 0
        elif size <= free and packed < most and parts[-1].last == at - 1:
            parts[-1] = replace(parts[-1], last=at, high=max(parts[-1].high, high))
            free, packed = free - size, packed + 1
        else:
            parts.append(_Part(first=at, last=at, low=start, high=high))
            free, packed = batch - size, 1
    return parts


@dataclass(frozen=True)
class _Slots:
    """One entry for each acknowledged number of a part, by place and number: the earliest return and the latest invocation.

    Times are keys: nanoseconds since the first invocation plus the place's rank times the span of all, so that each place
    has a range of its own and one running minimum serves them all.
    """

    rank: Ints
    number: Ints
    times: Ints
    returned: Ints
    invoked: Ints


class _Run:
    """The check while it goes through the parts, in ascending order of places and numbers."""

    def __init__(self, *, rows: pl.LazyFrame, places: pl.DataFrame, start: int, ordered: bool, burnt: pl.Expr) -> None:
        self.rows = rows
        self.ok = rows.filter(pl.col("outcome") == "ok", pl.col("number") >= start).with_columns(pl.col(PLACE).fill_null(""))
        self.places = places
        self.start = start
        self.ordered = ordered
        spare = rows.select(*PLACE, "invoked", burnt=burnt).filter(pl.col("burnt") > 0).collect(engine="streaming")
        starts = [t for t in (places["earliest"].min(), spare["invoked"].min()) if isinstance(t, int)]
        ends = [t for t in (places["latest"].max(), spare["invoked"].max()) if isinstance(t, int)]
        self.zero = min(starts, default=0)
        self.span = max(ends, default=0) - self.zero + 2
        self._spare = _Spare(spare.with_columns(invoked=pl.col("invoked") - self.zero), places, self.span)
        self.repeated: list[pl.DataFrame] = []
        self.late: list[pl.DataFrame] = []
        self.short: dict[int, dict[str, int]] = {}
        self.totals = {"repeated": 0, "late": 0, "lacking": 0}
        self._place, self._missing, self._top = -1, 0, start - 1

    def later_returns(self, parts: list[_Part]) -> list[int]:
        """Return for each part the earliest return in the later parts of its last place, or `_NEVER`."""
        later = [_NEVER] * len(parts)
        for at in range(len(parts) - 2, -1, -1):
            part, following = parts[at], parts[at + 1]
            if part.last == following.first:
                earliest = self._of(following).select(pl.col("completed").min()).collect(engine="streaming").item()
                later[at] = min(later[at + 1], _NEVER if earliest is None else earliest)
        return later

    def check(self, part: _Part, later: int) -> None:
        """Check one part. ``later`` is the earliest return in the later parts of its last place."""
        slots = self._slots(part)
        if not len(slots.number):
            return
        floor = np.empty(len(slots.number) + 1, np.int64)
        floor[:-1] = slots.returned
        last = int(slots.rank[-1]) * self.span
        floor[-1] = last + self.span - 1 if later == _NEVER else last + later - self.zero
        floor = np.minimum.accumulate(floor[::-1])[::-1]
        self._find_repeated(part, slots)
        if self.ordered:
            self._find_late(part, slots, floor[1:])
        self._find_lacking(part, slots, floor[:-1] if self.ordered else slots.rank * self.span + self.span - 1)

    def lacking(self) -> pl.DataFrame:
        """Return the places that lack operations for their missing numbers."""
        rows = [
            {"scope": scope, "period": period, **self.short[at]}
            for at in sorted(self.short)
            for scope, period in [self.places.select(PLACE).row(at)]
        ]
        return pl.DataFrame(rows[:KEPT], schema=_LACKING)

    def _of(self, part: _Part) -> pl.LazyFrame:
        """Return the acknowledged rows of a part."""
        if part.first == 0 and part.last == self.places.height - 1:
            chosen = self.ok
        else:
            low, high = self.places.select(PLACE).row(part.first), self.places.select(PLACE).row(part.last)
            scope, period = pl.col("scope"), pl.col("period")
            chosen = self.ok.filter(
                (scope > low[0]) | ((scope == low[0]) & (period >= low[1])),
                (scope < high[0]) | ((scope == high[0]) & (period <= high[1])),
            )
        if part.first == part.last:
            chosen = chosen.filter(pl.col("number").is_between(part.low, part.high))
        return chosen

    def _ranked(self, part: _Part) -> pl.Expr:
        """Return the rank of each row's place within the part."""
        if part.first == part.last:
            return pl.lit(0, pl.Int64())
        here = self.places.slice(part.first, part.last - part.first + 1)
        periods = here["period"].unique().sort()
        scopes = here["scope"].unique().sort()
        code = _physical("scope", scopes) * periods.len() + _physical("period", periods)
        codes = here.select(code.alias("code"))["code"]
        if codes.len() == int(codes[-1]) + 1:  # every scope has every period
            return code
        return code.replace_strict(codes, pl.int_range(codes.len(), eager=True))

    def _slots(self, part: _Part) -> _Slots:
        frame = (
            self._of(part)
            .select("number", "invoked", "completed", rank=self._ranked(part))
            .with_columns(pl.col("completed").fill_null(self.zero + self.span - 1))
            .collect(engine="streaming")
        )
        number, rank = frame["number"].to_numpy(), frame["rank"].to_numpy()
        if part.dense:
            # Slots follow one another, place by place; numbers start again in each.
            high = self.places["high"].slice(part.first, part.last - part.first + 1).to_numpy()
            sizes = np.minimum(high, part.high) - part.low + 1
            begins = np.concatenate([[0], np.cumsum(sizes)])
            slot = number - part.low if part.first == part.last else number - part.low + begins[rank]
            total = int(begins[-1])
        else:
            numbers, slot = np.unique(number, return_inverse=True)
            total = len(numbers)
        key = frame["rank"].to_numpy() * self.span - self.zero
        times = np.bincount(slot, minlength=total)
        returned = np.full(total, _NEVER)
        np.minimum.at(returned, slot, frame["completed"].to_numpy() + key)
        invoked = np.full(total, -1)
        np.maximum.at(invoked, slot, frame["invoked"].to_numpy() + key)
        if not part.dense:
            return _Slots(np.zeros(total, np.int64), numbers, times, returned, invoked)
        taken = np.flatnonzero(times)
        if part.first == part.last:
            ranks, local = np.zeros(len(taken), np.int64), taken
        else:
            ranks = np.searchsorted(begins, taken, side="right") - 1
            local = taken - begins[ranks]
        return _Slots(ranks, local + part.low, times[taken], returned[taken], invoked[taken])

    def _find_repeated(self, part: _Part, slots: _Slots) -> None:
        suspects = slots.times > 1
        if not suspects.any():
            return
        twice = (
            self._tokens(part, slots, suspects)
            .group_by(*PLACE, "number")
            .agg(times=pl.col("token").n_unique().cast(pl.Int64()))
            .filter(pl.col("times") > 1)
            .sort(*PLACE, "number")
        )
        self.totals["repeated"] += twice.height
        self.repeated.append(twice.head(KEPT))

    def _find_late(self, part: _Part, slots: _Slots, above: Ints) -> None:
        suspects = slots.invoked > above
        if not suspects.any():
            return
        asked = self._tokens(part, slots, suspects, above)
        maybe = self.rows.filter(pl.col("outcome") == "info").group_by("token").agg(maybe=pl.col("invoked").min())
        first = (
            asked.lazy()
            .group_by(*PLACE, "number", "above", "token")
            .agg(pl.col("invoked").min())
            .join(maybe, on="token", how="left")
            .group_by(*PLACE, "number", "above")
            .agg(invoked=pl.min_horizontal("invoked", "maybe").max())
            .filter(pl.col("invoked") > pl.col("above"))
            .select(list(_LATE))
            .sort(*PLACE, "number")
            .collect()
        )
        self.totals["late"] += first.height
        self.late.append(first.head(KEPT))

    def _tokens(self, part: _Part, slots: _Slots, suspects: npt.NDArray[np.bool_], above: Ints | None = None) -> pl.DataFrame:
        """Return the rows of the suspected numbers, with the earliest return above each. A missing token is one of its own."""
        here = self.places.select(PLACE)[(slots.rank[suspects] + part.first).tolist()]
        wanted = here.with_columns(number=pl.Series(slots.number[suspects]))
        if above is not None:
            times = above[suspects] - slots.rank[suspects] * self.span + self.zero
            wanted = wanted.with_columns(above=pl.Series(times))
        return (
            self._of(part)
            .with_row_index("row")
            .select(*PLACE, "number", "invoked", token=pl.col("token").fill_null(pl.format("#{}", "row")))
            .join(wanted.lazy(), on=[*PLACE, "number"])
            .collect()
        )

    def _find_lacking(self, part: _Part, slots: _Slots, deadline: Ints) -> None:
        """Compare, for each run of missing numbers, how many are missing up to it with how many could have taken them."""
        before = np.empty_like(slots.number)
        before[1:] = slots.number[:-1]
        begins = np.flatnonzero(np.diff(slots.rank, prepend=-1))
        before[begins] = self.start - 1
        carried = part.first == self._place and part.first == part.last
        if carried:
            before[0] = self._top
        gaps = slots.number - before - 1
        needed = np.cumsum(gaps)
        base = np.zeros(len(begins), np.int64)
        base[1:] = needed[begins[1:] - 1]
        of_place = np.cumsum(np.diff(slots.rank, prepend=slots.rank[0]) != 0)
        needed -= base[of_place]
        if carried:
            needed += self._missing
        self._place, self._missing, self._top = part.last, int(needed[-1]), int(slots.number[-1])
        runs = np.flatnonzero(gaps)
        if not len(runs):
            return
        there = self._spare.taken_by(part, slots.rank[runs], deadline[runs] - slots.rank[runs] * self.span)
        over = needed[runs] - there
        short = np.flatnonzero(over > 0)
        if not len(short):
            return
        firsts = np.flatnonzero(np.diff(slots.rank[runs][short], prepend=-1))
        worst = np.maximum.reduceat(over[short], firsts)
        for run, at, unexplained in zip(runs[short[firsts]], there[short[firsts]], worst, strict=True):
            facts = {
                "first": int(before[run]) + 1,
                "last": int(slots.number[run]) - 1,
                "needed": int(needed[run]),
                "there": int(at),
                "unexplained": int(unexplained),
            }
            known = self.short.setdefault(part.first + int(slots.rank[run]), facts)
            known["unexplained"] = max(known["unexplained"], facts["unexplained"])
        self.totals["lacking"] = sum(facts["unexplained"] for facts in self.short.values())


class _Spare:
    """Operations that may have taken a number in vain, ready to be counted: of a place, of a scope, or of who knows where."""

    def __init__(self, spare: pl.DataFrame, places: pl.DataFrame, span: int) -> None:
        numbered = places.select(*PLACE, at=pl.int_range(pl.len()), of=pl.col("scope").rle_id().cast(pl.Int64()))
        self._of = numbered["of"].to_numpy()
        self._span = span
        scopes = numbered.unique("scope").select("scope", at="of")
        self._placed = _counted(spare.join(numbered, on=PLACE))
        self._scoped = _counted(spare.filter(pl.col("period").is_null()).join(scopes, on="scope"))
        self._loose = _counted(spare.filter(pl.col("scope").is_null()).with_columns(at=pl.lit(0, pl.Int64())))

    def taken_by(self, part: _Part, ranks: Ints, deadlines: Ints) -> Ints:
        """Return how many numbers may have been taken, in places of these ranks, by these times since the first invocation."""
        places, scopes = ranks + part.first, self._of[ranks + part.first]
        return (
            self._by(self._placed, part.first, part.last, places, deadlines)
            + self._by(self._scoped, int(self._of[part.first]), int(self._of[part.last]), scopes, deadlines)
            + self._by(self._loose, 0, 0, np.zeros_like(ranks), deadlines)
        )

    def _by(self, counted: tuple[Ints, Ints, Ints], first: int, last: int, at: Ints, deadlines: Ints) -> Ints:
        where, invoked, sums = counted
        low, high = np.searchsorted(where, [first, last + 1])
        if first == last:  # the times need no place, and a large one is asked about once for each of its parts
            return np.asarray(sums[low + np.searchsorted(invoked[low:high], deadlines, side="right")] - sums[low], np.int64)
        keys = invoked[low:high] + (where[low:high] - first) * self._span
        found = low + np.searchsorted(keys, deadlines + (at - first) * self._span, side="right")
        return np.asarray(sums[found] - sums[np.searchsorted(where, at)], np.int64)


def _counted(spare: pl.DataFrame) -> tuple[Ints, Ints, Ints]:
    """Return where each was invoked and when, sorted, and how many numbers all before it may have taken."""
    ordered = spare.sort("at", "invoked")
    sums = np.concatenate([[0], np.cumsum(ordered["burnt"].to_numpy())])
    return ordered["at"].to_numpy(), ordered["invoked"].to_numpy(), sums.astype(np.int64)


def _physical(column: str, values: pl.Series) -> pl.Expr:
    return pl.col(column).cast(pl.Enum(values)).to_physical().cast(pl.Int64())
