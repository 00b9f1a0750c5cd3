"""What makes no sense is refused by every operation with a typed problem, and changes nothing in the books."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from harness.stores import Store
from reference_impl.service.body import KEY
from reference_impl.service.schemas import ARGUMENTS, REQUIRED
from reference_impl.variants import VARIANTS
from tests.reference_impl.service.running import Answer, Running, served

OURS = {"company": "main"}
PAYMENTS = {
    "open_account": {"subject": "s9", "assessment": 1_554_000},
    "submit": {"subject": "p9", "term": "s1/2", "amount": 100},
    "approve": {"subject": "waiting"},
    "reject": {"subject": "waiting"},
    "cancel": {"subject": "waiting"},
    "refund": {"subject": "paid", "amount": 100},
    "webhook": {"subject": "waiting", "event": "e9"},
    "account": {"subject": "s1"},
    "history": {"subject": "s1"},
    "deliver": {"most": 5},
}
NUMBERING = {
    "create": {"company": "main", "amount": 100},
    "post": {"company": "main", "documents": ["invoice", "journal_entry"], "amount": 100},
    "seed": {"company": "other", "through": 5, "counter": True},
    "import_document": {"company": "main", "amount": 100, "number": 7},
    "introduce": {"company": "main"},
    "void": {"company": "main", "text": "INV-00001", "reason": "a mistake"},
    "delete": {"company": "main", "text": "INV-00001"},
    "cleanup": {"company": "main", "apply": True, "text": "INV-00001", "document": "1"},
}
ON_MONGO = {operation: arguments for operation, arguments in NUMBERING.items() if operation != "post"}
RESERVING = {
    "reserve": {"company": "main", "amount": 100},
    "confirm": {"company": "main", "text": "INV-00001"},
    "release": {"company": "main", "text": "INV-00001", "reason": "a mistake"},
    "sweep": {"company": "main"},
}
ORDERS = {
    "open_order": {"subject": "o9", "total": 1000, "advance": 100},
    "pay_installment": {"subject": "o1", "amount": 10},
    "discount": {"subject": "o1", "amount": 10},
    "refund_order": {"subject": "o1", "amount": 10},
    "cancel_order": {"subject": "o1"},
    "order": {"subject": "o1"},
    "import_order": {"subject": "o8", "total": 1000, "advance": 10, "discount": 5, "twice": True},
    "migrate": {"most": 5},
    "repair": {"subject": "o1"},
    "verify": {"company": "main"},
}
SALES = {
    "stock_item": {"subject": "i9", "quantity": 5, "price": 100},
    "add_customer": {"subject": "c9", "limit": 1000},
    "sell": {"branch": "Main", "item": "i1", "quantity": 1, "price": 100},
    "void_sale": {"text": "InvMain11_22_2025_0001", "reason": "returned"},
    "gaps": {"branch": "Main"},
    "deliver": {"most": 5},
}
BEGINNING: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "approve_in_one_transaction": [
        ("open_account", {"subject": "s1", "assessment": 1_554_000}),
        ("submit", {"subject": "waiting", "term": "s1/1", "amount": 100}),
        ("submit", {"subject": "paid", "term": "s1/3", "amount": 1000}),
        ("approve", {"subject": "paid"}),
    ],
    "counter_row": [("create", {"company": "main", "amount": 100})],
    "balance_from_one_row": [("open_order", {"subject": "o1", "total": 1000, "advance": 100})],
    "sell_in_one_transaction": [("stock_item", {"subject": "i1", "quantity": 5, "price": 100})],
}
BEGINNING["approve_in_transaction"] = BEGINNING["approve_in_one_transaction"]
BEGINNING["reserved_number"] = BEGINNING["counter_row"]
BEGINNING["number_from_order"] = BEGINNING["balance_from_one_row"]
BEGINNING["take_from_stock"] = BEGINNING["sell_in_one_transaction"]
BEGINNING["counter_document"] = BEGINNING["counter_row"]

VALID: dict[str, dict[str, dict[str, Any]]] = {
    "pg.approve_in_one_transaction": PAYMENTS,
    "mongo.approve_in_transaction": PAYMENTS,
    "pg.reserved_number": {**NUMBERING, **RESERVING},
    "mongo.counter_document": ON_MONGO,
    "mongo.number_from_order": {name: ORDERS[name] for name in ("open_order", "pay_installment")},
    "mongo.take_from_stock": {name: SALES[name] for name in ("stock_item", "sell", "deliver")},
    "pg.balance_from_one_row": ORDERS,
    "pg.sell_in_one_transaction": SALES,
}
NO_COUNT = (-1, -(10**30), 10**30, 10**14, 0.5, 100.5, 1e300, "100", "", None, True, [100], {"amount": 100})
NO_TEXT = ("", "   ", 5, 1.5, True, ["x"], {"x": 1}, "x" * 201, "null\0byte", "line\nbreak", "\ud800")
NO_SWITCH = (0, 1, "true", "", None, [], {})
NO_LIST = (None, "invoice", 5, [], {}, [5], [None], [["invoice"]], ["Not a Type"], ["invoice", "invoice"], ["invoice"] * 6)


def wrong_values(name: str) -> Iterator[Any]:
    """Yield what an argument must not be, by what the OpenAPI document says of it."""
    schema = ARGUMENTS[name]
    match schema["type"]:
        case "integer":
            yield from NO_COUNT
            if schema["minimum"] > 0:
                yield 0
        case "boolean":
            yield from NO_SWITCH
        case "array":
            yield from NO_LIST
        case kind:
            yield from NO_TEXT
            if "null" not in kind:
                yield None


def bad_bodies(operation: str, valid: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield a sentence and a body for each way of spoiling a valid request."""
    for name in valid:
        for value in wrong_values(name):
            yield f"{name} is {str(value)[:30]!r}", json.dumps({**valid, name: value}).encode()
        if name in REQUIRED.get(operation, ()):
            yield f"{name} is missing", json.dumps({n: v for n, v in valid.items() if n != name}).encode()
    for name, value in [
        ("currency", "USD"),
        ("currency", None),
        ("currency", ["PHP"]),
        ("company", 5),
        ("company", ""),
        ("at", "yesterday"),
        ("at", "2026-01-01T00:00:00"),
        ("at", "1999-01-01T00:00:00Z"),
        ("at", "2026-01-01T00:00:00+20:00"),
        ("at", "2026-01-01T00:00:00+00:00:30"),
        ("at", "2026-11-20\ud80010:00:00+00:00"),
        ("at", "2026-11-20😀10:00:00+00:00"),
        ("at", 5),
        ("amuont", 5),
        ("__class__", "x"),
    ]:
        yield f"{name} is {value!r}", json.dumps({**valid, name: value}).encode()
    first, *_ = valid
    whole = json.dumps(valid)
    yield "a name twice", (whole[:-1] + f", {json.dumps(first)}: {json.dumps(valid[first])}}}").encode()
    yield "a name twice, deep down", (whole[:-1] + ', "x": {"y": 1, "y": 2}}').encode()
    yield "10 MB", json.dumps({**valid, first: "x" * 10_000_000}).encode()
    yield "10 MB of white space", whole.encode() + b" " * 10_000_000
    yield "not a number", (whole[:-1] + ', "amount": NaN}').encode()
    yield "5,000 digits", (whole[:-1] + ', "x": ' + "9" * 5000 + "}").encode()
    yield "deeply nested", (whole[:-1] + ', "x": ' + "[" * 20_000 + "]" * 20_000 + "}").encode()
    yield "nested", (whole[:-1] + ', "x": ' + "[" * 300 + "]" * 300 + "}").encode()
    yield "a list", b"[" + whole.encode() + b"]"
    for text in ("", "null", "5", '"x"', "{", "{]}", whole + whole, "amount=5", "{'amount': 5}"):
        yield f"the body {text[:12]!r}", text.encode()
    yield "not UTF-8", whole.encode("utf-16")
    yield "half a character", b'{"company": "\xff"}'


