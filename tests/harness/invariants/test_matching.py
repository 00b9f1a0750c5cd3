"""Rows that cannot be matched with requests accuse nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.config.policy import load_policy
from harness.invariants.judge import judge
from harness.invariants.matching import as_stored, foreign_words, strange_tokens
from harness.invariants.numbering.columns import FEWEST
from harness.model import Books, History, Operation, Outcome
from harness.model.books import STATUSES


def unknown(f: str, token: str, at: int = 1) -> Operation:
    return Operation(process=at, client=at, f=f, token=token, arguments={}, invoked=at, completed=9, outcome=Outcome.INFO)


def created(token: str, number: int, f: str = "create", **place: str) -> Operation:
    answer = {"number": number, "amount": 5, **place}
    return Operation(
        process=number,
        client=number,
        f=f,
        token=token,
        arguments={},
        invoked=number,
        completed=number + 10,
        outcome=Outcome.OK,
        result=answer,
    )


def invoice(number: int, token: str | None = None, *, scope: str = "", period: str = "", id: str = "") -> dict[str, Any]:
    return {"id": id or f"{scope}{number}", "scope": scope, "period": period, "number": number, "token": token}


RULES = ["N-UNIQ", "N-DURABLE", "N-IMMUT"]


def judged(operations: list[Operation], documents: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Return verdict and messages."""
    found = judge(History.of(operations), Books.of(documents=documents), load_policy("unique"), RULES)
    return found.verdict.value, [f.message for f in found.findings]


MANY = range(1, FEWEST + 1)
"""As many as it takes to believe that the rows are there under other names."""


def test_a_service_that_stores_an_identity_of_its_own_as_token_is_unknown_and_not_accused() -> None:
    asked = [created(f"c{n}-0", n) for n in MANY]
    verdict, said = judged(asked, [invoice(n, f"row-{n}") for n in MANY])
    assert verdict == "unknown"
    assert said == [
        "no row of documents holds a token that a client sent: a row holds 'row-1' where a client sent 'c1-0', so rows and "
        "requests are not matched; read the client's token as token, or leave it out"
    ]
    assert judged(asked, [invoice(n) for n in MANY]) == ("pass", [])


def test_what_goes_wrong_there_is_still_found_by_the_numbers() -> None:
    asked = [created("again", 1), *(created(f"c{n}-0", n) for n in MANY)]
    verdict, said = judged(asked, [invoice(1, "row-again", id="again"), *(invoice(n, f"row-{n}") for n in MANY)])
    assert verdict == "fail"
    assert any("number 1 was issued twice" in line for line in said), said


def test_nothing_that_is_unanswered_is_declared_undone_by_tokens_of_another_kind() -> None:
    asked = [*(created(f"c{n}-0", n) for n in MANY), unknown("create", "late", 99)]
    found = judge(
        History.of(asked), Books.of(documents=[invoice(n, f"row-{n}") for n in (*MANY, 99)]), load_policy("unique"), RULES
    )
    assert found.history.operations["outcome"].to_list()[-1] == "info"


ASKED = [created(f"c{n}-0", n) for n in MANY]


