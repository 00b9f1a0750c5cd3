"""Each way to get numbering wrong, in its shortest interleaving, and its correct twins in the same one."""

from __future__ import annotations

import time
from typing import Any

import pytest

from harness.model import Fault, Outcome
from harness.stores import Database
from reference_impl.numbering import broken_mongo, broken_postgres
from tests.reference_impl.stepping import Actor, Play, play

Case = tuple[str, str, dict[str, Any], set[str]]

AT = "2026-12-31T12:00:00+00:00"
WHERE = {"company": "acme", "document_type": "invoice", "branch": "Main", "at": AT}
JUDGES = ("N-UNIQ", "N-EXPLAINED", "N-DURABLE", "N-IMMUT", "N-COUNTER1", "N-COUNTER>=MAX", "P-ONCE", "P-KEYMATCH", "L-RETRY")
TAKEN = "number_taken"

RIGHT = (
    "pg.counter_row",
    "pg.counter_row_one_statement",
    "pg.increment_then_refresh_in_transaction",
    "pg.native_sequence",
    "pg.advisory_lock_max",
    "pg.serializable_max",
    "pg.optimistic_savepoint",
    "mongo.counter_document",
    "mongo.counter_in_transaction",
    "mongo.optimistic_insert",
    "mongo.optimistic_insert_on_shards",
)


@pytest.fixture
def database(request: pytest.FixtureRequest, variant: str) -> Database:
    """A fresh database of the variant's kind."""
    fixture = "postgres_database" if variant.startswith("pg.") else "mongo_database"
    found: Database = request.getfixturevalue(fixture)
    return found


def spoken(stage: Play, *judges: str) -> set[str]:
    """Return the invariants that found something wrong; an explained gap is a cost and not wrong."""
    return {f.invariant for f in stage.findings(*(judges or JUDGES)) if f.finding_class in ("violation", "liveness")}


def create(actor: Actor, token: str, amount: int = 100, **more: Any) -> None:
    actor.does("create", token, **{**WHERE, "amount": amount, **more})


def cases(*several: Case) -> Any:
    right: list[Case] = [(name, TAKEN, {}, set()) for name in RIGHT]
    everything = [*several, *right]
    names = [f"{v}-{'-'.join(map(str, s.values())) or 'default'}" for v, _, s, _ in everything]
    return pytest.mark.parametrize(("variant", "point", "settings", "spoke"), everything, ids=names)


INDEXED = {"unique_index": True}


@cases(
    ("pg.count_plus_one", TAKEN, {}, {"N-UNIQ"}),
    ("pg.count_plus_one", TAKEN, INDEXED, {"L-RETRY"}),
    ("pg.latest_text_plus_one", TAKEN, {}, {"N-UNIQ"}),
    ("pg.lock_last_row", TAKEN, {}, {"N-UNIQ"}),
    ("pg.increment_then_refresh", "incremented", {}, {"N-UNIQ", "N-EXPLAINED"}),
    ("pg.increment_then_refresh", "incremented", INDEXED, {"L-RETRY"}),
    ("pg.load_add_save", "loaded", {}, {"N-UNIQ"}),
    ("pg.check_next_retry_fallback", TAKEN, {"unique_index": False}, {"N-UNIQ"}),
    ("pg.advisory_lock_max", TAKEN, {"isolation": "repeatable_read"}, {"N-UNIQ"}),
    ("pg.swallowed_error", TAKEN, {}, {"N-UNIQ", "N-DURABLE", "N-IMMUT"}),
    ("pg.retry_insert_only", TAKEN, {}, {"L-RETRY"}),
    ("pg.counter_row_without_retry", TAKEN, {}, {"L-RETRY"}),
    ("pg.counter_row", TAKEN, {"isolation": "repeatable_read"}, set()),
    ("pg.counter_row", TAKEN, {"isolation": "serializable"}, set()),
    ("pg.counter_row", TAKEN, INDEXED, set()),
    ("mongo.count_plus_one", TAKEN, {}, {"N-UNIQ"}),
    ("mongo.count_plus_one", TAKEN, INDEXED, {"L-RETRY"}),
    ("mongo.latest_text_plus_one", TAKEN, {}, {"N-UNIQ"}),
    ("mongo.check_next_retry_fallback", TAKEN, {"unique_index": False}, {"N-UNIQ"}),
    ("mongo.count_in_transaction", TAKEN, {}, {"N-UNIQ"}),
    ("mongo.retry_insert_only", TAKEN, {}, {"L-RETRY"}),
    ("mongo.unacknowledged_insert", TAKEN, {}, {"N-UNIQ", "N-DURABLE", "N-IMMUT"}),
)
def test_two_creates_at_once_get_two_numbers(
    database: Database, variant: str, point: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, database, **settings) as stage:
        a, b = stage.actor(), stage.actor()
        assert a.does("seed", "seed", **WHERE, through=3).outcome is Outcome.OK
        if variant == "pg.serializable_max" or variant.startswith("mongo.counter_in_transaction"):
            create(a, "A")  # one of two at once runs again until the other has ended: they cannot both be stepped
            create(b, "B")
        else:
            a.begins("create", "A", until=point, **WHERE, amount=100)
            b.begins("create", "B", **WHERE, amount=100)
            if variant == "mongo.unacknowledged_insert":
                until_stored(stage, "B")
            a.ends()
            b.ends()
        assert spoken(stage) == spoke


