"""The service does what its variant does: each operation is a POST, each "no" a problem, each token counts once."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import urllib3

from harness.stores import Database, Store
from reference_impl.service import SERVICE
from reference_impl.service.schemas import ARGUMENTS, REQUIRED, names_of
from reference_impl.variants import VARIANTS
from tests.reference_impl.service.running import Running, served

INVOICE = {"company": "A", "amount": 12_500}
PAYMENT = {"subject": "p1", "account": "s3", "term": "s3/1", "amount": 100_000}


@pytest.fixture(scope="module", params=["pg.counter_row", "mongo.counter_document"])
def numbering(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A service that numbers documents."""
    yield from _service(request)


@pytest.fixture(scope="module", params=["pg.approve_in_one_transaction", "mongo.approve_in_transaction"])
def payments(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A service for term payments, with one account whose first term is to be paid."""
    yield from _service(request)


def _service(request: pytest.FixtureRequest) -> Iterator[Running]:
    kind = {"pg": "postgres_store", "mongo": "mongo_store"}[request.param.partition(".")[0]]
    store: Store = request.getfixturevalue(kind)
    database = store.create_database()
    with served(request.param, database) as service:
        yield service
    store.drop_database(database)


def test_documents_of_two_series_are_numbered_each_from_one(numbering: Running) -> None:
    texts = [numbering.post("create", {"company": c, "amount": 1}).body["text"] for c in ("one", "one", "two")]

    assert texts == ["INV-00001", "INV-00002", "INV-00001"]


def test_clients_at_once_get_numbers_without_gap_or_repetition(numbering: Running) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: numbering.post("create", {"company": "busy", "amount": 1}), range(48)))

    assert {answer.status for answer in answers} == {200}
    assert sorted(answer.body["number"] for answer in answers) == list(range(1, 49))


def test_a_request_sent_again_with_its_key_has_its_effect_once(numbering: Running) -> None:
    asked = {"company": "again", "amount": 5}

    first, second = (numbering.post("create", asked, key="the-same-intent") for _ in range(2))
    other = numbering.post("create", {**asked, "amount": 6}, key="the-same-intent")

    assert (first.body["text"], second.body["text"]) == ("INV-00001", "INV-00001")
    assert other.code == (422, "key_reused")


def test_a_document_is_voided_with_its_reason_and_keeps_its_number(numbering: Running) -> None:
    numbering.post("create", {"company": "voids", "amount": 5})

    voided = numbering.post("void", {"company": "voids", "text": "INV-00001", "reason": "wrong customer"})
    unknown = numbering.post("void", {"company": "voids", "text": "INV-00009", "reason": "wrong customer"})

    assert voided.status == 200
    assert unknown.status in (404, 409)
    assert numbering.post("create", {"company": "voids", "amount": 5}).body["text"] == "INV-00002"


def test_a_cleanup_that_names_no_document_is_told_so(numbering: Running) -> None:
    applied = numbering.post("cleanup", {"company": "acme4", "apply": True})

    assert (applied.status, applied.body["detail"]) == (422, "document is missing.")
    assert numbering.post("cleanup", {"company": "acme4"}).body["duplicates"] == []


def test_a_payment_goes_through_its_life(payments: Running) -> None:
    assert payments.post("open_account", {"subject": "s3", "assessment": 1_554_000}).status == 200
    first = payments.post("submit", PAYMENT)
    again = payments.post("submit", {**PAYMENT, "subject": "p2"})
    larger = payments.post("submit", {**PAYMENT, "subject": "p3", "term": "s3/2", "amount": 300_000})
    approved = payments.post("approve", {"subject": "p1"})
    twice = payments.post("approve", {"subject": "p1"})
    account = payments.post("account", {"subject": "s3"})

    assert (first.status, first.body["status"]) == (200, "awaiting_approval")
    assert again.code == (409, "already_awaiting_approval")
    assert again.body["detail"] == (
        "A payment for this term is already awaiting accounting approval. "
        "Please wait for approval to complete before submitting another payment."
    )
    assert larger.code == (409, "exceeds_available_balance")
    assert larger.body["detail"] == (
        "Payment amount exceeds available balance. Available: ₱2,775.45, Pending approval: ₱1,000.00."
    )
    assert larger.body["figures"] == {"available": 277_545, "pending": 100_000}
    assert (approved.status, twice.code) == (200, (409, "not_awaiting_approval"))
    assert [term["balance"] for term in account.body["terms"]] == [555_011, 277_545, 277_544, 231_235, 112_665]


def test_another_request_under_a_used_key_is_refused(payments: Running) -> None:
    opened = {"subject": "keyed", "assessment": 10_000}

    first, again = (payments.post("open_account", opened, key="k1") for _ in range(2))
    other = payments.post("open_account", {**opened, "assessment": 20_000}, key="k1")

    assert (first.status, again.status, again.body["replayed"]) == (200, 200, True)
    assert other.code == (422, "key_reused")


def test_of_two_submissions_at_once_one_is_refused(payments: Running) -> None:
    payments.post("open_account", {"subject": "race", "assessment": 1_554_000})
    asked = [{"subject": f"race-p{n}", "term": "race/1", "amount": 100} for n in range(8)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda a: payments.post("submit", a), asked))

    assert sorted(answer.status for answer in answers) == [200] + [409] * 7
    assert {answer.body["code"] for answer in answers if answer.status == 409} == {"already_awaiting_approval"}


def test_a_problem_is_told_as_the_standard_says(payments: Running) -> None:
    refused = payments.post("approve", {"subject": "nobody's"})

    assert (refused.status, refused.kind) == (404, "application/problem+json")
    assert refused.body == {
        "type": "urn:racegate:problem:unknown_payment",
        "title": "Not Found",
        "status": 404,
        "detail": 'There is no payment "nobody\'s".',
        "code": "unknown_payment",
        "figures": {},
    }


KIND = "Content-Type"
JSON = (KIND, "application/json")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([JSON], 200),
        ([(KIND, 'Application/JSON ; Charset="UTF-8"')], 200),
        ([(KIND, "application/json; profile=x"), ("Content-Encoding", "identity")], 200),
        ([], 415),
        ([JSON, (KIND, "text/plain")], 415),
        ([JSON, JSON], 415),
        ([(KIND, "application/json, text/plain")], 415),
        ([(KIND, "application/json; charset=utf-16")], 415),
        ([(KIND, "application/json; charset=utf-8; charset=utf-16")], 415),
        ([JSON, ("Content-Encoding", "gzip")], 415),
        ([JSON, ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")], 415),
    ],
)
def test_a_body_is_read_only_if_its_headers_say_plain_json_once(
    numbering: Running, headers: list[tuple[str, str]], status: int
) -> None:
    key = ("Idempotency-Key", secrets.token_hex(8))

    assert numbering.send_headers("create", b'{"company": "kinds", "amount": 1}', [key, *headers]) == status


def test_a_client_that_hangs_up_while_it_sends_is_no_fault_of_the_service(
    postgres_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with served("pg.approve_in_one_transaction", postgres_database, connections=1) as service:
        host, port = service.url.rpartition("/")[2].split(":")
        for path in ("submit", "accounts/s1"):
            with socket.create_connection((host, int(port))) as line:
                line.sendall(f"POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
                assert service.get("health").status == 200  # by then the service reads the body
        assert service.get("health").status == 200

    assert [record.getMessage() for record in caplog.records if record.name == "racegate.service"] == []


def test_health_tells_whether_the_store_answers(numbering: Running) -> None:
    assert numbering.get("health").body["status"] == "ok"
    assert urllib3.request("HEAD", f"{numbering.url}/health", retries=False).status == 200


def cut(database: Database) -> None:
    """End every session of a database but this one's own."""
    with psycopg.connect(database.url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_pool_whose_connections_were_cut_recovers(postgres_store: Store) -> None:
    database = postgres_store.create_database()
    with served("pg.counter_row", database, connections=2) as service:
        cut(database)
        statuses = [service.post("create", INVOICE, key="one-intent").status for _ in range(4)]
        text = service.post("create", INVOICE, key="one-intent").body["text"]
    postgres_store.drop_database(database)

    assert set(statuses) <= {200, 503, 504}
    assert (statuses[-1], text) == (200, "INV-00001")


def test_what_is_left_of_a_block_serves_the_next_requests_and_is_accounted_for_when_the_line_is_lost(
    postgres_database: Database,
) -> None:
    with served("pg.block_allocation", postgres_database, connections=1) as service:
        numbers = [service.post("create", INVOICE).body["number"] for _ in range(25)]
        cut(postgres_database)
        answers = [service.post("create", INVOICE, key="one-intent") for _ in range(3)]  # the first one meets the cut line
    with psycopg.connect(postgres_database.url) as connection:
        unused = [number for (number,) in connection.execute("SELECT number FROM unused_numbers ORDER BY number")]

    assert numbers == list(range(1, 26))
    assert (answers[-1].status, answers[-1].body["number"]) == (200, 41)
    assert set(range(1, 61)) - set(unused) == {*numbers, 41}


def test_a_block_is_used_up_before_another_connection_takes_one(postgres_database: Database) -> None:
    with served("pg.block_allocation", postgres_database, connections=4) as service:
        assert [service.post("create", INVOICE).body["number"] for _ in range(25)] == list(range(1, 26))


def test_a_service_that_is_started_again_goes_on_where_it_was(postgres_database: Database) -> None:
    texts = []
    for _ in range(2):
        with served("pg.counter_row", postgres_database) as service:
            texts.append(service.post("create", INVOICE).body["text"])

    assert texts == ["INV-00001", "INV-00002"]


def test_every_operation_of_every_variant_is_described_by_its_arguments() -> None:
    SERVICE.names()
    operations = {operation for variant in VARIANTS.values() for operation in variant.operations}

    assert {name for operation in operations for name in names_of(operation)} <= set(ARGUMENTS)
    assert all(set(REQUIRED.get(operation, ())) <= set(names_of(operation)) for operation in operations)
