"""Each way to get sales wrong, in its shortest interleaving, and the correct twin in the same one."""

from __future__ import annotations

import os
import socket
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from harness.config.policy import load_policy
from harness.invariants import judge
from harness.model import Fault, Outcome
from harness.stores import Database
from reference_impl.base.postgres import dialect_url
from reference_impl.base.refusal import Refused
from reference_impl.sales.postgres import SellInOneTransaction
from tests.reference_impl.payments.test_requests import AMOUNTS, TEXTS
from tests.reference_impl.stepping import Actor, Play, play

RIGHT = "pg.sell_in_one_transaction"
INDEX = {"unique_index": True, "stock_check": True}
RR = {"isolation": "repeatable_read"}
SERIALIZABLE = {"isolation": "serializable"}
JUDGES = ("S-STOCK", "S-CREDIT", "N-UNIQ", "N-GAPLESS", "N-DOC1", "N-DURABLE", "N-VOID", "P-ONCE", "A-MATCH", "L-RETRY")
AT = "2025-11-22T10:00:00+00:00"
PRINTED = "InvBambang11_22_2025_0001"

Case = tuple[str, dict[str, Any], set[str]]


def cases(*several: Case) -> Any:
    """Parametrise with the broken ones and the twins."""
    twins: list[Case] = [(RIGHT, s, set()) for s in ({}, INDEX, RR, SERIALIZABLE)]
    everything = [*several, *twins]
    names = [f"{v.removeprefix('pg.')}-{'-'.join(map(str, s.values())) or 'default'}" for v, s, _ in everything]
    return pytest.mark.parametrize(("variant", "settings", "spoke"), everything, ids=names)


def shop(stage: Play, pieces: int = 1) -> Actor:
    """One item in stock, and a customer with a limit of 100.00."""
    actor = stage.actor()
    actor.does("stock_item", "s", subject="i", quantity=pieces, price=8_000)
    actor.does("stock_item", "s2", subject="j", quantity=100, price=8_000)
    actor.does("add_customer", "c", subject="c", limit=10_000)
    return actor


def sale(branch: str = "Bambang", item: str = "i", **more: Any) -> dict[str, Any]:
    """The arguments of a sale."""
    return {"subject": item, "branch": branch, "item": item, "quantity": 1, "price": 8_000, "at": AT, **more}


def void(branch: str = "Bambang", **more: Any) -> dict[str, Any]:
    """The arguments that void the first sale of a branch."""
    return {"text": f"Inv{branch}11_22_2025_0001", "reason": "returned", "at": AT, **more}


def verdict(stage: Play) -> set[str]:
    """Return the invariants that have something to say, gaps not being allowed."""
    judgement = judge(stage.history, stage.books(), load_policy("gapless"), JUDGES)
    return {f.invariant for f in judgement.findings}


