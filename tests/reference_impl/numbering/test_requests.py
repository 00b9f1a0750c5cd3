"""Bad input to every operation of numbering is refused with a typed error and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from harness.stores import Database
from reference_impl.base.arguments import MAX_MONEY
from reference_impl.base.refusal import Refused
from reference_impl.numbering.series import ARGUMENTS, understand
from tests.reference_impl.stepping import play

PLACE = {"company": "acme", "document_type": "invoice", "branch": "Main", "at": "2026-12-31T12:00:00+00:00"}
GOOD: dict[str, dict[str, Any]] = {
    "create": {**PLACE, "amount": 100},
    "post": {"company": "acme", "documents": ["invoice", "journal_entry"], "amount": 100},
    "seed": {**PLACE, "through": 3},
    "import_document": {**PLACE, "amount": 100, "number": 7},
    "introduce": PLACE,
    "void": {**PLACE, "text": "INV-00001", "reason": "spoiled"},
    "delete": {**PLACE, "text": "INV-00001"},
    "cleanup": {**PLACE, "apply": True, "text": "INV-00001", "document": "1"},
    "reserve": {**PLACE, "amount": 100},
    "confirm": {**PLACE, "text": "INV-00001"},
    "release": {**PLACE, "text": "INV-00001", "reason": "changed her mind"},
    "sweep": PLACE,
}

NUMBERS = [-1, 0, 0.5, 100.0, 10**30, "100", "1e3", True, None, [100], {"PHP": 100}, float("nan")]
TEXTS = [None, "", 7, 7.5, True, ["acme"], {}, "x" * 300, "a\nb", "a\x00b"]
WRONG = {
    "amount": [*NUMBERS, MAX_MONEY + 1],
    "number": NUMBERS,
    "through": [*NUMBERS, 10**8, 100_001],
    "documents": [None, [], "invoice", ["invoice", "invoice"], ["Invoice"], [7], ["a"] * 6, {}],
    "document_type": [value for value in TEXTS if value is not None] + ["Invoice", "a-b", "x'); DROP TABLE documents;--"],
    "branch": [value for value in TEXTS if value is not None],
    "at": ["yesterday", "2026-11-20T10:00:00", 5, "1026-11-20T10:00:00+00:00", "x" * 300],
    "apply": ["yes", 1, None],
}


def bad() -> list[tuple[str, dict[str, Any]]]:
    """Return operations with one thing wrong each."""
    wrong: list[tuple[str, dict[str, Any]]] = [("nonsense", PLACE), ("__init__", PLACE)]
    for f, good in GOOD.items():
        for name in good:
            wrong += [(f, {**good, name: value}) for value in WRONG.get(name, TEXTS)]
        wrong += [(f, {**good, "amuont": 100}), (f, {**good, "currency": "USD"})]
    return wrong


@pytest.mark.parametrize(("f", "arguments"), bad(), ids=lambda value: str(value)[:60])
def test_what_makes_no_sense_is_refused_before_any_connection_is_touched(f: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        understand(f, arguments, "token")
    assert refused.value.refusal in ("invalid_request", "invalid_amount", "foreign_currency", "unknown_operation")


def test_every_operation_is_tried_with_bad_input_and_good_input_is_understood() -> None:
    assert set(GOOD) == set(ARGUMENTS)
    for f, arguments in GOOD.items():
        assert understand(f, arguments, "token").f == f


@pytest.mark.parametrize(
    ("document_type", "owner"),
    [
        ("inv", "invoice"),
        ("cn", "credit_note"),
        ("je", "journal_entry"),
        ("pay", "payment"),
        ("pay2026", "payment"),
    ],
)
def test_a_type_whose_numbers_would_be_taken_for_anothers_is_refused(document_type: str, owner: str) -> None:
    for f, asked in (("create", {"document_type": document_type}), ("post", {"documents": ["invoice", document_type]})):
        with pytest.raises(Refused, match=f"'{document_type}': its numbers would be printed like those of '{owner}'"):
            understand(f, {"company": "acme", "amount": 100, **asked}, "token")


@pytest.mark.parametrize("missing", ["document", "text"])
def test_a_cleanup_that_is_to_apply_needs_number_and_document(missing: str) -> None:
    asked = {name: value for name, value in GOOD["cleanup"].items() if name != missing}
    with pytest.raises(Refused, match=f"{missing} is missing"):
        understand("cleanup", asked, "token")
    assert understand("cleanup", {**PLACE, "apply": False}, "token").document is None


@pytest.mark.parametrize("token", ["", "x" * 300])
def test_a_request_needs_a_token_of_sensible_length(token: str) -> None:
    with pytest.raises(Refused, match="token"):
        understand("create", GOOD["create"], token)


@pytest.mark.parametrize("variant", ["pg.reserved_number", "mongo.counter_document"])
@pytest.mark.parametrize("document_type", ["invoice", "sale"])
def test_what_belongs_to_another_company_is_not_there(request: pytest.FixtureRequest, variant: str, document_type: str) -> None:
    fixture = "postgres_database" if variant.startswith("pg.") else "mongo_database"
    database: Database = request.getfixturevalue(fixture)
    where = {**PLACE, "document_type": document_type}
    with play(variant, database) as stage:
        a = stage.actor()
        alone = (a.does("create", "A", **where, amount=100).result or {})["text"]
        twice = [a.does("import_document", token, **where, amount=100, number=7).result or {} for token in "BC"]
        reserves = "reserve" in stage.target.operations
        held = (a.does("reserve", "R", **where, amount=100).result or {})["reserved"] if reserves else alone
        spoiled = (a.does("create", "D", **where, amount=100).result or {})["text"]
        a.does("void", "V", **where, text=spoiled, reason="spoiled")
        before = stage.books().table("documents").sort("id").rows()
        theirs = {**where, "company": "other"}
        for f, token, more in (
            ("void", "x-void", {"text": alone, "reason": "spoiled"}),
            ("void", "V", {"text": spoiled, "reason": "spoiled"}),
            ("delete", "x-delete", {"text": alone}),
            ("cleanup", "x-cleanup", {"apply": True, "text": twice[0]["text"], "document": twice[1]["document"]}),
            ("confirm", "x-confirm", {"text": held}),
            ("release", "x-release", {"text": held, "reason": "spoiled"}),
        ):
            failure = a.does(f, token, **theirs, **more).failure
            assert failure is not None, f
            assert failure.refusal, f
        report = a.does("cleanup", "report", **theirs).result or {}
        assert report["duplicates"] == []
        if reserves:
            swept = a.does("sweep", "S", **{**theirs, "at": "2026-12-31T23:00:00+00:00"}).result or {}
            assert swept["voided"] == 0
        assert stage.books().table("documents").sort("id").rows() == before
