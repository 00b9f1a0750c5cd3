"""A finding for each of the first ten scopes, one that counts the rest, and the examples at the ends."""

from __future__ import annotations

import polars as pl
import pytest

from harness.invariants.numbering.scopes import each_place, ends
from harness.model import Finding, FindingClass

TEXT = pl.String()


def wrong(*places: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame(places, schema={"scope": TEXT, "period": TEXT}, orient="row")


def tell(scope: str, period: str, rows: pl.DataFrame) -> Finding:
    assert set(rows.rows()) == {(scope, period)}
    message = f"{scope} {period} {rows.height}"
    return Finding(finding_class=FindingClass.VIOLATION, invariant="N-X", message=message, evidence={}, total=rows.height)


def test_nothing_wrong_is_not_told() -> None:
    assert each_place("N-X", wrong(), tell) == []


def test_each_place_has_its_own_rows_in_the_order_in_which_they_are_told() -> None:
    found = each_place("N-X", wrong(("b", "q"), ("a", "q"), ("a", "p"), ("b", "q"), ("b", "p")), tell)
    assert [f.message for f in found] == ["b q 2", "a q 1", "a p 1", "b p 1"]


def test_ten_places_are_told_of_and_the_others_counted() -> None:
    ten = [(f"s{n:02}", "") for n in range(10)]
    assert len(each_place("N-X", wrong(*ten), tell)) == 10
    others = [(f"t{n:02}", "") for n in range(12)]
    *told, rest = each_place("N-X", wrong(*ten, *others, *others[:2]), tell, finding_class=FindingClass.COST, many="more")
    assert [f.message for f in told] == [f"{scope}  1" for scope, _ in ten]
    assert (rest.message, rest.total, rest.finding_class) == ("14 more, in 12 other scopes", 14, FindingClass.COST)
    assert rest.evidence["scopes"] == [scope for scope, _ in others[:10]]


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([], []),
        ([1], [0]),
        ([1, 2], [0, 1]),
        ([1, 9, 3, 4], [0, 1, 3]),
        ([1, 2, 3, 9, 5], [0, 3, 4]),
        ([None, None, None], [0, 2]),
        ([9, 9, 1], [0, 2]),
    ],
)
def test_examples_are_the_first_the_worst_and_the_last(values: list[int | None], kept: list[int]) -> None:
    frame = pl.DataFrame({"at": range(len(values)), "value": pl.Series(values, dtype=pl.Int64())})
    assert ends(frame, worst="value")["at"].to_list() == kept
    assert ends(frame)["at"].to_list() == sorted({0, len(values) - 1} & set(range(len(values))))
