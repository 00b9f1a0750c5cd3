"""What services of their own kind answer and keep: numbers without print, prints without number, no tokens, no scopes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from harness.config.policy import load_policy, policy_from
from harness.invariants import judge
from harness.model import Books, Failure, History, Operation, Outcome, Policy

Rows = list[dict[str, Any]]


def asked(f: str, token: str, answer: dict[str, Any] | None = None, at: int = 0, **facts: Any) -> Operation:
    """Return an operation that was answered, ``at`` saying when; its client is ``at`` as well."""
    return Operation(
        **{
            **{"process": at, "client": at, "f": f, "token": token, "arguments": {}, "outcome": Outcome.OK},
            **{"invoked": at * 100, "completed": at * 100 + 50, "result": answer or {}},
            **facts,
        }
    )


def created(token: str, number: int | None = None, text: str | None = None, at: int = 0, **answer: Any) -> Operation:
    said = {"number": number, "text": text, **answer}
    return asked("create", token, {name: value for name, value in said.items() if value is not None}, at)


def refused(f: str, token: str) -> Operation:
    failure = Failure(code="refused", message="refused", refusal=True)
    return asked(f, token, outcome=Outcome.FAIL, result=None, failure=failure)


def document(number: int | None = None, token: str | None = None, text: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": f"{more.get('scope', '')}{number}{text}{token}", "number": number, "token": token, "text": text, **more}


def printed(number: int) -> str:
    return f"INV-{number:05}"


def ruled(
    rule: str,
    operations: list[Operation],
    policy: str | Policy = "explained",
    given: dict[str, frozenset[str]] | None = None,
    **tables: Any,
) -> str:
    """Return the first violation, why the rule was not checked, or "passed"."""
    books = replace(Books.of(**tables), given=given or {})
    chosen = load_policy(policy) if isinstance(policy, str) else policy
    found = judge(History.of(operations), books, chosen, [rule])
    wrong = [f.message for f in found.findings if f.invariant == rule and f.finding_class == "violation"]
    if rule in found.skipped:
        assert not wrong
        return f"not checked: {found.skipped[rule]}"
    return wrong[0] if wrong else "passed"


# Numbers that nobody can read.

UNREADABLE = "not checked: no number could be read from the printed texts: give number, or format in the policy"
BUDGET = policy_from({"name": "budget", "continuity": "budget"}, where="a test")


@pytest.mark.parametrize(
    ("rule", "policy"),
    [("N-GAPLESS", load_policy("gapless")), ("N-EXPLAINED", load_policy("explained")), ("N-GAPBUDGET", BUDGET)],
)
def test_gaps_between_prints_without_numbers_are_not_checked(rule: str, policy: Policy) -> None:
    prints = [document(text=printed(1), token="a"), document(text=printed(30), token="b")]
    assert ruled(rule, [], policy, documents=prints) == UNREADABLE
    assert "INV-00002 to INV-00029" in ruled(rule, [], replace(policy, format="INV-{00000}"), documents=prints)
    assert ruled(rule, [], policy, documents=[]) == "passed"
    without_either = "not checked: no row has a number: give number, or text and a format in the policy"
    assert ruled(rule, [], policy, documents=[document(token="a")]) == without_either


def test_order_is_taken_from_the_row_where_the_answer_holds_a_print_only() -> None:
    answers = [created("a", text=printed(2), at=1), created("b", text=printed(1), at=2)]
    numbered = [document(2, "a", printed(2)), document(1, "b", printed(1))]
    assert ruled("N-MONO", answers, "chronological", documents=numbered).startswith("INV-00001 was asked for by client 2 at")
    in_order = [created("b", text=printed(1), at=1), created("a", text=printed(2), at=2)]
    assert ruled("N-MONO", in_order, "chronological", documents=numbered) == "passed"
    prints = [document(token="a", text=printed(2)), document(token="b", text=printed(1))]
    assert ruled("N-MONO", answers, "chronological", documents=prints) == UNREADABLE


def test_order_is_not_checked_where_nothing_says_one() -> None:
    assert ruled("N-MONO", [created("a")], "chronological", documents=[document(1, "a")]) == "not checked: answers name no number"
    assert ruled("N-MONO", [], "chronological", documents=[]) == "passed"
    dates = policy_from({"name": "dates", "continuity": "none", "dates_ascend": True}, where="a test")
    assert ruled("N-MONO", [], dates, documents=[document(1)]) == "not checked: documents have no date: give dated"
    dated = [document(1, dated=datetime(2026, 1, 2, tzinfo=UTC)), document(2, dated=datetime(2026, 1, 1, tzinfo=UTC))]
    assert "earlier than the lower" in ruled("N-MONO", [], dates, documents=dated)
    both = replace(dates, real_time_order=True)
    assert "earlier than the lower" in ruled("N-MONO", [created("a")], both, documents=dated), "one of the two can be compared"


# Answers in other words than the books.

PRINTS = [created("a", text=printed(1), at=1), created("b", text=printed(2), at=2)]
NUMBERS = [created("a", 1, at=1), created("b", 2, at=2)]


@pytest.mark.parametrize(
    ("answers", "rows", "words"),
    [
        (PRINTS, [document(1, "a"), document(2, "b")], "answers name only prints and documents only numbers"),
        (
            NUMBERS,
            [document(text=printed(1), token="a"), document(text=printed(2), token="b")],
            "answers name only numbers and documents only prints",
        ),
    ],
    ids=["prints", "numbers"],
)
def test_a_number_is_not_held_against_a_print(answers: list[Operation], rows: Rows, words: str) -> None:
    assert ruled("N-DURABLE", answers, documents=rows) == "passed"
    assert ruled("N-IMMUT", answers, documents=rows) == f"not checked: {words}"
    assert ruled("N-UNIQ", answers, documents=rows) == "passed"
    assert "is not stored" in ruled("N-DURABLE", answers, documents=rows[:1])
    without_tokens = [{**row, "token": None} for row in rows]
    assert ruled("N-DURABLE", answers, documents=without_tokens) == f"not checked: {words}, and documents keep no token"
    assert "is not stored" in ruled("N-DURABLE", [created("a", 7, printed(7))], documents=without_tokens)


def test_a_row_whose_number_is_only_in_print_is_held_against_the_print_that_was_told() -> None:
    told = [created("a", 1, printed(1))]
    other = [document(2, "z", printed(2))]
    for rule, wrong in (("N-DURABLE", "stored as INV-00009"), ("N-IMMUT", "is now INV-00009")):
        assert ruled(rule, told, documents=[document(None, "a", printed(1)), *other]) == "passed"
        assert wrong in ruled(rule, told, documents=[document(None, "a", printed(9)), *other])
        assert wrong in ruled(rule, told, documents=[document(9, "a", printed(9)), *other])


def test_a_row_that_has_lost_its_number_is_told_from_books_that_keep_none() -> None:
    told = [created("a", 1), created("b", 2, at=1)]
    half = [document(None, "a"), document(2, "b")]
    assert ruled("N-DURABLE", told, documents=half).endswith("and is stored without a number")
    assert ruled("N-IMMUT", told, documents=half) == "passed", "that it is gone is said once"
    none = [document(None, "a"), document(None, "b")]
    assert ruled("N-DURABLE", told, documents=none) == "passed"
    assert ruled("N-UNIQ", told, documents=none) == "passed"
    assert "number 1 was issued twice" in ruled("N-UNIQ", [created("a", 1), created("b", 1, at=1)], documents=none)


def test_what_two_were_told_is_the_same_whichever_way_their_rows_say_it() -> None:
    twice = [created("a", text=printed(1)), created("b", text=printed(1), at=1)]
    assert "INV-00001 was issued twice" in ruled("N-UNIQ", twice, documents=[document(1, "a"), document(2, "b")])
    assert ruled("N-UNIQ", PRINTS, documents=[document(1, "a"), document(2, "b")]) == "passed"
    half_kept = [document(None, "a", printed(1)), document(2, "b", printed(2))]
    assert ruled("N-UNIQ", [created("a", 1, printed(1)), created("b", 2, printed(2), at=1)], documents=half_kept) == "passed"


# Documents that no answer names.


@pytest.mark.parametrize("f", ["create", "post", "confirm", "import_document"])
def test_what_makes_a_document_without_naming_a_number_must_be_stored(f: str) -> None:
    answers = [asked(f, "a"), asked(f, "b", at=1)]
    assert "a document of the only scope was acknowledged to client 1" in ruled(
        "N-DURABLE", answers, documents=[document(1, "a")]
    )
    assert ruled("N-DURABLE", answers, documents=[document(1, "a"), document(2, "b")]) == "passed"
    assert ruled("N-DURABLE", [asked("approve", "b")], documents=[document(1, "a")]) == "passed"


def test_answers_and_documents_that_have_nothing_in_common_are_not_compared() -> None:
    answers, rows = [created("a"), created("b", at=1)], [document(1)]
    assert ruled("N-DURABLE", answers, documents=rows) == "not checked: answers name no number and documents keep no token"
    assert ruled("N-DURABLE", [], documents=rows) == "passed"
    assert "is not stored" in ruled("N-DURABLE", answers, documents=[])
    assert ruled("N-UNIQ", answers) == "not checked: neither books nor answers hold a number"
    assert ruled("N-UNIQ", answers, documents=[document(token="a")]) == "not checked: neither books nor answers hold a number"
    assert ruled("N-UNIQ", []) == "passed"
    assert ruled("N-UNIQ", answers, documents=rows) == "passed"
    assert "was issued twice" in ruled("N-UNIQ", [created("a", 1), created("b", 1, at=1)])


# Endings that do not say of which scope.

TWO = [created("a", 1, printed(1), scope="acme", period=""), created("b", 2, printed(2), at=1, scope="acme", period="")]
KEPT = document(1, "a", printed(1), scope="acme")


def ending(f: str, said: dict[str, Any], answer: dict[str, Any] | None = None, *, known: bool = True) -> Operation:
    outcome, result = (Outcome.OK, answer or {}) if known else (Outcome.INFO, None)
    return asked(f, "end", at=2, arguments={"company": "acme", **said}, outcome=outcome, result=result)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("token", ["a", None])
def test_a_deletion_that_names_no_scope_ends_its_number_in_any(token: str | None, *, known: bool) -> None:
    rows = [{**KEPT, "token": token}]
    assert ruled("N-DURABLE", [*TWO, ending("delete", {"text": printed(2)}, known=known)], documents=rows) == "passed"
    other = ending("delete", {"text": printed(3)}, known=known)
    assert "INV-00002 of acme was acknowledged" in ruled("N-DURABLE", [*TWO, other], documents=rows)
    elsewhere = ending("delete", {"text": printed(2), "scope": "globex"}, known=known)
    assert "INV-00002 of acme was acknowledged" in ruled("N-DURABLE", [*TWO, elsewhere], documents=rows)


def test_a_document_of_no_known_scope_may_be_ended_in_any() -> None:
    answers = [created("a", 1, printed(1)), created("b", 2, printed(2), at=1)]
    named = ending("delete", {}, {"text": printed(2), "scope": "acme"})
    assert ruled("N-DURABLE", [*answers, named], documents=[KEPT]) == "passed"
    assert "INV-00002" in ruled("N-DURABLE", answers, documents=[KEPT])


def test_a_deletion_that_names_no_scope_is_first_of_the_document_that_has_none() -> None:
    loose = created("c", 2, printed(2), at=3)
    told = ruled("N-DURABLE", [*TWO, loose, ending("delete", {"text": printed(2)})], documents=[KEPT])
    assert told.startswith("INV-00002 of acme was acknowledged")


def void(number: int, token: str, text: str | None = None) -> dict[str, Any]:
    return document(number, token, text, scope="acme", status="void", reason="torn")


def test_a_void_that_names_a_print_is_of_the_row_with_that_print() -> None:
    answers = [created("a", 1, scope="acme"), created("b", 2, at=1, scope="acme")]
    # The print is in the row, or, where rows have none either, its last digits are the number.
    for rows in ([KEPT, void(2, "b", "X/2-b")], [document(1, "a", scope="acme"), void(2, "b")]):
        text = rows[1]["text"] or printed(2)
        assert ruled("N-VOID", [*answers, ending("void", {"text": text})], documents=rows) == "passed"
        assert "nobody voided it" in ruled("N-VOID", [*answers, ending("void", {"text": "INV-00001"})], documents=rows)
    by_place = [document(2, None, "X/2-b", scope="acme", status="void", reason="torn"), void(2, "b")]
    assert ruled("N-VOID", [*answers, ending("void", {"text": "X/2-b"})], documents=by_place) == "passed"


def test_a_void_that_names_a_number_is_of_the_print_that_ends_with_it() -> None:
    answers = [created("b", text=printed(2), scope="acme")]
    rows = [document(None, "b", printed(2), scope="acme", status="void", reason="torn")]
    assert ruled("N-VOID", [*answers, ending("void", {}, {"number": 2})], documents=rows) == "passed"
    assert "nobody voided it" in ruled("N-VOID", [*answers, ending("void", {}, {"number": 3})], documents=rows)


def test_a_reason_is_only_asked_for_where_books_give_one() -> None:
    rows = [{**void(2, "b"), "reason": None}]
    columns = frozenset({"id", "number", "status", "scope", "token"})
    answers = [created("b", 2, scope="acme"), ending("void", {}, {"number": 2})]
    assert "says no reason" in ruled("N-VOID", answers, "gapless", documents=rows)
    assert ruled("N-VOID", answers, "gapless", {"documents": columns}, documents=rows) == "passed"
    assert "nobody voided it" in ruled("N-VOID", answers[:1], "gapless", {"documents": columns}, documents=rows)


# Counters and indexes by other names.


def test_counters_of_other_places_than_the_numbers_are_not_compared() -> None:
    rows = [document(6, "a", scope="acme", period="2026")]
    strangers: list[Rows] = [[{"scope": "acme", "value": 2}], [{"scope": "invoice", "period": "2026", "value": 2}]]
    for counters in strangers:
        assert ruled("N-COUNTER>=MAX", [], documents=rows, counters=counters).startswith("not checked: no counter is of a scope")
    known = [{"scope": "acme", "period": "2026", "value": 2}]
    assert "stands at 2, below" in ruled("N-COUNTER>=MAX", [], documents=rows, counters=[*strangers[0], *known])
    assert ruled("N-COUNTER>=MAX", [], documents=[], counters=known) == "passed"


def test_counters_whose_scope_is_not_given_may_be_those_of_several() -> None:
    counters: Rows = [{"value": 1}, {"value": 1}]
    only_value = {"counters": frozenset({"value"})}
    assert ruled("N-COUNTER1", [], given=only_value, counters=counters) == "not checked: the books do not give counters.scope"
    assert "has 2 counters" in ruled("N-COUNTER1", [], given={"counters": frozenset({"scope", "value"})}, counters=counters)


TENANTS = [document(1, "a", scope="17"), document(1, "b", scope="18")]


def indexed(policy: str | Policy, *columns: str, table: str = "documents") -> str:
    return ruled("N-SCOPE", [], policy, documents=TENANTS, indexes=[{"table": table, "columns": names} for names in columns])


def test_a_scope_by_another_name_is_not_held_against_the_policy() -> None:
    assert indexed("unique", "company_id, number") == "passed"
    assert indexed("gapless", "tenant_id, number") == "passed"
    assert "does not know company and document_type" in indexed("gapless", "number")
    assert "does not know document_type" in indexed("gapless", "company_id, number")
    assert "also covers user" in indexed("gapless", "company, document_type, user, number")


def test_an_index_on_the_clients_reference_is_not_that_of_the_number() -> None:
    by_company = policy_from({"name": "p", "continuity": "none", "scope_keys": ["company"]}, where="a test")
    for token in ("reference", "token", "idempotency_key"):
        assert indexed(by_company, token, "company_id, number") == "passed"
        assert "does not know company" in indexed(by_company, token, "number")


def test_indexes_of_no_table_called_documents_are_not_checked() -> None:
    assert indexed("gapless", "number", table="invoices") == (
        "not checked: no index is of documents, but of 'invoices': table must be 'documents' for those of the documents' table"
    )
    assert indexed("gapless") == "passed"


# Dates without a time, numbers without tokens, requests that burn a number, drafts and repetitions.


def test_a_date_without_a_time_is_of_no_zone() -> None:
    daily = policy_from({"name": "p", "continuity": "none", "period": "day", "time_zone": "America/Mexico_City"}, where="a test")

    def counted(*days: str) -> Rows:
        return [document(n, period="2026-11-20", dated=datetime.fromisoformat(day)) for n, day in enumerate(days)]

    assert ruled("N-PERIOD", [], daily, documents=counted("2026-11-20T00:00+00:00", "2026-11-20T00:00+00:00")) == "passed"
    assert "is counted in 2026-11-20" in ruled("N-PERIOD", [], daily, documents=counted("2026-11-19T00:00+00:00"))
    with_times = counted("2026-11-20T00:00+00:00", "2026-11-20T12:00+00:00")
    assert "which is 2026-11-19" in ruled("N-PERIOD", [], daily, documents=with_times)


def test_a_print_without_number_or_token_stands_for_one_request() -> None:
    old = [document(text=printed(1)), document(text=printed(2))]
    twice = [created("a", text=printed(3)), created("b", text=printed(3), at=1)]
    assert "INV-00003 was issued twice" in ruled("N-UNIQ", twice, documents=[*old, document(text=printed(3))])
    assert ruled("N-UNIQ", twice[:1], documents=[*old, document(text=printed(3))]) == "passed"
    # A document that was found by its number is not found by its print again, for somebody else.
    both = [created("a", 3), created("b", text=printed(3), at=1)]
    assert "INV-00003 was issued twice" in ruled("N-UNIQ", both, documents=[document(3, None, printed(3))])
    assert ruled("N-UNIQ", both[1:], documents=[document(3, None, printed(3))]) == "passed"
    whole = [created("a", 3, printed(3)), created("b", 3, printed(3), at=1)]
    assert "INV-00003 was issued twice" in ruled("N-UNIQ", whole, documents=[document(text=printed(3))])
    assert ruled("N-UNIQ", whole[:1], documents=[document(text=printed(3))]) == "passed"


@pytest.mark.parametrize("f", ["sell", "post", "confirm", "import_document"])
def test_what_makes_documents_may_burn_a_number_though_no_answer_names_one(f: str) -> None:
    rows = [document(1, "a"), document(3, "c")]
    answers = [asked(f, "a"), asked(f, "c", at=1)]
    assert ruled("N-EXPLAINED", [*answers, refused(f, "b")], documents=rows) == "passed"
    assert "number 2 of the only scope is missing" in ruled("N-EXPLAINED", answers, documents=rows)
    assert "number 2 of the only scope is missing" in ruled("N-EXPLAINED", [*answers, refused("submit", "b")], documents=rows)


def test_a_draft_with_an_empty_print_has_no_number() -> None:
    drafts = [{"id": "2", "text": ""}, {"id": "3", "text": ""}]
    assert ruled("N-UNIQ", [created("a", 1, printed(1))], documents=[document(1, "a", printed(1)), *drafts]) == "passed"
    assert ruled("N-FMT", [], "company-series", documents=[document(1, "a", printed(1)), *drafts]) == "passed"
    assert ruled("N-FMT", [], "company-series", documents=drafts) == "not checked: documents have neither number nor text"
    assert "is not printed at all" in ruled("N-FMT", [], "company-series", documents=[document(1, "a", ""), *drafts])
    assert "was issued twice" in ruled("N-UNIQ", [], documents=[document(1, "a", "1"), document(2, "b", "1"), *drafts])
    told = [created("a", text=""), created("b", text="", at=1)]
    assert ruled("N-UNIQ", told, documents=[document(1, "a"), document(2, "b")]) == "passed"


@pytest.mark.parametrize(
    "rows", [[document(1, "a", printed(1))], [document(1, None, printed(1))], []], ids=["token", "none", "lost"]
)
def test_an_answer_in_fewer_words_is_no_other_claim(rows: Rows) -> None:
    again = [created("a", 1, printed(1)), created("a", 1, at=1), created("a", text=printed(1), at=2)]
    assert ruled("N-UNIQ", again, documents=rows) == "passed"
    assert ruled("P-ONCE", again, documents=rows) == "passed"
    assert "was issued twice" in ruled("N-UNIQ", [*again, created("b", 1, at=3)], documents=rows)
    assert "was answered with 2 numbers" in ruled("P-ONCE", [*again, created("a", 2, at=3)], documents=rows)
