"""What the readers of plain arguments take, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reference_impl.base.arguments import moment, text
from reference_impl.base.refusal import Refused


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-20T18:00:00+08:00",
        "2026-11-20t10:00:00z",
        "2026-11-20 10:00Z",
        "2026-11-20T10:00:00.000Z",
        "2026-11-20T18:00:00,0+0800",
    ],
)
def test_a_time_is_read_as_the_standards_write_it(written: str) -> None:
    assert moment({"at": written}) == datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.mark.parametrize("between", ["\ud800", "😀", "\0", "_", "-", "\u2003", "10:00T", ""])
def test_only_a_letter_or_a_space_stands_between_date_and_time(between: str) -> None:
    with pytest.raises(Refused, match="at must be a time such as"):
        moment({"at": f"2026-11-20{between}10:00:00+00:00"})


@pytest.mark.parametrize("blank", ["", " ", "   ", " " * 200])
def test_a_blank_text_is_none(blank: str) -> None:
    with pytest.raises(Refused, match="company must have 1 to 200 printable characters and not be blank"):
        text({"company": blank}, "company")


def test_a_text_is_kept_as_it_is() -> None:
    assert text({"company": " two  words "}, "company") == " two  words "