@cases(
    ("pg.read_then_sell", {}, {"S-STOCK"}),
    ("pg.read_then_sell", {"stock_check": True}, {"L-RETRY"}),
    ("pg.read_then_sell", RR, set()),
    ("pg.validate_before_transaction", {}, {"S-STOCK"}),
    ("pg.validate_before_transaction", {"stock_check": True}, {"L-RETRY"}),
)
def test_the_last_piece_is_sold_once(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        shop(stage)
        a, b = stage.actor(), stage.actor()
        a.begins("sell", "A", until="stock_taken" if variant == RIGHT else "stock_read", **sale())
        b.begins("sell", "B", **sale())
        a.ends()
        b.ends()
        assert verdict(stage) == spoke


@cases(
    ("pg.credit_by_sum", {}, {"S-CREDIT"}),
    ("pg.credit_by_sum", RR, {"S-CREDIT"}),
    ("pg.credit_by_sum", SERIALIZABLE, set()),
)
def test_two_branches_do_not_lend_beyond_the_limit(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        shop(stage)
        a, b = stage.actor(), stage.actor()
        a.begins("sell", "A", until="credit_taken" if variant == RIGHT else "credit_read", **sale(customer="c"))
        b.begins("sell", "B", **sale("Baguio", "j", customer="c"))
        a.ends()
        b.ends()
        assert verdict(stage) == spoke


@cases(
    ("pg.void_by_look", {}, {"S-STOCK", "S-CREDIT"}),
    ("pg.void_by_look", RR, set()),
)
def test_a_sale_that_is_voided_twice_at_once_goes_back_once(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        shop(stage, pieces=5).does("sell", "sold", **sale(customer="c"))
        a, b = stage.actor(), stage.actor()
        a.begins("void_sale", "A", until="sale_voided" if variant == RIGHT else "sale_read", **void())
        b.begins("void_sale", "B", **void())
        outcomes = [a.ends().outcome, b.ends().outcome]
        assert verdict(stage) == spoke
        assert (Outcome.FAIL in outcomes) == (not spoke)
        assert stage.books().table("stock").filter(item="i")["quantity"].to_list() == [6 if spoke else 5]
        assert stage.books().table("customers")["open_amount"].to_list() == [-8_000 if spoke else 0]


@cases(
    ("pg.void_writes_back", {}, {"S-STOCK"}),
    ("pg.void_writes_back", RR, set()),
)
def test_what_is_sold_while_a_sale_is_voided_stays_sold(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        shop(stage, pieces=5).does("sell", "sold", **sale())
        a, b = stage.actor(), stage.actor()
        a.begins("void_sale", "A", until="sale_voided" if variant == RIGHT else "stock_read", **void())
        b.does("sell", "B", **sale())
        a.ends()
        assert verdict(stage) == spoke


@cases(
    ("pg.void_writes_back", {}, {"S-CREDIT"}),
    ("pg.void_writes_back", RR, set()),
)
def test_what_two_voids_take_off_a_customers_debt_is_both(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        first = shop(stage)
        first.does("sell", "one", **sale(customer="c", discount_bp=5000, discount_permitted=True))
        first.does("sell", "two", **sale("Baguio", "j", customer="c", discount_bp=5000, discount_permitted=True))
        a, b = stage.actor(), stage.actor()
        a.begins("void_sale", "A", until="before_audit" if variant == RIGHT else "credit_read", **void())
        b.begins("void_sale", "B", **void("Baguio"))
        a.ends()
        b.ends()
        assert verdict(stage) == spoke


@pytest.mark.parametrize(
    ("variant", "spoke"), [(RIGHT, set()), ("pg.void_in_two_transactions", {"S-STOCK", "S-CREDIT", "N-VOID"})]
)
def test_a_void_that_is_cut_off_gives_back_what_it_took_or_leaves_the_sale_as_it_is(
    postgres_database: Database, variant: str, spoke: set[str]
) -> None:
    with play(variant, postgres_database) as stage:
        a = shop(stage)
        a.does("sell", "sold", **sale(customer="c"))
        a.does("sell", "another", **sale("Baguio", "j"))
        a.does("void_sale", "told", **void("Baguio"))  # the log tells of voids, so that it does not tell of one says something
        stage.actor().does("void_sale", "v", Fault(kind="vanish", point="sale_voided"), **void())
        assert verdict(stage) - {"L-RETRY"} == spoke
        again = a.does("void_sale", "v", **void())
        assert again.outcome is (Outcome.FAIL if spoke else Outcome.OK)
        assert verdict(stage) - {"L-RETRY"} == spoke


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
@pytest.mark.parametrize(
    ("before", "table", "asked", "meanwhile"),
    [
        (sale(), "items", ("sell", sale("Baguio")), ("void_sale", void())),
        (sale(item="j", customer="c"), "customers", ("sell", sale("Baguio", customer="c")), ("void_sale", void())),
        (None, "sales", ("void_sale", void()), ("sell", sale())),
    ],
    ids=["stock", "credit", "void"],
)
def test_what_another_client_makes_possible_is_not_refused_for_it(
    postgres_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    isolation: str,
    before: dict[str, Any] | None,
    table: str,
    asked: tuple[str, dict[str, Any]],
    meanwhile: tuple[str, dict[str, Any]],
) -> None:
    """The update finds nothing, then another client commits: what is read to explain the refusal would allow the request."""
    with play(RIGHT, postgres_database, isolation=isolation) as stage:
        b = shop(stage)
        if before is not None:
            assert b.does("sell", "before", **before).outcome is Outcome.OK
        a = stage.actor()
        run = a.connection.session._wire.run
        others: list[Any] = []

        def run_and_be_overtaken(sql: str, values: Any) -> Any:
            found = run(sql, values)
            if sql.strip().startswith(f"UPDATE {table}") and not found[1] and not others:
                others.append(b.does(meanwhile[0], "B", **meanwhile[1]))
            return found

        monkeypatch.setattr(a.connection.session._wire, "run", run_and_be_overtaken)
        done = a.does(asked[0], "A", **asked[1])
        assert [other.outcome for other in others] == [Outcome.OK]
        if before is None and isolation != "read_committed":  # A's snapshot is of the moment before: there was no such sale
            assert done.failure is not None
            assert done.failure.code == "unknown_sale"
        else:
            assert done.outcome is Outcome.OK, done.failure
            assert done.result is not None
            assert done.result["attempts"] == (1 if isolation == "read_committed" else 2)
        assert verdict(stage) == set()


def test_a_void_keeps_the_number_with_its_reason_and_is_answered_again(postgres_database: Database) -> None:
    with play(RIGHT, postgres_database, **INDEX) as stage:
        a = shop(stage)
        a.does("sell", "sold", **sale(customer="c"))
        first = a.does("void_sale", "v", **void()).result
        assert first == {"subject": PRINTED, "amount": 8_000, "status": "void", "attempts": 1}
        assert a.does("void_sale", "v", **void()).result == {**first, "replayed": True}
        assert a.does("void_sale", "v", **void(at="2025-11-24T10:00:00+00:00")).result == {**first, "replayed": True}
        refused = a.does("void_sale", "w", **void()).failure
        assert refused is not None
        assert (refused.code, refused.message) == ("sale_void", f"Sale {PRINTED} is void already.")
        sold_again = a.does("sell", "again", **sale(customer="c")).result
        assert sold_again is not None
        assert sold_again["number"] == 2
        documents = stage.books().table("documents").select("number", "status", "reason")
        assert sorted(documents.rows()) == [(1, "void", "returned"), (2, "issued", None)]
        report = a.does("gaps", "g", branch="Bambang", at=AT).result
        assert report is not None
        assert (report["issued"], report["missing"]) == (2, 0)
        assert verdict(stage) == set()


def test_a_key_that_was_forgotten_recalls_the_void_and_not_the_sale_that_it_made_before(postgres_database: Database) -> None:
    with play(RIGHT, postgres_database) as stage:
        a = shop(stage, pieces=5)
        a.does("sell", "k", **sale())
        a.does("sell", "other", **sale("Baguio"))
        first = a.does("void_sale", "k", **void("Baguio", at="2025-11-24T10:00:00+00:00")).result
        assert first is not None
        assert a.does("void_sale", "k", **void("Baguio", at="2025-11-26T10:00:00+00:00")).result == {**first, "replayed": True}


def test_a_number_that_several_sales_bear_is_not_voided(postgres_database: Database) -> None:
    with play("pg.document_then_counter", postgres_database) as stage:
        shop(stage, pieces=5)
        a, b = stage.actor(), stage.actor()
        a.begins("sell", "A", until="document_committed", **sale())
        b.does("sell", "B", **sale())
        a.ends()
        refused = b.does("void_sale", "v", **void()).failure
        assert refused is not None
        assert (refused.code, refused.message) == (
            "number_borne_twice",
            f"Several sales bear '{PRINTED}': which of them is meant?",
        )
        assert set(stage.books().table("documents")["status"]) == {"issued"}


@cases(
    ("pg.number_before_validation", {}, {"N-GAPLESS"}),
)
@pytest.mark.parametrize("how", ["refused", "cut off"])
def test_a_sale_that_fails_gives_its_number_back(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str], how: str
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a = shop(stage, pieces=5)
        a.does("sell", "one", **sale())
        if how == "refused":
            assert stage.actor().does("sell", "two", **sale(price=7_999)).outcome is Outcome.FAIL
        else:
            stage.actor().does("sell", "two", Fault(kind="vanish", point="number_taken"), **sale())
        assert a.does("sell", "three", **sale()).outcome is Outcome.OK
        assert verdict(stage) - {"L-RETRY"} == spoke


@cases(
    ("pg.document_then_counter", {}, {"N-UNIQ"}),
    ("pg.document_then_counter", {"unique_index": True}, {"L-RETRY"}),
)
def test_a_crash_after_the_sale_does_not_issue_its_number_again(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a = shop(stage, pieces=5)
        cut = Fault(kind="vanish", point="before_commit" if variant == RIGHT else "document_committed")
        stage.actor().does("sell", "one", cut, **sale())
        a.does("sell", "two", **sale())
        found = verdict(stage)
        assert found - {"L-RETRY"} == spoke - {"L-RETRY"}
        assert any(o.outcome is Outcome.FAIL for o in stage.history) == ("L-RETRY" in spoke)


@pytest.mark.parametrize("pieces", [1, 5])
def test_the_second_click_gets_the_first_ones_invoice(postgres_database: Database, pieces: int) -> None:
    with play(RIGHT, postgres_database) as stage:
        shop(stage, pieces=pieces)
        a, b = stage.actor(), stage.actor()
        a.begins("sell", "click", until="number_taken", **sale())
        b.begins("sell", "click", **sale())
        first, second = a.ends().result, b.ends().result
        assert first is not None
        assert second is not None
        assert (first["text"], second["text"], second["replayed"]) == ("InvBambang11_22_2025_0001",) * 2 + (True,)
        late = a.does("sell", "click", **sale(at="2025-11-23T10:01:00+00:00")).result
        assert late is not None
        assert (late["text"], late["replayed"]) == (first["text"], True)
        assert stage.books().table("documents").height == 1
        assert verdict(stage) == set()


def test_the_gap_monitor_counts_explains_and_judges(postgres_database: Database) -> None:
    with play("pg.number_before_validation", postgres_database) as stage:
        a = shop(stage, pieces=50)
        for n in range(1, 8):  # the requirement document's day: 1, 2, 3, 4, 7
            a.does("sell", f"t{n}", **sale(price=1 if n in (5, 6) else 8_000))
        report = a.does("gaps", "g", branch="Bambang", at=AT).result
        assert report is not None
        assert report["numbers"] == [5, 6]
        assert (report["issued"], report["missing"], report["highest"], report["failed_attempts"]) == (5, 2, 7, 2)
        assert report["reasons"] == {"price_mismatch": 2}
        assert report["judgement"] == "investigate"
        empty = a.does("gaps", "g2", branch="Baguio", at=AT).result
        assert empty is not None
        assert (empty["missing"], empty["judgement"]) == (0, "normal")


def test_the_gap_monitor_tells_why_sales_failed_most_often_first(postgres_database: Database) -> None:
    with play(RIGHT, postgres_database) as stage:
        a = shop(stage)
        for n, wrong in enumerate([{"price": 1}, {"quantity": 5}, {"item": "nothing"}, {"quantity": 3}]):
            a.does("sell", f"t{n}", **sale(**wrong))
        report = a.does("gaps", "g", branch="Bambang", at=AT).result
        assert report is not None
        assert list(report["reasons"].items()) == [("insufficient_stock", 2), ("price_mismatch", 1), ("unknown_item", 1)]
        assert report["failed_attempts"] == 4


def test_the_gap_monitor_sees_what_was_lost_at_the_end_of_a_day(postgres_database: Database) -> None:
    with play("pg.number_before_validation", postgres_database) as stage:
        a = shop(stage, pieces=50)
        for n in range(1, 9):
            a.does("sell", f"t{n}", **sale(price=8_000 if n <= 3 else 1))
        report = a.does("gaps", "g", branch="Bambang", at=AT).result
        assert report is not None
        assert (report["issued"], report["highest"], report["numbers"]) == (3, 8, [4, 5, 6, 7, 8])
        assert (report["missing"], report["failed_attempts"], report["judgement"]) == (5, 5, "investigate")


def test_the_gap_monitor_takes_no_number_of_another_company_at_the_branch_for_missing(postgres_database: Database) -> None:
    with play(RIGHT, postgres_database) as stage:
        a = shop(stage, pieces=5)
        a.does("stock_item", "k", subject="k", quantity=5, price=8_000, company="other")
        for n in range(3):
            a.does("sell", f"ours{n}", **sale())
            a.does("sell", f"theirs{n}", **sale(item="k", company="other"))
        report = a.does("gaps", "g", branch="Bambang", at=AT).result
        assert report is not None
        assert (report["highest"], report["missing"], report["judgement"]) == (6, 0, "normal")


def test_a_refusal_is_told_even_if_the_attempt_cannot_be_logged(postgres_database: Database) -> None:
    with play(RIGHT, postgres_database) as stage:
        a = shop(stage)
        with psycopg.connect(postgres_database.url) as connection:
            connection.execute("DROP TABLE attempts")
        refused = a.does("sell", "t", **sale(quantity=2))
        assert refused.failure is not None
        assert refused.failure.code == "insufficient_stock"


def test_a_refusal_is_told_even_if_the_pool_has_no_second_connection_to_log_it(postgres_database: Database) -> None:
    with play(RIGHT, postgres_database) as stage:
        shop(stage)
    url = dialect_url(postgres_database.url)
    engine = sa.create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.01)
    settings = {"isolation": "read_committed", "work_ms": 0}
    connection = SellInOneTransaction.connect(engine, settings)
    try:
        with pytest.raises(Refused, match="Insufficient stock"):
            connection.call("sell", sale(quantity=2), "t", lambda point: None)
    finally:
        connection.close()
        engine.dispose()


def test_a_sale_of_which_nobody_heard_the_end_is_not_counted_as_failed(postgres_database: Database) -> None:
    with play(RIGHT, postgres_database) as stage:
        a = shop(stage)
        b = stage.actor()
        b.begins("sell", "t", until="before_commit", **sale())
        line = socket.socket(fileno=os.dup(b.connection.session._drivers()[0].fileno()))
        line.shutdown(socket.SHUT_RDWR)
        line.close()
        assert b.ends().outcome is Outcome.INFO
        report = a.does("gaps", "g", branch="Bambang", at=AT).result
        assert report is not None
        assert report["failed_attempts"] == 0
        with psycopg.connect(postgres_database.url) as connection:
            assert connection.execute("SELECT token, reason FROM attempts").fetchall() == [("t", "unknown")]


GOOD: dict[str, dict[str, Any]] = {
    "stock_item": {"subject": "k", "quantity": 5, "price": 100},
    "add_customer": {"subject": "d", "limit": 100},
    "sell": sale(),
    "void_sale": {"text": PRINTED, "reason": "returned"},
    "gaps": {"branch": "Bambang"},
    "deliver": {"most": 5},
}


def bad() -> list[tuple[str, dict[str, Any]]]:
    """Return operations with one thing wrong each."""
    counts = [-1, 0, 1.5, "1", True, None, 10**12, [1]]
    wrong: list[tuple[str, dict[str, Any]]] = []
    for f, good in GOOD.items():
        for name in good:
            values: list[Any] = {
                "price": AMOUNTS,
                "limit": [v for v in AMOUNTS if v != 0 or isinstance(v, bool)],
                "quantity": counts,
                "most": [v for v in counts if v is not None],
                "at": ["soon", 5, "2026-11-20T10:00:00", "1492-10-12T00:00:00Z"],
            }.get(name, TEXTS)
            if name == "subject" and f == "sell":
                values = [v for v in TEXTS if v is not None]
            wrong += [(f, {**good, name: value}) for value in values]
        wrong += [(f, {**good, "amuont": 1}), (f, {**good, "currency": "EUR"})]
    wrong += [
        ("sell", sale(quantity=2)),
        ("sell", sale(price=7_999)),
        ("sell", sale(discount_bp=1001)),
        ("sell", sale(discount_bp=10_001, discount_permitted=True)),
        ("sell", sale(discount_bp=-1)),
        ("sell", sale(item="nothing")),
        ("sell", sale(customer="nobody")),
        ("sell", sale(customer=5)),
        ("sell", sale(item="j", quantity=2, customer="c")),
        ("sell", sale(company="another")),
        ("sell", sale(branch="two words")),
        ("sell", sale(document_type="invoice")),
        ("stock_item", {"subject": "i", "quantity": 5, "price": 100}),
        ("void_sale", void(text="InvBambang11_22_2025_0002")),
        ("void_sale", void(company="another")),
        ("void_sale", void("old")),
        ("take_stock", {}),
    ]
    return wrong


def test_every_bad_request_is_refused_and_changes_nothing(postgres_database: Database) -> None:
    with play(RIGHT, postgres_database) as stage:
        a = shop(stage)
        a.does("sell", "old", **sale("old", item="j"))
        a.does("void_sale", "void", **void("old"))
        before = {name: frame.rows() for name, frame in stage.books().tables.items()}
        for n, (f, arguments) in enumerate(bad()):
            with pytest.raises(Refused):
                a.connection.call(f, arguments, f"bad-{n}", lambda point: None)
        assert {name: frame.rows() for name, frame in stage.books().tables.items()} == before
        assert {a.does(f, f"good-{f}", **arguments).outcome for f, arguments in GOOD.items()} == {Outcome.OK}
