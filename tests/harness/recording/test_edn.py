"""EDN is read as its specification says, and what is written reads back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.recording.edn import EdnError, Keyword, read_all, read_one, write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nil", None),
        ("true", True),
        ("false", False),
        ("42", 42),
        ("-7", -7),
        ("+7", 7),
        ("12N", 12),
        ("1.5", 1.5),
        ("1.5M", 1.5),
        ("1e3", 1000.0),
        ("##Inf", math.inf),
        ("##-Inf", -math.inf),
        (":ok", "ok"),
        (":jepsen.util/x", "jepsen.util/x"),
        ("symbol", "symbol"),
        ('"a \\"b\\" \\n \\u0041"', 'a "b" \n A'),
        ('""', ""),
        ("\\a", "a"),
        ("\\newline", "\n"),
        ("\\u0041", "A"),
        ("[1 2 [3]]", [1, 2, [3]]),
        ("(1 2)", [1, 2]),
        ("[]", []),
        ("{:a 1, :b [2 3]}", {"a": 1, "b": [2, 3]}),
        ("{}", {}),
        ("{[1 2] :x}", {(1, 2): "x"}),
        ("#{1 2}", frozenset({1, 2})),
        ('#inst "2026-11-20"', "2026-11-20"),
        ("#a/b [1 2]", [1, 2]),
        ("[1 #_ 2 3]", [1, 3]),
        ("[1 #_ [2 {}] 3]", [1, 3]),
        ("; comment\n 5 ; another\n", 5),
        ("  ,, 5,, ", 5),
        ("#_ 1 5", 5),
    ],
)
def test_a_value_is_read(text: str, value: Any) -> None:
    assert read_one(text) == value


def test_keywords_are_told_from_text() -> None:
    assert isinstance(read_one(":ok"), Keyword)
    assert not isinstance(read_one('"ok"'), Keyword)


def test_values_follow_one_another() -> None:
    assert list(read_all("1 [2]\n{:a 3} ; end")) == [1, [2], {"a": 3}]
    assert list(read_all(" ; nothing\n #_ 4")) == []


def test_a_tag_may_have_a_reader() -> None:
    assert read_one("#pair [1 2]", {"pair": tuple}) == (1, 2)


@pytest.mark.parametrize("text", ["[1 2", '"open', "{:a", "{:a}", "[1)", "#{1]", '"\\q"', "1x", "#", "[1 2]]", "", "1 2", "#_"])
def test_what_is_not_one_value_is_refused(text: str) -> None:
    with pytest.raises(EdnError):
        read_one(text)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.from_regex(r"[a-z][a-z0-9-]*", fullmatch=True).map(Keyword),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_what_is_written_reads_back(value: Any) -> None:
    assert read_one(write(value)) == value


def test_what_is_not_a_number_reads_back() -> None:
    assert math.isnan(read_one(write(math.nan)))


def test_sets_are_written_in_a_stable_order() -> None:
    assert write({"b", "a"}) == '#{"a" "b"}'


def test_a_value_without_a_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no form in EDN"):
        write(object())