def until_stored(stage: Play, token: str) -> None:
    """Wait for a document whose insert nobody acknowledges: sent first, it may still arrive second."""
    limit = time.monotonic() + 20
    while token not in stage.books().table("documents")["token"]:
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("variant", "settings", "spoke"),
    [
        ("mongo.number_from_the_clock", {}, {"N-UNIQ"}),
        ("mongo.number_from_the_clock", INDEXED, {"L-RETRY"}),
        ("mongo.counter_document", {}, set()),
    ],
)
def test_two_creates_in_the_same_millisecond_get_two_numbers(
    database: Database, variant: str, settings: dict[str, Any], spoke: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broken_mongo, "clock_digits", lambda: 542_069)
    with play(variant, database, **settings) as stage:
        create(stage.actor(), "A")
        create(stage.actor(), "B")
        assert spoken(stage, "N-UNIQ", "L-RETRY") == spoke


FALLBACKS = (
    ("pg.check_next_retry_fallback", broken_postgres, broken_postgres.CheckNextRetryFallback),
    ("mongo.check_next_retry_fallback", broken_mongo, broken_mongo.CheckNextRetryFallback),
)


@pytest.mark.parametrize(("variant", "module", "implementation"), FALLBACKS)
def test_the_published_fix_falls_back_to_the_clock_after_its_last_retry(
    database: Database, variant: str, module: Any, implementation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "clock_digits", lambda: 42_069, raising=False)
    monkeypatch.setattr(implementation, "retries", 0)
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        a.begins("create", "A", until=TAKEN, **WHERE, amount=100)
        create(b, "B")
        fell_back = a.ends()
        assert fell_back.result is not None, fell_back.failure
        assert (fell_back.result["number"], fell_back.result["text"]) == (42_069, "INV-042069")
        assert spoken(stage, "N-UNIQ", "N-DURABLE", "L-RETRY") == set()


@pytest.mark.parametrize(("variant", "module", "implementation"), FALLBACKS)
def test_the_published_fix_falls_back_to_the_clock_after_its_last_candidate(
    database: Database, variant: str, module: Any, implementation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "clock_digits", lambda: 42_069, raising=False)
    monkeypatch.setattr(implementation, "candidates", 0)
    with play(variant, database) as stage:
        assert (stage.actor().does("create", "A", **WHERE, amount=100).result or {})["text"] == "INV-042069"


