"""What happens to numbered documents besides being created: each in its shortest interleaving, right and wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import polars as pl
import psycopg
import pytest
from pymongo import MongoClient

from harness.model import Fault, Outcome
from harness.stores import Database, StoreKind
from harness.stores.mongo import lasting_transactions
from reference_impl.base.libpq import PREPARE_AT
from reference_impl.base.refusal import Refused
from reference_impl.numbering import duplicates, mongo, postgres
from reference_impl.numbering.cleanup import main as clean_up
from reference_impl.provider import PROVIDER
from tests.reference_impl.stepping import Actor, Play, play

AT = "2026-12-31T12:00:00+00:00"
LATER = "2026-12-31T13:00:00+00:00"
WHERE = {"company": "acme", "document_type": "invoice", "branch": "Main", "at": AT}
BOTH = {"company": "acme", "branch": "Main", "at": AT, "amount": 100}


@pytest.fixture
def database(request: pytest.FixtureRequest, variant: str) -> Database:
    """A fresh database of the variant's kind."""
    fixture = "postgres_database" if variant.startswith("pg.") else "mongo_database"
    found: Database = request.getfixturevalue(fixture)
    return found


def done(actor: Actor, f: str, token: str, **arguments: Any) -> dict[str, Any]:
    """Carry out an operation that must succeed, and return its answer."""
    operation = actor.does(f, token, **{**WHERE, **arguments})
    assert operation.outcome is Outcome.OK, operation.failure
    return dict(operation.result or {})


def refused(actor: Actor, f: str, token: str, **arguments: Any) -> str:
    """Carry out an operation that must be refused, and return the refusal's code."""
    operation = actor.does(f, token, **{**WHERE, **arguments})
    assert operation.failure is not None
    assert operation.failure.refusal, operation.failure
    return operation.failure.code


def spoken(stage: Play, *judges: str) -> set[str]:
    return {f.invariant for f in stage.findings(*judges) if f.finding_class in ("violation", "liveness")}


def states(stage: Play) -> list[tuple[str, str, str | None]]:
    """Return text, status and reason of every document in the books."""
    return [tuple(row) for row in stage.books().table("documents").select("text", "status", "reason").sort("text").rows()]


# Two documents of one event


@pytest.mark.parametrize(("variant", "spoke"), [("pg.counter_row", set()), ("pg.counters_in_any_order", {"L-RETRY"})])
def test_two_events_that_name_their_documents_the_other_way_round_do_not_wait_in_a_circle(
    database: Database, variant: str, spoke: set[str]
) -> None:
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        a.begins("post", "A", until="number_taken", **BOTH, documents=["invoice", "journal_entry"])
        b.begins("post", "B", **BOTH, documents=["journal_entry", "invoice"])
        a.ends()
        b.ends()
        if spoke:  # a circle needs the second counter to be wanted while the first is held
            for n in range(40):
                if spoken(stage, "L-RETRY"):
                    break
                a.begins("post", f"A{n}", until="never", **BOTH, documents=["invoice", "journal_entry"])
                b.begins("post", f"B{n}", until="never", **BOTH, documents=["journal_entry", "invoice"])
                a.ends()
                b.ends()
            return
        assert spoken(stage, "L-RETRY", "N-UNIQ", "N-EXPLAINED") == spoke


@pytest.mark.parametrize("variant", ["pg.counter_row"])
def test_a_journal_entry_has_a_reference_of_its_own_and_is_told_again_with_its_invoice(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "create", "earlier", amount=100)
        posted = a.does("post", "A", **BOTH, documents=["invoice", "journal_entry"]).result or {}
        again = a.does("post", "A", **BOTH, documents=["invoice", "journal_entry"]).result or {}
        assert (posted["text"], posted["also"]) == ("INV-00002", ["JE-00001"])
        assert (again["text"], again["also"], again["replayed"]) == ("INV-00002", ["JE-00001"], True)
        assert [text for text, _, _ in states(stage)] == ["INV-00001", "INV-00002", "JE-00001"]


@pytest.mark.parametrize("variant", ["pg.counter_row"])
@pytest.mark.parametrize("documents", [[], ["invoice", "invoice"], "invoice", ["Robert'); DROP"], [1], ["a"] * 6])
def test_an_event_without_sensible_documents_is_refused(database: Database, variant: str, documents: Any) -> None:
    with play(variant, database) as stage:
        operation = stage.actor().does("post", "A", **BOTH, documents=documents)
        assert operation.failure is not None
        assert operation.failure.code == "invalid_request"
        assert stage.books().table("documents").is_empty()


@pytest.mark.parametrize("variant", ["pg.counter_row"])
def test_an_event_is_told_again_with_those_of_its_documents_that_are_left(database: Database, variant: str) -> None:
    asked = {**BOTH, "documents": ["invoice", "journal_entry", "receipt"]}
    with play(variant, database) as stage:
        a = stage.actor()
        first = a.does("post", "A", **asked).result or {}
        done(a, "delete", "D", text="JE-00001", document_type="journal_entry")
        again = a.does("post", "A", **asked).result or {}
        assert again == {**first, "also": ["RECEIPT-00001"], "attempts": again["attempts"], "replayed": True}
        done(a, "delete", "E", text="INV-00001")
        left = a.does("post", "A", **asked).result or {}
        assert (left["text"], left["also"], left["replayed"]) == ("RECEIPT-00001", [], True)
        done(a, "delete", "F", text="RECEIPT-00001", document_type="receipt")
        anew = a.does("post", "A", **asked).result or {}
        assert (anew["text"], anew["also"]) == ("INV-00002", ["JE-00002", "RECEIPT-00002"])


@pytest.mark.parametrize("variant", ["pg.counter_row"])
def test_no_other_key_is_in_the_way_of_an_event(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "create", "Z/journal_entry", amount=100)
        posted = a.does("post", "Z", **BOTH, documents=["invoice", "journal_entry"])
        assert posted.outcome is Outcome.OK, posted.failure
        tokens = stage.books().table("documents")["token"].to_list()
        assert {token for token in tokens if re.fullmatch("[!-~]+", token)} == {"Z/journal_entry", "Z"}


