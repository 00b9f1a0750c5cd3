"""Sales on MongoDB step by step: each way to get them wrong, its correct twin, and what a sale leaves behind."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pymongo
import pytest

from harness.config.policy import load_policy
from harness.invariants import judge
from harness.model import Fault, Outcome
from harness.stores import Database
from reference_impl.base.mongo import open_client
from tests.reference_impl.stepping import Actor, Play, play

RIGHT = "mongo.take_from_stock"
JUDGES = ("S-STOCK", "N-UNIQ", "N-GAPLESS", "N-DOC1", "N-DURABLE", "P-ONCE", "A-MATCH", "L-RETRY")
AT = "2025-11-22T10:00:00+00:00"


def shop(stage: Play, pieces: int = 1) -> Actor:
    """Two items in stock."""
    actor = stage.actor()
    actor.does("stock_item", "s", subject="i", quantity=pieces, price=8_000)
    actor.does("stock_item", "s2", subject="j", quantity=100, price=8_000)
    return actor


def sale(item: str = "i", **more: Any) -> dict[str, Any]:
    """The arguments of a sale."""
    return {"branch": "Bambang", "item": item, "quantity": 1, "price": 8_000, "at": AT, **more}


def verdict(stage: Play) -> set[str]:
    """Return the invariants that have something to say, gaps not being allowed."""
    judgement = judge(stage.history, stage.books(), load_policy("gapless"), JUDGES)
    return {f.invariant for f in judgement.findings}


@pytest.mark.parametrize(
    ("variant", "settings", "spoke"),
    [
        ("mongo.read_then_sell", {}, {"S-STOCK"}),
        ("mongo.read_then_sell", {"transaction": True}, set()),
        (RIGHT, {}, set()),
        (RIGHT, {"unique_index": True}, set()),
    ],
)
def test_the_last_piece_is_sold_once(mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]) -> None:
    with play(variant, mongo_database, **settings) as stage:
        shop(stage)
        a, b = stage.actor(), stage.actor()
        a.begins("sell", "A", until="stock_taken" if variant == RIGHT else "stock_read", **sale())
        b.begins("sell", "B", **sale())
        a.ends()
        b.ends()
        assert verdict(stage) == spoke


@pytest.mark.parametrize(("second", "code"), [({}, None), ({"item": "j"}, "key_reused")])
def test_a_second_click_gets_the_first_ones_invoice(mongo_database: Database, second: dict[str, Any], code: str | None) -> None:
    with play(RIGHT, mongo_database) as stage:
        shop(stage, pieces=5)
        a, b = stage.actor(), stage.actor()
        a.begins("sell", "k", until="number_taken", **sale())
        b.begins("sell", "k", **sale(**second))
        first, again = a.ends(), b.ends()
        assert first.result is not None, first.failure
        assert (again.failure.code if again.failure else None) == code
        assert again.result is None or again.result["text"] == first.result["text"]
        assert verdict(stage) == set()


def test_a_sale_is_found_by_its_token_without_looking_at_all_of_them(mongo_database: Database) -> None:
    with play(RIGHT, mongo_database) as stage:
        a = shop(stage, pieces=50)
        for n in range(20):
            a.does("sell", f"k{n}", **sale())
        with pymongo.MongoClient[Any](mongo_database.url) as client:
            sales = client.get_default_database().sales
            looked_at = sales.find({"token": "k3"}).explain()["executionStats"]["totalDocsExamined"]
            assert looked_at == 1
            assert sales.index_information()["token_1"]["unique"]


def test_what_was_sold_tells_whose_it_is_and_the_audit_log_when(mongo_database: Database) -> None:
    with play(RIGHT, mongo_database) as stage:
        a = shop(stage)
        a.does("stock_item", "s3", subject="k", quantity=5, price=8_000, company="other")
        a.does("sell", "ours", **sale())
        a.does("sell", "theirs", **sale("k", company="other"))
        with open_client(mongo_database.url, connections=1) as client:
            database = client.get_default_database()
            assert {s["token"]: s["company"] for s in database.sales.find()} == {"ours": "main", "theirs": "other"}
            assert [e["at"] for e in database.audit.find({"action": "sell"})] == [datetime.fromisoformat(AT)] * 2


def test_the_outbox_is_emptied_and_every_event_arrives_once(mongo_database: Database) -> None:
    with play(RIGHT, mongo_database) as stage:
        a = shop(stage, pieces=5)
        a.does("sell", "k", **sale())
        first = a.does("deliver", "d1", most=2).result
        assert first is not None
        assert (first["delivered"], first["left"]) == (2, 1)
        stage.actor().does("deliver", "d2", Fault(kind="kill", point="published"))
        last = stage.actor().does("deliver", "d3")
        assert last.outcome is Outcome.OK, last.failure
        assert last.result is not None
        assert (last.result["delivered"], last.result["left"]) == (1, 0)
        books = stage.books()
        assert sorted(books.table("deliveries")["event"]) == sorted(books.table("audit")["id"])
        assert not stage.findings("P-ONCE", "A-MATCH", "A-DELIVER")