@pytest.fixture(scope="module", params=list(VALID))
def spoiled(request: pytest.FixtureRequest) -> Iterator[tuple[Running, dict[str, dict[str, Any]]]]:
    """A service with something in its books, and valid requests to it."""
    with ExitStack() as stack:
        store: Store = request.getfixturevalue({"pg": "postgres_store", "mongo": "mongo_store"}[request.param.split(".")[0]])
        database = store.create_database()
        service = stack.enter_context(served(request.param, database))
        for operation, arguments in BEGINNING[request.param.partition(".")[2]]:
            assert service.post(operation, arguments).status == 200
        yield service, VALID[request.param]
    store.drop_database(database)


def refused(answer: Answer) -> bool:
    """Tell whether the answer is a typed refusal."""
    return answer.kind == "application/problem+json" and 400 <= answer.status < 500 and answer.body["status"] == answer.status


def test_bad_input_is_refused_and_changes_nothing(spoiled: tuple[Running, dict[str, dict[str, Any]]]) -> None:
    service, valid = spoiled
    before = service.everything()
    assert set(valid) == VARIANTS[service.variant].operations, "every operation is tried"
    wrong = []
    for operation, arguments in valid.items():
        for told, body in bad_bodies(operation, arguments):
            answer = service.send(operation, body, {KEY: secrets.token_hex(8)})
            if not refused(answer):
                wrong.append(f"{operation} with {told}: {answer.status} {str(answer.body)[:80]}")

    assert wrong == []
    assert service.everything() == before


