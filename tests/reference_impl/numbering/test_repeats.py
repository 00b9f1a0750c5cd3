"""What MongoDB is sent again: told once more, on whatever shard it is, and not before the first answer would be true."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from harness.model import Operation, Outcome
from harness.stores import Database
from tests.reference_impl.stepping import Actor, Play, play

WHERE = {"company": "acme", "document_type": "invoice", "branch": "Main", "at": "2026-12-31T12:00:00+00:00"}
SHARDED = "mongo.optimistic_insert_on_shards"


def done(operation: Operation) -> dict[str, Any]:
    assert operation.outcome is Outcome.OK, operation.failure
    return dict(operation.result or {})


def create(actor: Actor, token: str, amount: int = 100) -> Operation:
    return actor.does("create", token, **WHERE, amount=amount)


def numbers(stage: Play) -> list[int]:
    return list(stage.books().table("documents").sort("number")["number"])


def spoken(stage: Play, *judges: str) -> set[str]:
    return {f.invariant for f in stage.findings(*judges)}


# Two shards


@pytest.mark.parametrize("amount", [100, 101])
def test_a_create_that_is_sent_again_is_told_once_more_on_either_shard(mongo_database: Database, amount: int) -> None:
    with play(SHARDED, mongo_database) as stage:
        a = stage.actor()
        first = done(create(a, "A", amount))
        again = done(create(a, "A", amount))
        assert (again["document"], again["number"], again["replayed"]) == (first["document"], 1, True)
        for other in (amount + 1, amount + 2):
            failure = create(a, "A", other).failure
            assert failure is not None
            assert failure.code == "key_reused"
        assert numbers(stage) == [1]
        assert spoken(stage, "P-ONCE", "P-KEYMATCH") == set()


def test_a_create_that_is_sent_twice_at_once_to_two_shards_makes_one_document(mongo_database: Database) -> None:
    with play(SHARDED, mongo_database) as stage:
        a, b = stage.actor(), stage.actor()
        a.begins("create", "A", until="before_commit", **WHERE, amount=100)
        b.begins("create", "A", **WHERE, amount=101)
        assert b.waits
        assert a.ends().outcome is Outcome.OK
        failure = b.ends().failure
        assert failure is not None
        assert failure.code == "key_reused"
        assert numbers(stage) == [1]


def test_a_number_whose_document_is_gone_from_a_shard_is_passed_over(mongo_database: Database) -> None:
    with play(SHARDED, mongo_database) as stage:
        a = stage.actor()
        for token in "ABC":
            create(a, token)
        a.connection.database.documents_2.delete_many({"number": {"$gte": 2}})
        answer = done(create(a, "D"))
        assert (answer["number"], answer["attempts"]) == (4, 3)
        assert numbers(stage) == [1, 4]


def test_what_goes_by_one_shard_is_not_offered_on_two(mongo_database: Database) -> None:
    with play(SHARDED, mongo_database) as stage:
        a = stage.actor()
        create(a, "A")
        for f, more in (
            ("void", {"text": "INV-00001", "reason": "spoiled"}),
            ("delete", {"text": "INV-00001"}),
            ("import_document", {"amount": 100, "number": 1}),
            ("introduce", {}),
            ("cleanup", {}),
        ):
            assert f not in stage.target.operations
            failure = a.does(f, f, **WHERE, **more).failure
            assert failure is not None
            assert failure.code == "unknown_operation"
        failure = a.does("seed", "S", **WHERE, through=3).failure
        assert failure is not None
        assert failure.code == "series_begun"
        assert numbers(stage) == [1]


# A token whose document is there no more


@pytest.mark.parametrize("variant", ["mongo.counter_document", "mongo.optimistic_insert"])
def test_a_create_whose_tokens_document_has_just_gone_is_carried_out(
    mongo_database: Database, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with play(variant, mongo_database) as stage:
        a, b = stage.actor(), stage.actor()
        create(b, "A")
        really = a.connection.recall

        def recall(*asked: Any) -> Any:  # between the index that says no and the look at what it means
            b.does("delete", "D", **WHERE, text="INV-00001")
            return really(*asked)

        monkeypatch.setattr(a.connection, "recall", recall)
        answer = done(create(a, "A"))
        assert "replayed" not in answer
        assert numbers(stage) == [answer["number"]]


# Three nodes


JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "create": ("mongo.counter_in_transaction", {"amount": 100}),
    "void": ("mongo.counter_document", {"text": "INV-00001", "reason": "spoiled"}),
    "cleanup": ("mongo.counter_document", {"apply": True, "text": "INV-00007"}),
}


@pytest.mark.parametrize("f", JOBS)
def test_what_is_sent_again_is_not_acknowledged_before_a_majority_has_it(
    nodes: Any, replicated_database: Database, f: str
) -> None:
    variant, more = JOBS[f]
    with play(variant, replicated_database) as stage:
        a, b = stage.actor(), stage.actor()
        create(a, "before")
        old = [done(a.does("import_document", f"old{n}", **WHERE, amount=100, number=7))["document"] for n in range(2)]
        done(b.does("introduce", "warm", **WHERE))
        asked = {**WHERE, **more, **({"document": old[1]} if f == "cleanup" else {})}

        nodes.hold_replication()
        answered = [in_background(actor, f, asked) for actor in (a, b)]
        assert not any(event.wait(1.5) for event in answered)
        nodes.release_replication()
        assert all(event.wait(30) for event in answered)

        assert sorted("replayed" in done(actor.last) for actor in (a, b) if actor.last) == [False, True]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "void": ({"text": "INV-00001", "reason": "spoiled"}, "not_issued"),
    "delete": ({"text": "INV-00001"}, "not_issued"),
    "import_document": ({"amount": 100, "number": 7}, "number_taken"),
    "seed": ({"through": 3, "document_type": "bill"}, "series_begun"),
}


@pytest.mark.parametrize("f", REFUSED)
def test_nobody_is_refused_for_what_no_majority_has_yet(nodes: Any, replicated_database: Database, f: str) -> None:
    more, code = REFUSED[f]
    with play("mongo.counter_document", replicated_database, unique_index=True) as stage:
        a, b = stage.actor(), stage.actor()
        create(a, "before")
        done(b.does("introduce", "warm", **WHERE))
        asked = {**WHERE, **more}

        nodes.hold_replication()
        answered = [in_background(actor, f, asked, token) for actor, token in ((a, "A"), (b, "B"))]
        assert not any(event.wait(1.5) for event in answered)
        nodes.release_replication()
        assert all(event.wait(30) for event in answered)

        done(next(actor.last for actor in (a, b) if actor.last and actor.last.outcome is Outcome.OK))
        [refused] = [actor.last.failure for actor in (a, b) if actor.last and actor.last.failure]
        assert (refused.refusal, refused.code) == (True, code)


def in_background(actor: Actor, f: str, asked: dict[str, Any], token: str = "K") -> threading.Event:
    """Send a request; the event says that it was answered. It is left some time to be carried out."""
    answered = threading.Event()

    def send() -> None:
        actor.does(f, token, **asked)
        answered.set()

    threading.Thread(target=send, daemon=True).start()
    answered.wait(0.5)
    return answered