@pytest.mark.parametrize(
    ("variant", "spoke"), [("pg.select_then_insert_counter", {"N-UNIQ", "N-COUNTER1"})] + [(v, set()) for v in RIGHT]
)
def test_the_first_two_documents_of_a_scope_share_one_counter(database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        if variant == "pg.serializable_max" or variant.startswith("mongo.counter_in_transaction"):
            create(a, "A")
            create(b, "B")
        else:
            a.begins("create", "A", until="no_counter" if spoke else TAKEN, **WHERE, amount=100)
            b.begins("create", "B", **WHERE, amount=100)
            a.ends()
            b.ends()
        assert spoken(stage) == spoke


@pytest.mark.parametrize(
    ("variant", "lacks"),
    [("pg.counter_on_other_connection", 1), ("pg.native_sequence", 1), ("mongo.counter_document", 1)]
    + [(v, 0) for v in RIGHT if v not in ("pg.native_sequence", "mongo.counter_document")],
)
def test_a_refused_create_gives_its_number_back_where_numbers_are_gapless(database: Database, variant: str, lacks: int) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        create(a, "A")
        refused = a.does("create", "B", **WHERE, amount=100, discount_bp=5000, discount_permitted=False)
        assert refused.failure is not None
        assert refused.failure.code == "discount_not_permitted"
        create(a, "C")
        numbers = sorted(stage.books().table("documents")["number"])
        assert numbers[-1] - len(numbers) == lacks


@pytest.mark.parametrize(
    ("variant", "spoke"),
    [("pg.token_ignored", {"P-ONCE"}), ("pg.token_checked_first", set()), ("mongo.token_ignored", {"P-ONCE"})]
    + [("mongo.check_next_retry_fallback", {"P-ONCE"})]
    + [(v, set()) for v in RIGHT],
)
def test_the_same_intent_sent_again_is_told_what_happened_the_first_time(
    database: Database, variant: str, spoke: set[str]
) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        create(a, "A")
        first = a.last
        create(a, "A")
        assert spoken(stage, "P-ONCE", "P-KEYMATCH") == spoke
        if not spoke and variant in RIGHT:
            assert first is not None
            assert first.result is not None
            assert a.last is not None
            assert a.last.result is not None
            assert a.last.result["number"] == first.result["number"]


@pytest.mark.parametrize(("variant", "spoke"), [("pg.payload_not_compared", {"P-KEYMATCH"})] + [(v, set()) for v in RIGHT])
def test_a_used_token_with_another_amount_is_refused(database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        create(a, "A", amount=100)
        create(a, "A", amount=250)
        assert spoken(stage, "P-ONCE", "P-KEYMATCH") == spoke


@pytest.mark.parametrize("variant", RIGHT)
def test_a_client_that_vanishes_half_way_leaves_no_document(database: Database, variant: str) -> None:
    if variant == "pg.counter_row_one_statement":
        pytest.skip("there is no half way in a single statement")
    with play(variant, database) as stage:
        a, b = stage.actor(), stage.actor()
        create(b, "B")
        assert a.does("create", "A", fault=Fault(kind="vanish", point=TAKEN), **WHERE, amount=100).outcome is Outcome.INFO
        if variant != "mongo.counter_in_transaction":  # there the server keeps the transaction for a while
            create(b, "C")
        assert stage.books().table("documents")["token"].is_in(["A"]).sum() == 0


@pytest.mark.parametrize(
    "variant", ["pg.counter_starts_at_zero", "mongo.counter_starts_at_zero", "pg.counter_row", "mongo.counter_document"]
)
def test_a_counter_is_introduced_behind_what_exists(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        a.does("seed", "seed", **WHERE, through=5)
        create(a, "A")
        spoke = {f.invariant for f in stage.findings("N-UNIQ", "N-COUNTER>=MAX")}
        assert spoke == ({"N-UNIQ", "N-COUNTER>=MAX"} if "starts_at_zero" in variant else set())


@pytest.mark.parametrize("variant", ["pg.latest_text_plus_one", "mongo.latest_text_plus_one", *RIGHT])
def test_9999_is_followed_by_10000_once(database: Database, variant: str) -> None:
    payment = {**WHERE, "document_type": "payment"}
    with play(variant, database) as stage:
        a = stage.actor()
        a.does("seed", "seed", **payment, through=9999)
        for token in ("A", "B"):
            a.does("create", token, **payment, amount=100)
        texts = [o.result["text"] for o in stage.history if o.f == "create" and o.result]
        wrong = "latest_text" in variant
        assert texts == (["PAY202610000"] * 2 if wrong else ["PAY202610000", "PAY202610001"])


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_each_type_of_document_has_its_own_series(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        told = []
        for n, (document_type, company, at) in enumerate(
            [
                ("invoice", "acme", AT),
                ("invoice", "acme", AT),
                ("invoice", "other", AT),
                ("bill", "acme", AT),
                ("credit_note", "acme", AT),
                ("journal_entry", "acme", AT),
                ("receipt", "acme", AT),
                ("payment", "acme", AT),
                ("payment", "acme", "2027-01-01T00:00:00+00:00"),
                ("sale", "acme", "2025-11-22T10:00:00+00:00"),
                ("sale", "acme", "2025-11-23T10:00:00+00:00"),
            ]
        ):
            where = {"company": company, "document_type": document_type, "branch": "Bambang", "at": at}
            done = a.does("create", f"t{n}", **where, amount=100)
            assert done.result is not None
            told.append(done.result["text"])
    assert told == [
        "INV-00001",
        "INV-00002",
        "INV-00001",
        "BILL-00001",
        "CN-00001",
        "JE-00001",
        "RECEIPT-00001",
        "PAY20260001",
        "PAY20270001",
        "InvBambang11_22_2025_0001",
        "InvBambang11_23_2025_0001",
    ]


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 0},
        {"amount": -1},
        {"amount": 10.5},
        {"amount": "100"},
        {"amount": True},
        {"amount": 10**20},
        {"company": ""},
        {"company": None},
        {"document_type": "Robert'); DROP TABLE documents;--"},
        {"at": "yesterday"},
        {"at": "2026-01-01T00:00:00"},
        {"currency": "EUR"},
        {"discount_bp": 20_000},
        {"amuont": 1},
    ],
    ids=str,
)
def test_bad_input_is_refused_and_changes_nothing(database: Database, variant: str, wrong: dict[str, Any]) -> None:
    with play(variant, database) as stage:
        done = stage.actor().does("create", "A", **{**WHERE, "amount": 100, **wrong})
        assert done.failure is not None
        assert (done.outcome, done.failure.refusal) == (Outcome.FAIL, True)
        assert stage.books().table("documents").is_empty()


@pytest.mark.parametrize("variant", ["pg.counter_row", "mongo.counter_document"])
def test_a_void_number_keeps_its_place_and_its_reason(database: Database, variant: str) -> None:
    with play(variant, database) as stage:
        a = stage.actor()
        create(a, "A")
        assert a.does("void", "V", **WHERE, text="INV-00001", reason="spoiled").outcome is Outcome.OK
        again = a.does("void", "W", **WHERE, text="INV-00001", reason="spoiled")
        assert again.failure is not None
        assert again.failure.code == "not_issued"
        create(a, "B")
        documents = stage.books().table("documents").sort("number").select("number", "status", "reason").rows()
        assert documents == [(1, "void", "spoiled"), (2, "issued", None)]
        assert stage.findings("N-VOID", "N-UNIQ", "N-EXPLAINED") == []