# A counter for documents that exist


@contextmanager
def without_counter(stage: Play, number: int) -> Iterator[None]:
    """Add a document as a program would that knows of no counter; it is committed at the end."""
    if stage.database.kind is StoreKind.MONGO:
        place = {"scope": "acme/invoice", "period": "", "number": number, "text": f"INV-{number:05d}"}
        row = {**place, "company": "acme", "status": "issued", "amount": 100, "dated": datetime.fromisoformat(AT)}
        client: MongoClient[Any] = MongoClient(stage.database.url)
        with client:
            client.get_default_database().documents.insert_one(row)
        yield
        return
    with psycopg.connect(stage.database.url) as connection:
        connection.execute(
            "INSERT INTO documents (company, document_type, branch, scope, period, number, text, dated, amount)"
            " VALUES ('acme', 'invoice', 'Main', 'acme/invoice', '', %s, %s, %s, 100)",
            [number, f"INV-{number:05d}", AT],
        )
        yield


@pytest.mark.parametrize(
    ("variant", "spoke"),
    [("pg.counter_row", set()), ("mongo.counter_document", set()), ("pg.counter_reset_on_start", {"N-UNIQ"})],
)
def test_an_instance_that_starts_late_does_not_set_the_counter_back(database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        done(a, "seed", "seed", through=5, counter=False)
        done(b, "introduce", "I")
        a.begins("introduce", "J", until="highest_read", **WHERE)
        done(b, "create", "B", amount=100)
        a.ends()
        assert done(a, "create", "A", amount=100)["number"] == (6 if spoke else 7)
        assert spoken(stage, "N-UNIQ") == spoke


INDEXED = {"unique_index": True}
ISOLATIONS = ("read_committed", "repeatable_read", "serializable")
SEQUENCES = ("pg.native_sequence", "pg.native_sequence_after_check", "pg.native_sequence_cached", "pg.serial_on_conflict")


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document", *SEQUENCES])
@pytest.mark.parametrize("isolation", ["read_committed", "serializable"])
def test_a_counter_is_introduced_behind_the_highest_number_that_exists(database: Database, variant: str, isolation: str) -> None:
    settings = {"isolation": isolation} if variant.startswith("pg.") else {}
    with play(variant, database, **settings) as stage:
        a, b = stage.actor(), stage.actor()
        for number in (3, 41, 7):
            with without_counter(stage, number):
                pass
        done(a, "introduce", "I")
        done(b, "introduce", "J")
        assert done(b, "create", "B", amount=100)["number"] == 42
        assert spoken(stage, "N-UNIQ", "N-COUNTER>=MAX") == set()


@pytest.mark.parametrize("variant", SEQUENCES[:1])
@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_two_instances_that_start_at_once_start_one_sequence(database: Database, variant: str, isolation: str) -> None:
    with play(variant, database, isolation=isolation) as stage:
        a, b = stage.actor(), stage.actor()
        done(a, "seed", "seed", through=5, counter=False)
        a.begins("introduce", "I", until="before_commit", **WHERE)
        b.begins("create", "B", **WHERE, amount=100)
        assert b.waits
        a.ends()
        assert (b.ends().result or {})["number"] == 6
        done(a, "introduce", "J")
        assert done(a, "create", "A", amount=100)["number"] == 7


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document", "pg.native_sequence"])
def test_a_counter_that_started_too_low_is_moved_up_and_none_is_moved_back(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        assert done(a, "create", "A", amount=100)["number"] == 1
        with without_counter(stage, 7):
            pass
        done(a, "introduce", "I")
        assert done(a, "create", "B", amount=100)["number"] == 8
        done(a, "delete", "D", text="INV-00008")
        done(a, "introduce", "J")
        assert done(a, "create", "C", amount=100)["number"] == 9


@pytest.mark.parametrize("variant", ["pg.counter_row", "pg.native_sequence"])
@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("first", ["create", "introduce"])
def test_a_counter_is_moved_up_while_a_document_is_created(database: Database, variant: str, isolation: str, first: str) -> None:
    amounts = {"create": {"amount": 100}, "introduce": {}}
    second = "introduce" if first == "create" else "create"
    with play(variant, database, isolation=isolation) as stage:
        a, b = stage.actor(), stage.actor()
        done(a, "create", "start", amount=100)
        with without_counter(stage, 7):
            pass
        a.begins(first, "A", until="before_commit", **WHERE, **amounts[first])
        b.begins(second, "B", **WHERE, **amounts[second])
        assert b.waits
        assert [a.ends().outcome, b.ends().outcome] == [Outcome.OK, Outcome.OK]
        done(a, "create", "C", amount=100)
        numbers = stage.books().table("documents").sort("number")["number"].to_list()
        assert numbers == ([1, 2, 7, 8] if first == "create" else [1, 7, 8, 9])
        assert spoken(stage, "N-UNIQ", "N-COUNTER>=MAX", "L-RETRY") == set()


@pytest.mark.parametrize("variant", ["pg.counter_row", "pg.native_sequence"])
@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_counter_is_introduced_behind_a_document_that_it_waited_for(database: Database, variant: str, isolation: str) -> None:
    with play(variant, database, isolation=isolation) as stage:
        a = stage.actor()
        with without_counter(stage, 3):
            a.begins("introduce", "I", **WHERE)
            assert a.waits
        assert a.ends().outcome is Outcome.OK
        assert done(a, "create", "A", amount=100)["number"] == 4


@pytest.mark.parametrize("variant", ["pg.select_then_insert_counter"])
def test_a_counter_without_a_key_is_introduced_as_well(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "seed", "seed", through=3)
        done(a, "introduce", "I")
        assert done(a, "create", "A", amount=100)["number"] == 4
        assert len(stage.books().table("counters")) == 1


FILLED = (
    *[("pg.counter_row", level) for level in ISOLATIONS],
    *[("pg.increment_then_refresh_in_transaction", level) for level in ISOLATIONS],
    *[("pg.native_sequence", level) for level in ISOLATIONS],
    *[("pg.native_sequence_after_check", level) for level in ISOLATIONS],
    *[("pg.optimistic_savepoint", level) for level in ISOLATIONS],
    *[("pg.block_allocation", level) for level in ISOLATIONS],
    ("pg.counter_row_one_statement", "read_committed"),
    ("pg.advisory_lock_max", "read_committed"),
    ("pg.serializable_max", "serializable"),
)
IN_STEPS = [(variant, level) for variant, level in FILLED if variant != "pg.counter_row_one_statement"]
"""Those whose create can be stopped on its way."""


@pytest.mark.parametrize(("variant", "isolation"), IN_STEPS)
@pytest.mark.parametrize("counter", [True, False], ids=["counter", "bare"])
def test_a_series_whose_first_document_is_being_created_is_not_filled(
    database: Database, variant: str, isolation: str, counter: bool
) -> None:
    with play(variant, database, isolation=isolation) as stage:
        a, b = stage.actor(), stage.actor()
        a.begins("create", "A", until="before_commit", **WHERE, amount=100)
        b.begins("seed", "seed", **WHERE, through=3, counter=counter)
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        failure = b.ends().failure
        assert failure is not None
        assert failure.code == "series_begun"
        assert done(a, "create", "B", amount=100)["number"] == 2


@pytest.mark.parametrize(("variant", "isolation"), FILLED)
@pytest.mark.parametrize("introduced", [False, True], ids=["fresh", "introduced"])
def test_a_document_that_is_created_while_its_series_is_filled_comes_behind(
    database: Database, variant: str, isolation: str, introduced: bool
) -> None:
    with play(variant, database, isolation=isolation) as stage:
        a, b = stage.actor(), stage.actor()
        if introduced and "introduce" in stage.target.operations:
            done(a, "introduce", "I")
        a.begins("seed", "seed", until="before_commit", **WHERE, through=3)
        b.begins("create", "B", **WHERE, amount=100)
        assert b.waits
        assert [a.ends().outcome, b.ends().outcome] == [Outcome.OK, Outcome.OK]
        done(b, "create", "C", amount=100)
        numbers = stage.books().table("documents").sort("number").filter(pl.col("status") == "issued")["number"].to_list()
        assert numbers == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("variant", ["pg.counter_row", "pg.counter_row_one_statement"])
@pytest.mark.parametrize("f", ["seed", "import_document"])
def test_who_creates_and_who_takes_over_do_not_wait_in_a_circle(database: Database, variant: str, f: str) -> None:
    taken: dict[str, dict[str, Any]] = {
        "seed": {"through": 3, "company": "other"},
        "import_document": {"amount": 1, "number": 99},
    }
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        for n in range(PREPARE_AT):  # a statement that the server has prepared takes its locks in another order
            done(a, "create", f"A{n}", amount=100)
        with psycopg.connect(database.url) as connection:
            connection.execute("LOCK TABLE counters IN EXCLUSIVE MODE")
            b.begins(f, "B", **{**WHERE, **taken[f]})
            a.begins("create", "A", **WHERE, amount=100)
            assert a.waits
            assert b.waits
        assert [a.ends().failure, b.ends().failure] == [None, None]


@pytest.mark.parametrize("variant", ["pg.counter_row", "pg.counter_row_one_statement", "pg.native_sequence"])
def test_who_takes_over_one_document_and_who_takes_over_many_do_not_wait_in_a_circle(
    database: Database, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        really, looks, looked = a.connection.store, b.connection.begun, []

        def store(*asked: Any) -> Any:  # between the counter and the document
            b.begins("seed", "S", **WHERE, through=3)
            assert b.waits
            return really(*asked)

        def begun(*asked: Any) -> Any:  # once more for each try
            looked.append(asked)
            return looks(*asked)

        monkeypatch.setattr(a.connection, "store", store)
        monkeypatch.setattr(b.connection, "begun", begun)
        assert done(a, "import_document", "I", amount=100, number=7)["attempts"] == 1
        failure = b.ends().failure
        assert failure is not None
        assert failure.code == "series_begun"
        assert len(looked) == 1


@pytest.mark.parametrize("variant", ["pg.native_sequence"])
@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_sequence_that_is_made_while_its_series_is_filled_starts_behind(
    database: Database, variant: str, isolation: str
) -> None:
    with play(variant, database, isolation=isolation) as stage:
        a, b = stage.actor(), stage.actor()
        a.begins("seed", "seed", until="before_commit", **WHERE, through=3, counter=False)
        b.begins("create", "B", **WHERE, amount=100)
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        assert (b.ends().result or {})["number"] == 4


@pytest.mark.parametrize(("variant", "isolation"), FILLED)
@pytest.mark.parametrize("counter", [True, False], ids=["counter", "bare"])
def test_of_two_who_fill_a_series_at_once_one_is_refused(database: Database, variant: str, isolation: str, counter: bool) -> None:
    with play(variant, database, isolation=isolation) as stage:
        a, b = stage.actor(), stage.actor()
        a.begins("seed", "S", until="before_commit", **WHERE, through=3, counter=counter)
        b.begins("seed", "T", **WHERE, through=5, counter=counter)
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        failure = b.ends().failure
        assert failure is not None
        assert failure.code == "series_begun"
        assert len(states(stage)) == 3


@pytest.mark.parametrize("variant", ["mongo.counter_in_transaction"])
@pytest.mark.parametrize("introduced", [False, True])
@pytest.mark.parametrize("first", ["create", "seed"])
def test_of_a_seed_and_a_first_document_at_once_one_finds_the_other(
    database: Database, variant: str, introduced: bool, first: str
) -> None:
    asked = {"create": {**WHERE, "amount": 100}, "seed": {**WHERE, "through": 3}}
    second = "seed" if first == "create" else "create"
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        if introduced:
            done(a, "introduce", "I")
        a.begins(first, "A", until="before_commit", **asked[first])
        b.begins(second, "B", **asked[second])
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        found = b.ends()
        if first == "create":
            assert found.failure is not None
            assert found.failure.code == "series_begun"
        assert done(a, "create", "C", amount=100)["number"] == (2 if first == "create" else 5)
        assert spoken(stage, "N-UNIQ", "N-COUNTER1", "N-COUNTER>=MAX") == set()


@pytest.mark.parametrize("variant", ["mongo.counter_document"])
@pytest.mark.parametrize("settings", [{}, INDEXED], ids=["bare", "indexed"])
@pytest.mark.parametrize("counter", [True, False])
@pytest.mark.parametrize("introduced", [False, True], ids=["fresh", "introduced"])
def test_of_two_seeds_at_once_one_is_refused(
    database: Database, variant: str, settings: dict[str, Any], counter: bool, introduced: bool
) -> None:
    with play(variant, database, **settings) as stage:
        a, b = stage.actor(), stage.actor()
        if introduced:
            done(a, "introduce", "I")
        a.begins("seed", "A", until="before_commit", **WHERE, through=3, counter=counter)
        b.begins("seed", "B", **WHERE, through=5, counter=counter)
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        failure = b.ends().failure
        assert failure is not None
        assert failure.code == "series_begun"
        done(a, "introduce", "J")
        assert done(a, "create", "C", amount=100)["number"] == 4
        assert len(states(stage)) == 4


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document", "mongo.optimistic_insert_on_shards"])
def test_a_seed_that_does_not_come_to_its_end_leaves_nothing(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        died = a.does("seed", "S", fault=Fault(kind="kill", point="before_commit"), **WHERE, through=3)
        assert died.outcome is Outcome.INFO
        assert states(stage) == []
        done(a, "seed", "T", through=5)
        assert done(a, "create", "A", amount=100)["number"] == 6


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document", "mongo.optimistic_insert"])
def test_a_series_is_filled_although_its_counter_was_introduced_while_it_was_empty(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "introduce", "I")
        done(a, "seed", "S", through=3)
        assert done(a, "create", "A", amount=100)["number"] == 4
        assert spoken(stage, "N-UNIQ", "N-COUNTER1", "N-COUNTER>=MAX") == set()


@pytest.mark.parametrize("variant", ["mongo.counter_document"])
def test_more_than_fits_into_one_transaction_is_not_taken_over(mongo_store: Any, database: Database, variant: str) -> None:
    with lasting_transactions(mongo_store.client), play(variant, database) as stage:
        a = stage.actor()
        assert refused(a, "seed", "S", through=mongo.MOST_AT_ONCE + 1) == "invalid_request"
        done(a, "seed", "T", through=mongo.MOST_AT_ONCE)
        assert done(a, "create", "A", amount=100)["number"] == mongo.MOST_AT_ONCE + 1


# Voids


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_a_void_that_is_sent_again_is_told_once_more_and_another_is_refused(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "create", "A", amount=100)
        done(a, "void", "V", text="INV-00001", reason="spoiled")
        assert done(a, "void", "V", text="INV-00001", reason="spoiled")["replayed"]
        assert refused(a, "void", "V", text="INV-00001", reason="another") == "key_reused"
        assert refused(a, "void", "W", text="INV-00001", reason="spoiled") == "not_issued"
        assert refused(a, "void", "X", text="INV-00001", reason="spoiled", company="other") == "not_issued"
        assert states(stage) == [("INV-00001", "void", "spoiled")]


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_one_key_voids_one_document(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "create", "A", amount=100)
        done(a, "create", "B", amount=100)
        done(a, "void", "V", text="INV-00001", reason="spoiled")
        assert refused(a, "void", "V", text="INV-00002", reason="spoiled") == "key_reused"
        assert refused(a, "void", "V", text="INV-00003", reason="spoiled") == "key_reused"
        assert done(a, "void", "V", text="INV-00001", reason="spoiled")["replayed"]
        assert states(stage) == [("INV-00001", "void", "spoiled"), ("INV-00002", "issued", None)]
        assert spoken(stage, "P-KEYMATCH", "P-ONCE", "N-VOID") == set()


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_one_key_voids_one_document_of_two_at_once(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        done(a, "create", "A", amount=100)
        done(a, "create", "B", amount=100)
        a.begins("void", "V", until="before_commit", **WHERE, text="INV-00001", reason="spoiled")
        b.begins("void", "V", **WHERE, text="INV-00002", reason="spoiled")
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        failure = b.ends().failure
        assert failure is not None
        assert failure.code == "key_reused"
        assert states(stage) == [("INV-00001", "void", "spoiled"), ("INV-00002", "issued", None)]


@pytest.mark.parametrize("variant", ["pg.void_without_register"])
def test_a_void_that_says_nowhere_why_is_found(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "create", "A", amount=100)
        done(a, "void", "V", text="INV-00001", reason="spoiled")
        assert spoken(stage, "N-VOID") == {"N-VOID"}
        assert states(stage) == [("INV-00001", "void", None)]


# Reservations


@pytest.mark.parametrize("variant", ["pg.reserved_number"])
def test_a_reserved_number_is_confirmed_once_or_released_or_lapses(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        texts = [done(a, "reserve", f"r{n}", amount=100)["reserved"] for n in range(4)]
        assert texts == [f"INV-{n:05d}" for n in range(1, 5)]
        assert done(a, "reserve", "r0", amount=100)["reserved"] == texts[0]
        assert refused(a, "reserve", "r0", amount=250) == "key_reused"
        assert done(a, "confirm", "c0", text=texts[0])["number"] == 1
        assert done(a, "confirm", "c0", text=texts[0])["replayed"]
        assert refused(a, "confirm", "c1", text=texts[0]) == "not_reserved"
        done(a, "release", "x1", text=texts[1], reason="changed her mind")
        assert refused(a, "confirm", "c2", text=texts[1]) == "not_reserved"
        assert refused(a, "confirm", "c3", text=texts[2], at=LATER) == "not_reserved"
        assert done(a, "sweep", "s", at=LATER)["voided"] == 2
        assert refused(a, "release", "x4", text=texts[3], reason="too late") == "not_reserved"
        lapsed = "the reservation lapsed"
        assert states(stage) == [
            (texts[0], "issued", None),
            (texts[1], "void", "changed her mind"),
            (texts[2], "void", lapsed),
            (texts[3], "void", lapsed),
        ]
        assert spoken(stage, "N-VOID", "N-UNIQ", "N-DURABLE", "N-DOC1") == set()


@pytest.mark.parametrize("variant", ["pg.reserved_number"])
def test_a_release_that_is_sent_again_is_told_once_more_and_another_is_refused(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        text, other = [done(a, "reserve", f"r{n}", amount=100)["reserved"] for n in range(2)]
        first = done(a, "release", "X", text=text, reason="changed her mind")
        again = done(a, "release", "X", text=text, reason="changed her mind")
        assert again == {**first, "replayed": True}
        assert refused(a, "release", "X", text=text, reason="another") == "key_reused"
        assert refused(a, "release", "X", text=other, reason="changed her mind") == "key_reused"
        assert refused(a, "release", "Y", text=text, reason="changed her mind") == "not_reserved"
        assert [status for _, status, _ in states(stage)] == ["void", "reserved"]


@pytest.mark.parametrize("variant", ["pg.reserved_number"])
@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_release_that_is_sent_twice_at_once_is_told_twice(database: Database, variant: str, isolation: str) -> None:
    with play(variant, database, isolation=isolation) as stage:
        a, b = stage.actor(), stage.actor()
        asked = {**WHERE, "text": done(a, "reserve", "R", amount=100)["reserved"], "reason": "changed her mind"}
        a.begins("release", "X", until="before_commit", **asked)
        b.begins("release", "X", **asked)
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        again = b.ends()
        assert again.outcome is Outcome.OK, again.failure
        assert (again.result or {})["replayed"]


@pytest.mark.parametrize("variant", ["pg.reserved_number"])
def test_no_other_key_is_in_the_way_of_a_sweep(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "create", "A", amount=100)
        held = done(a, "reserve", "R", amount=100)
        done(a, "void", f"S/{held['document']}", text="INV-00001", reason="spoiled")
        assert done(a, "sweep", "S", at=LATER)["voided"] == 1
        assert done(a, "sweep", "S", at=LATER)["voided"] == 0


@pytest.mark.parametrize("variant", ["pg.reserved_number"])
def test_a_key_is_good_for_a_document_or_for_a_reservation(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "create", "K", amount=100)
        assert refused(a, "reserve", "K", amount=100) == "key_reused"
        text = done(a, "reserve", "R", amount=100)["reserved"]
        assert refused(a, "create", "R", amount=100) == "key_reused"
        assert refused(a, "confirm", "K", text=text) == "key_reused"
        assert refused(a, "confirm", "R", text=text) == "key_reused"
        assert [status for _, status, _ in states(stage)] == ["issued", "reserved"]
        done(a, "confirm", "C", text=text)
        other = done(a, "reserve", "R2", amount=100)["reserved"]
        assert refused(a, "create", "R", amount=100) == "key_reused", "also after its document goes by another key"
        assert refused(a, "import_document", "R", amount=100, number=9) == "key_reused"
        assert refused(a, "confirm", "R", text=other) == "key_reused"
        assert done(a, "reserve", "R", amount=100)["replayed"]
        assert [status for _, status, _ in states(stage)] == ["issued", "issued", "reserved"]


@pytest.mark.parametrize(("variant", "spoke"), [("pg.reserved_number", set()), ("pg.confirm_by_look", {"N-VOID", "N-UNIQ"})])
def test_a_sweep_between_look_and_write_leaves_no_number_void_and_issued(
    database: Database, variant: str, spoke: set[str]
) -> None:
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        text = done(a, "reserve", "R", amount=100)["reserved"]
        a.begins("confirm", "C", until="looked", **WHERE, text=text)
        done(b, "sweep", "S", at=LATER)
        a.ends()
        assert spoken(stage, "N-VOID", "N-UNIQ") == spoke


# Blocks


@pytest.mark.parametrize(
    ("variant", "spoke"),
    [("pg.block_allocation", set()), ("pg.blocks_without_register", {"N-EXPLAINED"}), ("pg.block_read_then_moved", set())],
)
def test_what_a_block_has_left_is_accounted_for(database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        numbers = [done(actor, "create", f"t{n}", amount=100)["number"] for n, actor in enumerate((a, b, a, b))]
        assert numbers == [1, 21, 2, 22]
        voids = [reason for _, status, reason in states(stage) if status == "void"]
        assert len(voids) == (0 if spoke else 36)
        policy = spoken(stage, "N-UNIQ", "N-VOID", "N-COUNTER>=MAX")
        assert policy == set()


# Documents from elsewhere


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_what_is_taken_over_does_not_meet_what_is_there(database: Database, variant: str) -> None:
    with play(variant, database, unique_index=True) as stage:
        a = stage.actor()
        done(a, "import_document", "I", amount=100, number=7)
        assert done(a, "import_document", "I", amount=100, number=7)["replayed"]
        assert refused(a, "import_document", "I", amount=100, number=8) == "key_reused"
        assert refused(a, "import_document", "J", amount=100, number=7) == "number_taken"
        assert refused(a, "seed", "S", through=3) == "series_begun"
        assert [text for text, _, _ in states(stage)] == ["INV-00007"]


WITH_COUNTER = (
    "pg.counter_row",
    "pg.counter_row_one_statement",
    "pg.increment_then_refresh_in_transaction",
    "pg.native_sequence",
    "pg.reserved_number",
    "pg.select_then_insert_counter",
    "mongo.counter_document",
    "mongo.counter_in_transaction",
)


@pytest.mark.parametrize("variant", WITH_COUNTER)
@pytest.mark.parametrize("settings", [{}, INDEXED], ids=["bare", "indexed"])
@pytest.mark.parametrize("introduced", [False, True], ids=["fresh", "introduced"])
def test_no_counter_lies_below_what_was_taken_over(
    database: Database, variant: str, settings: dict[str, Any], introduced: bool
) -> None:
    with play(variant, database, **settings) as stage:
        a = stage.actor()
        if introduced:
            done(a, "create", "A", amount=100)
        done(a, "import_document", "old", amount=100, number=2)
        assert done(a, "create", "B", amount=100)["number"] == 3
        done(a, "import_document", "older", amount=100, number=1 if not introduced else 4)
        assert done(a, "create", "C", amount=100)["number"] == (5 if introduced else 4)
        assert spoken(stage, "N-UNIQ", "N-COUNTER1", "N-COUNTER>=MAX") == set()


@pytest.mark.parametrize(
    ("variant", "isolation"),
    [(variant, level) for variant in ("pg.counter_row", "pg.native_sequence") for level in ISOLATIONS]
    + [("mongo.counter_in_transaction", None)],
)
@pytest.mark.parametrize("first", ["create", "import_document"])
def test_no_counter_lies_below_what_was_taken_over_at_the_same_time(
    database: Database, variant: str, isolation: str | None, first: str
) -> None:
    asked: dict[str, dict[str, Any]] = {"create": {"amount": 100}, "import_document": {"amount": 100, "number": 7}}
    second = "import_document" if first == "create" else "create"
    with play(variant, database, **({"isolation": isolation} if isolation else {})) as stage:
        a, b = stage.actor(), stage.actor()
        a.begins(first, "A", until="before_commit", **WHERE, **asked[first])
        b.begins(second, "B", **WHERE, **asked[second])
        assert b.waits
        assert [a.ends().outcome, b.ends().outcome] == [Outcome.OK, Outcome.OK]
        assert done(a, "create", "C", amount=100)["number"] == (8 if first == "create" else 9)
        assert spoken(stage, "N-UNIQ", "N-COUNTER1", "N-COUNTER>=MAX") == set()


def test_no_document_is_taken_over_by_itself_where_its_number_may_be_in_a_block() -> None:
    assert "import_document" not in PROVIDER.target("pg.block_allocation", {}).operations


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document", "mongo.counter_in_transaction"])
def test_a_document_that_is_taken_over_again_is_told_whichever_index_comes_first(database: Database, variant: str) -> None:
    with play(variant, database, **INDEXED) as stage:
        a = stage.actor()
        first = done(a, "import_document", "I", amount=100, number=7)
        make_token_index_anew(database)
        again = done(a, "import_document", "I", amount=100, number=7)
        assert again == {**first, "replayed": True, "attempts": again["attempts"]}
        assert refused(a, "import_document", "J", amount=100, number=7) == "number_taken"
        assert refused(a, "import_document", "I", amount=200, number=7) == "key_reused"


def make_token_index_anew(database: Database) -> None:
    """Make the index over tokens again, as an administrator may: it is then looked at after those that were there before."""
    if database.kind is StoreKind.MONGO:
        with MongoClient[Any](database.url) as client:
            documents = client.get_default_database().documents
            documents.drop_index("token")
            documents.create_index(
                [("token", 1)], unique=True, partialFilterExpression={"token": {"$exists": True}}, name="token"
            )
        return
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("REINDEX INDEX CONCURRENTLY documents_token_key")


PERIODS = {2025: "2025-12-31T12:00:00+00:00", 2026: "2026-01-01T12:00:00+00:00"}


@pytest.mark.parametrize("variant", ["pg.counter_row", "pg.native_sequence", "mongo.counter_document"])
def test_the_counter_of_a_period_that_is_over_is_introduced_as_well(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        for year, at in PERIODS.items():
            done(a, "seed", f"seed {year}", document_type="payment", at=at, through=3, counter=False)
        done(a, "introduce", "I", document_type="payment", at=PERIODS[2026])
        late = done(a, "create", "A", document_type="payment", at=PERIODS[2025], amount=100)
        assert late["text"] == "PAY20250004"
        assert spoken(stage, "N-UNIQ", "N-COUNTER1", "N-COUNTER>=MAX") == set()


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_no_counter_is_moved_by_what_is_not_taken_over(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "create", "A", amount=100)
        assert refused(a, "import_document", "A", amount=100, number=9) == "key_reused"
        assert done(a, "create", "B", amount=100)["number"] == 2


@pytest.mark.parametrize("variant", ["pg.counter_row", "pg.native_sequence", "pg.block_allocation", "mongo.counter_document"])
def test_a_series_whose_documents_are_all_gone_is_not_filled_with_their_numbers(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "create", "A", amount=100)
        done(a, "delete", "D", text="INV-00001")
        assert refused(a, "seed", "S", through=3) == "series_begun"
        assert refused(a, "seed", "S", through=3, counter=False) == "series_begun"
        assert done(a, "create", "B", amount=100)["number"] == 2


# Duplicates


def two_with_one_number(a: Actor) -> list[str]:
    """Take over two documents of one number and one of another, and return the two's identities."""
    old = [done(a, "import_document", f"old{n}", amount=100, number=min(n, 2))["document"] for n in (1, 2, 3)]
    done(a, "introduce", "I")
    return [str(identity) for identity in old[1:]]


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_a_cleanup_reports_first_and_then_voids_and_never_renumbers(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        keep, surplus = two_with_one_number(a)
        before = states(stage)
        report = done(a, "cleanup", "report")
        assert report["duplicates"] == [{"text": "INV-00002", "keep": keep, "surplus": [surplus]}]
        assert states(stage) == before
        done(a, "cleanup", "V", apply=True, text="INV-00002", document=surplus)
        assert done(a, "cleanup", "again")["duplicates"] == []
        assert refused(a, "cleanup", "W", apply=True, text="INV-00002", document=keep) == "not_a_duplicate"
        assert refused(a, "cleanup", "X", apply=True, text="INV-00002", document="nonsense") == "unknown_document"
        assert [text for text, _, _ in states(stage)] == [text for text, _, _ in before]
        assert spoken(stage, "N-IMMUT", "N-DURABLE", "N-COUNTER>=MAX") == set()


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_a_number_that_is_borne_twice_is_left_to_the_cleanup(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        _, surplus = two_with_one_number(a)
        before = states(stage)
        assert refused(a, "void", "V", text="INV-00002", reason="spoiled") == "number_borne_twice"
        assert refused(a, "delete", "D", text="INV-00002") == "number_borne_twice"
        assert states(stage) == before
        done(a, "cleanup", "C", apply=True, text="INV-00002", document=surplus)
        assert done(a, "void", "V", text="INV-00002", reason="spoiled")["number"] == 2
        reasons = {("INV-00002", "void", reason) for reason in ("another document has the number INV-00002", "spoiled")}
        assert set(states(stage)) - set(before) == reasons


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_a_void_that_is_sent_again_is_told_once_more_however_many_bear_the_number_now(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "create", "A", amount=100)
        done(a, "void", "V", text="INV-00001", reason="spoiled")
        for token in ("I", "J"):
            done(a, "import_document", token, amount=100, number=1)
            assert done(a, "void", "V", text="INV-00001", reason="spoiled")["replayed"]
        assert [status for _, status, _ in states(stage)].count("issued") == 2


@pytest.mark.parametrize(
    ("variant", "f"), [(variant, f) for variant in ("pg.counter_row", "mongo.counter_document") for f in ("void", "delete")]
)
def test_a_document_is_voided_or_deleted_once_by_two_at_once(database: Database, variant: str, f: str) -> None:
    more = {"text": "INV-00001", **({"reason": "spoiled"} if f == "void" else {})}
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        done(a, "create", "A", amount=100)
        a.begins(f, "V", until="before_commit", **WHERE, **more)
        b.begins(f, "W", **WHERE, **more)
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        failure = b.ends().failure
        assert failure is not None
        assert failure.code == "not_issued"


DELETING = (
    "pg.counter_row",
    "pg.native_sequence",
    "pg.advisory_lock_max",
    "pg.serializable_max",
    "pg.optimistic_savepoint",
    "mongo.counter_document",
    "mongo.optimistic_insert",
)


@pytest.mark.parametrize("variant", DELETING)
def test_a_delete_that_is_sent_again_deletes_nobody_elses_document(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        done(a, "create", "A", amount=100)
        gone = done(a, "delete", "D", text="INV-00001")
        given = done(b, "create", "B", amount=100)
        again = done(a, "delete", "D", text="INV-00001")
        assert again == {**gone, "replayed": True}
        assert [text for text, _, _ in states(stage)] == [given["text"]]
        done(b, "create", "C", amount=100)
        assert refused(a, "delete", "D", text="INV-00002") == "key_reused"
        done(a, "delete", "E", text="INV-00002")


@pytest.mark.parametrize("variant", ["pg.counter_row", "pg.serializable_max", "mongo.counter_document"])
def test_a_delete_that_is_sent_twice_at_once_is_told_twice(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        done(a, "create", "A", amount=100)
        a.begins("delete", "D", until="before_commit", **WHERE, text="INV-00001")
        b.begins("delete", "D", **WHERE, text="INV-00001")
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        again = b.ends()
        assert again.outcome is Outcome.OK, again.failure
        assert (again.result or {})["replayed"]


@pytest.mark.parametrize("variant", ["pg.native_sequence_after_check"])
@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_create_that_waited_for_its_first_attempt_draws_no_number(database: Database, variant: str, isolation: str) -> None:
    with play(variant, database, isolation=isolation) as stage:
        a, b = stage.actor(), stage.actor()
        a.begins("create", "A", until="before_commit", **WHERE, amount=100)
        b.begins("create", "A", **WHERE, amount=100)
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        assert (b.ends().result or {})["replayed"]
        assert done(a, "create", "B", amount=100)["number"] == 2


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_the_key_of_a_void_cleans_up_no_other_document(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        _, surplus = two_with_one_number(a)
        done(a, "void", "V", text="INV-00001", reason="spoiled")
        before = states(stage)
        assert refused(a, "cleanup", "V", apply=True, text="INV-00002", document=surplus) == "key_reused"
        assert states(stage) == before


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_a_cleanup_that_is_sent_again_is_told_once_more_and_its_key_is_good_for_nothing_else(
    database: Database, variant: str
) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        keep, surplus = two_with_one_number(a)
        done(a, "import_document", "third", amount=100, number=2)
        first = done(a, "cleanup", "C", apply=True, text="INV-00002", document=surplus)
        before = states(stage)
        again = done(a, "cleanup", "C", apply=True, text="INV-00002", document=surplus)
        assert again == {**first, "replayed": True}
        assert refused(a, "cleanup", "C", apply=True, text="INV-00002", document=keep) == "key_reused"
        assert refused(a, "cleanup", "C", apply=True, text="INV-00001", document=surplus) == "key_reused"
        assert refused(a, "cleanup", "C", apply=True, text="INV-00002", document="nonsense") == "key_reused"
        assert refused(a, "cleanup", "D", apply=True, text="INV-00002", document=surplus) == "unknown_document"
        assert refused(a, "void", "C", text="INV-00001", reason="spoiled") == "key_reused"
        assert states(stage) == before


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_a_cleanup_that_is_sent_twice_at_once_is_told_twice(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        _, surplus = two_with_one_number(a)
        asked = {**WHERE, "apply": True, "text": "INV-00002", "document": surplus}
        a.begins("cleanup", "C", until="before_commit", **asked)
        b.begins("cleanup", "C", **asked)
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        again = b.ends()
        assert again.outcome is Outcome.OK, again.failure
        assert (again.result or {})["replayed"]


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_every_job_tells_how_many_tries_it_took(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        done(a, "seed", "S", through=3)
        surplus = done(a, "import_document", "I", amount=100, number=3)["document"]
        for f, more in (
            ("seed", {"through": 3, "company": "other"}),
            ("import_document", {"amount": 100, "number": 7}),
            ("introduce", {}),
            ("cleanup", {}),
            ("cleanup", {"apply": True, "text": "INV-00003", "document": surplus}),
            ("void", {"text": "INV-00001", "reason": "spoiled"}),
            ("delete", {"text": "INV-00002"}),
        ):
            assert done(a, f, f"{f}{len(more)}", **more)["attempts"] == 1
        assert done(a, "import_document", "I", amount=100, number=3)["attempts"] == 2
        assert done(a, "void", "void2", text="INV-00001", reason="spoiled")["replayed"]


@pytest.mark.parametrize("variant", ["pg.cleanup_renumbers", "mongo.cleanup_renumbers"])
def test_a_cleanup_that_renumbers_changes_what_a_customer_holds(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        _, surplus = two_with_one_number(a)
        done(a, "cleanup", "V", apply=True, text="INV-00002", document=surplus)
        done(a, "create", "A", amount=100)
        assert spoken(stage, "N-IMMUT", "N-UNIQ") == {"N-IMMUT", "N-UNIQ"}


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_two_cleanups_at_once_do_not_void_both_copies(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        first, second = two_with_one_number(a)
        a.begins("cleanup", "V", until="copies_locked", **WHERE, apply=True, text="INV-00002", document=first)
        b.begins("cleanup", "W", **WHERE, apply=True, text="INV-00002", document=second)
        assert a.ends().outcome is Outcome.OK
        failure = b.ends().failure
        assert failure is not None
        assert failure.code == "not_a_duplicate"
        assert [status for text, status, _ in states(stage) if text == "INV-00002"].count("issued") == 1


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_the_cleanup_tool_only_reports_unless_it_is_told_to_apply(
    database: Database, variant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [database.url, "--company", "acme", "--document-type", "invoice"]
    with play(variant, database) as stage:
        _, surplus = two_with_one_number(stage.actor())
        before = states(stage)
        assert clean_up(asked) == 1
        assert "Nothing was changed." in capsys.readouterr().out
        assert states(stage) == before
        assert clean_up([*asked, "--apply"]) == 0
        assert f"document {surplus} is void" in capsys.readouterr().out
        assert clean_up(asked) == 0
        assert capsys.readouterr().out == "acme/invoice: no number is borne twice.\n"


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_the_cleanup_tool_searches_the_period_of_the_date_that_it_is_given_and_says_so(
    database: Database, variant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [database.url, "--company", "acme", "--document-type", "payment"]
    with play(variant, database) as stage:
        a = stage.actor()
        for token in ("A", "B"):
            done(a, "import_document", token, amount=100, number=6, document_type="payment", at="2025-03-01T12:00:00+00:00")
        assert clean_up([*asked, "--date", "2024-12-31"]) == 0
        assert capsys.readouterr().out == "acme/payment in 2024: no number is borne twice.\n"
        assert clean_up([*asked, "--date", "2025-12-31"]) == 1
        assert "acme/payment in 2025: PAY20250006" in capsys.readouterr().out
        assert clean_up([*asked, "--date", "2025-12-31", "--apply"]) == 0
        assert [status for _, status, _ in states(stage)].count("void") == 1
        assert clean_up(asked) == 0
        assert f"acme/payment in {datetime.now(UTC):%Y}: no number is borne twice.\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "changed", "status", "told"),
    [
        (None, {"--document-type": "Invoice"}, 2, "document_type must be a short word in lower case, not 'Invoice'."),
        (None, {"--company": ""}, 2, "company must have 1 to 200 printable characters"),
        ("mysql://root:hush@127.0.0.1/books", {}, 2, "expected postgresql://"),
        ("postgresql://root:hush@127.0.0.1:port/books", {}, 2, "expected postgresql://"),
        ("mongodb://127.0.0.1:1/", {}, 2, "mongodb://host:port/database"),
        ("books", {}, 2, "expected postgresql://"),
        ("postgresql://root:hush@127.0.0.1:1/books", {}, 3, "Connection refused"),
        ("postgresql://root:hush@127.0.0.1:1/books", {"--branch": "\n"}, 2, "branch must have"),
        ("mongodb://127.0.0.1:1/books", {}, 3, "127.0.0.1:1: [Errno 111] Connection refused\n"),
    ],
)
def test_the_cleanup_tool_says_in_one_line_why_it_could_not_look(
    url: str | None, changed: dict[str, str], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"--company": "acme", "--document-type": "invoice", **changed}
    assert clean_up([url or "postgresql://nowhere/", *(word for option in options.items() for word in option)]) == status
    said = capsys.readouterr()
    assert told in said.err
    assert (said.out, said.err.count("\n"), "hush" in said.err) == ("", 1, False)


def test_the_cleanup_tool_takes_a_database_without_documents_for_the_wrong_one(
    postgres_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean_up([postgres_database.url, "--company", "acme", "--document-type", "invoice"]) == 3
    assert capsys.readouterr().err == 'cleanup: the database could not be asked: relation "documents" does not exist\n'


@pytest.mark.parametrize("date", ["yesterday", "2025-13-01", "1025-01-01"])
def test_the_cleanup_tool_refuses_what_is_no_date(date: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        clean_up(["postgresql://nowhere/", "--company", "acme", "--document-type", "payment", "--date", date])
    said = capsys.readouterr().err
    assert "--date: expected a day" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_the_cleanup_tool_goes_on_until_no_report_names_a_duplicate(
    database: Database, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "MOST", 2)
    monkeypatch.setattr(mongo, "MOST", 2)
    asked = [database.url, "--company", "acme", "--document-type", "invoice"]
    with play(variant, database) as stage:
        a = stage.actor()
        for number in range(1, 6):
            for copy in range(2):
                done(a, "import_document", f"{number}-{copy}", amount=100, number=number)
        assert clean_up([*asked, "--apply"]) == 0
        assert len(states(stage)) == 10
        assert [text for text, status, _ in states(stage) if status == "issued"] == [f"INV-{n:05d}" for n in range(1, 6)]


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_the_cleanup_tool_says_what_it_could_not_void(
    database: Database, variant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*ignored: Any) -> Any:
        raise Refused("not_a_duplicate", "somebody else was there")

    module: Any = postgres.CounterRow if variant.startswith("pg.") else mongo.CounterDocument
    with play(variant, database) as stage:
        two_with_one_number(stage.actor())
        monkeypatch.setattr(module, "resolve_duplicate", refuse)
        assert clean_up([database.url, "--company", "acme", "--document-type", "invoice", "--apply"]) == 1
        assert "somebody else was there" in capsys.readouterr().out