def test_a_request_without_a_proper_key_or_type_is_refused(spoiled: tuple[Running, dict[str, dict[str, Any]]]) -> None:
    service, valid = spoiled
    before = service.everything()
    seen = set()
    for operation, arguments in valid.items():
        body = json.dumps(arguments).encode()
        for headers in ({KEY: ""}, {KEY: "x" * 201}, {KEY: "a b"}, {KEY: "ä"}, {KEY: "k", "Content-Type": "text/plain"}):
            answer = service.send(operation, body, headers)
            assert refused(answer), (operation, headers)
            seen.add(answer.code)
        seen.add(service.send(operation, body, {KEY: "k"}, method="GET").code)

    assert seen == {(400, "invalid_key"), (415, "not_json"), (405, "method_not_allowed")}
    assert service.everything() == before


OWN = frozenset(
    {"create", "post", "seed", "import_document", "introduce", "reserve", "sweep", "open_account", "open_order", "import_order"}
    | {"migrate", "verify", "stock_item", "add_customer", "gaps", "deliver"}
)
"""Operations that make something of the company's own, tell what it has, or belong to no company."""


def books(service: Running) -> dict[str, list[str]]:
    """Return everything but the log of attempts, which tells of refused ones too."""
    return {table: rows for table, rows in service.everything().items() if table != "attempts"}


def test_what_belongs_to_another_company_cannot_be_seen_or_touched(spoiled: tuple[Running, dict[str, dict[str, Any]]]) -> None:
    service, valid = spoiled
    asked = [(operation, arguments) for operation, arguments in valid.items() if operation not in OWN]
    if "import_document" in valid:  # a branch's own series has no company in its scope
        sale = {"company": "main", "document_type": "sale", "at": "2026-11-20T12:00:00+00:00"}
        made = service.post("create", {**sale, "amount": 100}).body
        asked += [(operation, {**arguments, **sale, "text": made["text"]}) for operation, arguments in asked]
    before = books(service)
    for operation, arguments in asked:
        answer = service.post(operation, {**arguments, "company": "another"})
        assert refused(answer), operation
        assert answer.status in (404, 409), operation

    assert books(service) == before


def test_a_path_that_is_not_there_is_named_and_a_method_only_where_it_is_at_fault(
    spoiled: tuple[Running, dict[str, dict[str, Any]]],
) -> None:
    service, valid = spoiled
    operation, elsewhere = min(valid), "each operation is a POST to a path of its own, see /openapi.json."

    for method, path, detail in (
        ("GET", "", f"There is nothing at /; {elsewhere}"),
        ("POST", "invoices", f"There is nothing at /invoices; {elsewhere}"),
        (
            "POST",
            "x" * 300,
            f"There is nothing at /{'x' * 199}...; {elsewhere}",
        ),
        ("GET", operation, f"/{operation} takes POST, and this was GET; see /openapi.json."),
        ("POST", "health", "/health takes GET, and this was POST; see /openapi.json."),
    ):
        answer = service.send(path, b"{}", {KEY: "k"}, method=method)
        assert (answer.status, answer.body["detail"]) == (405 if "takes" in detail else 404, detail)