@pytest.mark.parametrize(
    ("operations", "documents", "why"),
    [
        (ASKED, [invoice(1, "c1-0"), *(invoice(n, f"row-{n}") for n in MANY)], "one token is a client's"),
        (ASKED, [invoice(n, f"row-{n}") for n in MANY[1:]], "fewer rows came than were promised: those are lost"),
        (ASKED, [], "nothing came at all"),
        (ASKED[1:], [invoice(n, f"row-{n}") for n in MANY], "so few may all be lost"),
        ([unknown("create", f"c{n}-0", n) for n in MANY], [invoice(n, f"row-{n}") for n in MANY], "nothing was answered"),
        ([created(f"c{n}-0", n, f="read") for n in MANY], [invoice(n, f"row-{n}") for n in MANY], "a read leaves nothing"),
        (
            [*ASKED, unknown("create", "late", 99)],
            [invoice(99, "late"), *(invoice(n, f"row-{n}") for n in MANY[1:])],
            "one row is that of another request, and the rest are too few",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_is_only_strange_if_every_answered_request_could_be_one_of_its_rows(
    operations: list[Operation], documents: list[dict[str, Any]], why: str
) -> None:
    assert strange_tokens(History.of(operations), Books.of(documents=documents)) == [], why


def test_rows_that_were_there_before_are_not_those_of_the_race() -> None:
    history, books = History.of(ASKED), Books.of(documents=[invoice(n, f"row-{n}") for n in MANY])
    assert [s.table for s in strange_tokens(history, books)] == ["documents"]
    assert strange_tokens(history, replace(books, earlier={"documents": frozenset({"1"})})) == []
    assert strange_tokens(history, replace(books, complete=False)) == []


def test_an_audit_log_is_held_against_what_leaves_its_token_nowhere_else() -> None:
    books = Books.of(payments=[{"id": "1", "token": "s"}], audit=[{"id": f"{n}", "token": f"log-{n}"} for n in MANY])
    approvals = [created(f"a{n}", n, f="approve") for n in MANY]
    (found,) = strange_tokens(History.of([created("s", 99, f="submit"), *approvals]), books)
    assert (found.table, found.held, found.sent) == ("audit", "log-1", "a1")


TWO = [created("a", 1), created("b", 2)]
"""Two answers that name numbers and nothing else."""


def test_without_tokens_an_answer_that_names_no_place_means_the_only_one() -> None:
    assert judged(TWO, [invoice(1, scope="acme", period="2026"), invoice(2, scope="acme", period="2026")]) == ("pass", [])


def test_in_the_only_place_what_was_promised_and_is_not_there_is_lost() -> None:
    verdict, said = judged(TWO, [invoice(1, scope="acme"), invoice(3, scope="acme")])
    assert verdict == "fail"
    assert said == ["number 2 of acme was acknowledged to client 2 at +0.000 s and is not stored"]


def test_of_several_places_nobody_knows_which_an_answer_means() -> None:
    each_their_first = [created("a", 1), created("b", 1)]
    documents = [invoice(1, scope="acme"), invoice(1, scope="globex")]
    assert judged(each_their_first, documents) == (
        "unknown",
        [
            "2 answers name no scope, and documents are of several ('acme' and 'globex'): which of them an answer means is not "
            "known; say it in the answer's constants, or keep the client's token with the document"
        ],
    )
    named = [created("a", 1, scope="acme"), created("b", 1, scope="globex")]
    assert judged(named, documents) == ("pass", [])
    assert judged([created("a", 7)], documents)[0] == "fail", "no document of any place is number 7"
    with_tokens = [invoice(1, "a", scope="acme"), invoice(1, "b", scope="globex")]
    assert judged(each_their_first, with_tokens) == ("pass", [])


def test_answers_that_name_a_place_which_no_document_has_are_unknown_and_not_lost() -> None:
    asked = [created(f"c{n}", n, scope="acme", period="") for n in MANY]
    documents = [invoice(n, scope="acme/invoice") for n in MANY]
    assert judged(asked, documents) == (
        "unknown",
        [
            "answers name the scope 'acme', and no document is of it: documents are of 'acme/invoice'; so an answer may mean any "
            "document with its number: let both name the same scope, or keep the client's token"
        ],
    )
    assert judged(asked, [invoice(99, scope="acme"), *documents])[0] == "fail", "documents of acme there are, and ten are lost"
    assert judged(asked, documents[1:])[0] == "fail", "nine documents cannot be what ten were promised"
    assert judged(asked[1:], documents)[0] == "fail", "so few may all be lost"


def test_a_number_told_twice_is_found_in_whatever_place() -> None:
    asked = [created("again", 1, scope="acme"), *(created(f"c{n}", n, scope="acme") for n in MANY)]
    verdict, said = judged(asked, [invoice(n, scope="acme/invoice") for n in (*MANY, 99)])
    assert verdict == "fail"
    assert any("number 1 was issued twice" in line for line in said), said


def test_tokens_match_documents_of_another_scope_than_every_answer_names() -> None:
    asked = [created(f"c{n}", n, scope="acme/invoice") for n in (1, 2)]
    documents = [invoice(n, f"c{n}", scope="acme") for n in (1, 2)]
    assert judged(asked, documents) == (
        "unknown",
        [
            "every answer names another scope than its document has: 'acme/invoice' where the document with its token is of "
            "'acme'; so the scope that answers name is not gone by: let both name the same scope, or leave it out of the answer"
        ],
    )
    assert judged([created(f"c{n}", n, scope="acme") for n in (1, 2)], documents) == ("pass", [])
    assert judged([created(f"c{n}", n) for n in (1, 2)], documents) == ("pass", []), "what is left out is the document's"
    assert judged(asked, [invoice(n, f"c{n}") for n in (1, 2)]) == ("pass", []), "documents that name none deny nothing"


def test_so_it_is_with_periods() -> None:
    asked = [created(f"c{n}", n, scope="acme", period="2025") for n in (1, 2)]
    verdict, (line,) = judged(asked, [invoice(n, f"c{n}", scope="acme", period="2026") for n in (1, 2)])
    assert verdict == "unknown"
    assert "another period than its document has: '2025' where" in line
    assert judged(asked, [invoice(n, f"c{n}", scope="acme", period="2025") for n in (1, 2)]) == ("pass", [])


def test_a_race_is_found_in_the_scope_of_the_documents_and_laid_to_who_was_answered() -> None:
    asked = [created("c1", 1, scope="acme/invoice"), created("c2", 1, scope="acme/invoice")]
    verdict, said = judged(asked, [invoice(1, "c1", scope="acme", id="1"), invoice(1, "c2", scope="acme", id="2")])
    assert verdict == "fail"
    assert "number 1 was issued twice: by client 1 at +0.000 s and client 1 at +0.000 s" in said
    lost = judged(asked, [invoice(1, "c1", scope="acme")])[1]
    assert "number 1 was issued twice: by client 1 at +0.000 s and client 1 at +0.000 s" in lost, (
        "its scope is known by the other"
    )


def test_where_one_answer_agrees_with_its_document_the_others_are_the_services_own_doing() -> None:
    asked = [created(f"c{n}", n, scope="acme/invoice") for n in (1, 2)]
    documents = [invoice(1, "c1", scope="acme"), invoice(2, "c2", scope="acme/invoice")]
    books = Books.of(documents=documents)
    same, nothing = as_stored(History.of(asked), books)
    assert (same.operations["scope"].to_list(), nothing) == (["acme/invoice", "acme/invoice"], [])
    assert as_stored(History.of(asked[:1]), books)[1] != []
    assert as_stored(History.of(asked[:1]), replace(books, complete=False))[1] == []
    assert as_stored(History.of([unknown("create", "c1")]), books)[1] == [], "nobody was answered"


def test_what_names_the_scope_of_answers_is_moved_with_them_and_what_is_not_known_is_left_open() -> None:
    asked = [
        *(created("c1", 1, scope="acme/invoice"), created("c2", 2, scope="acme/invoice")),
        *(created("lost", 3, scope="acme/invoice"), created("v", 1, f="void", scope="acme")),
        *(created("d", 4, scope="elsewhere"), created("e", 5)),
    ]
    books = Books.of(documents=[invoice(1, "c1", scope="acme"), invoice(2, "c2", scope="acme")])
    moved, (_,) = as_stored(History.of(asked), books)
    assert moved.operations["scope"].to_list() == ["acme", "acme", "acme", "acme", None, None]
    several = Books.of(documents=[invoice(1, "c1", scope="acme"), invoice(2, "c2", scope="globex")])
    assert as_stored(History.of(asked), several)[0].operations["scope"].to_list()[:4] == ["acme", "globex", None, "acme"]


def test_a_void_is_still_that_of_its_document() -> None:
    asked = [created("c1", 1, scope="acme/invoice"), created("v", 1, f="void", scope="acme/invoice")]
    books = Books.of(documents=[{**invoice(1, "c1", scope="acme"), "status": "void", "reason": "torn"}])
    assert [f.invariant for f in judge(History.of(asked), books, load_policy("gapless"), ["N-VOID"]).findings] == ["RESOLVED"]
    found = judge(History.of(asked[:1]), books, load_policy("gapless"), ["N-VOID"]).findings
    assert [f.invariant for f in found] == ["RESOLVED", "N-VOID"]


def test_a_status_in_words_of_the_services_own_is_unknown_and_names_ours() -> None:
    books = Books.of(payments=[{"id": "1", "status": "APPROVED"}, {"id": "2", "status": "paid"}, {"id": "3", "status": None}])
    found = judge(History.of([]), books, load_policy("unique"), ["P-TERM1"])
    assert [(f.finding_class.value, f.message) for f in found.findings] == [
        (
            "indeterminate",
            "the status 'APPROVED' stands in 1 row of payments, and no rule knows what it means; let the query say "
            "awaiting_approval, paid, rejected or cancelled instead",
        )
    ]


@pytest.mark.parametrize("table", sorted(STATUSES))
def test_every_word_of_ours_is_known(table: str) -> None:
    books = Books.of(**{table: [{"id": word, "status": word} for word in STATUSES[table]]})
    assert foreign_words(books) == []


def test_two_answers_are_enough_where_it_is_known_which_rows_came() -> None:
    books = Books.of(documents=[invoice(1, "row-1"), invoice(2, "row-2"), invoice(3, "c9")])
    assert strange_tokens(History.of(TWO), books) == []
    assert strange_tokens(History.of(TWO), replace(books, earlier={"documents": frozenset({"3"})})) != []
    assert strange_tokens(History.of(TWO), replace(books, earlier={"documents": frozenset({"2", "3"})})) == []


def test_tokens_of_older_rows_do_not_mean_that_those_of_the_race_are_stored() -> None:
    books = Books.of(documents=[invoice(7, "of old"), invoice(1), invoice(2)])
    known = replace(books, earlier={"documents": frozenset({"7"})})
    found = judge(History.of([*TWO, unknown("create", "late", 3)]), known, load_policy("unique"), RULES)
    assert (found.verdict.value, found.history.operations["outcome"].to_list()) == ("unknown", ["ok", "ok", "info"])
    assert judge(History.of(TWO), known, load_policy("unique"), RULES).verdict.value == "pass"
    lost = replace(known, tables=Books.of(documents=[invoice(7, "of old"), invoice(1)]).tables)
    assert judge(History.of(TWO), lost, load_policy("unique"), RULES).verdict.value == "fail"


def test_what_the_rows_from_before_break_by_themselves_is_not_laid_at_the_races_door() -> None:
    books = Books.of(
        documents=[invoice(5, scope="acme"), invoice(5, "x", scope="acme", id="other"), invoice(6, "a", scope="acme")]
    )
    history = History.of([created("a", 6, scope="acme")])
    assert judge(history, books, load_policy("unique"), ["N-UNIQ"]).verdict.value == "fail"
    found = judge(history, books, load_policy("unique"), ["N-UNIQ", "N-DURABLE"], broken_before={"N-UNIQ"})
    assert found.verdict.value == "unknown"
    assert [f.message.split("; ")[1] for f in found.findings] == [
        "the rows from before the race break N-UNIQ by themselves, so this may be older than it"
    ]
