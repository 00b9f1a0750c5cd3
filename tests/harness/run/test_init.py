"""A configuration is proposed from what is there: it loads, it reads the books, and it says what it could not guess."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pymongo
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.config.service import load_service, parse_service
from harness.model import UsageError
from harness.run.openapi import read_openapi
from harness.run.proposal import guess_format, propose
from harness.stores import Database

SHOP = """
    CREATE TABLE invoices (id serial PRIMARY KEY, company_id int, invoice_number text, status text, created_at timestamptz,
                           total_amount numeric(12, 2), idempotency_key text);
    INSERT INTO invoices (company_id, invoice_number) SELECT 1, 'INV-' || lpad(n::text, 5, '0') FROM generate_series(1, 12) n;
    CREATE TABLE invoice_counters (company_id int, last_number bigint);
    INSERT INTO invoice_counters VALUES (1, 12);
    CREATE TABLE "Order" (id text, "totalAmount" bigint, "advancePaid" bigint, "balanceAmount" bigint, status text);
    CREATE TABLE "PaymentInstallment" (id text, "orderId" text, "installmentNumber" int, "paidAmount" bigint);
    CREATE TABLE users (id int, name text);
"""

API = {
    "openapi": "3.1.0",
    "servers": [{"url": "http://127.0.0.1:4000/api"}],
    "paths": {
        "/companies/{companyId}/invoices": {
            "parameters": [{"name": "companyId", "in": "path"}],
            "post": {
                "parameters": [{"name": "Idempotency-Key", "in": "header"}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/New"}}}},
                "responses": {
                    "201": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Made"}}}},
                    "409": {},
                    "429": {},
                },
            },
        },
        "/payments/{id}/approve": {"post": {"parameters": [{"name": "id", "in": "path"}], "responses": {"200": {}}}},
        "/health": {"get": {}},
    },
    "components": {
        "schemas": {
            "New": {"required": ["amount", "kind"], "properties": {"amount": {"type": "integer"}, "kind": {"enum": ["a", "b"]}}},
            "Made": {"properties": {"invoice": {"properties": {"number": {"type": "integer"}, "printedNo": {"type": "string"}}}}},
        }
    },
}


def test_a_shop_and_its_api_make_a_configuration_that_loads_and_audits(
    postgres_database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute(SHOP)
    (tmp_path / "api.json").write_text(json.dumps(API))
    out = tmp_path / "racegate.toml"
    words = ["--postgres", postgres_database.url, "--openapi", str(tmp_path / "api.json"), "--out", str(out)]

    assert main(["init", *words]) == 0

    config = load_service(out)
    assert set(config.books) == {"documents", "counters", "orders", "installments"}
    assert isinstance(config.policy, dict)
    assert config.policy["format"] == "INV-{00000}"
    create = config.operations["create"]
    assert create.path == "/companies/{company}/invoices"
    assert create.headers == {"Idempotency-Key": "{token}"}
    assert create.body == {"amount": "{amount}", "kind": "a"}
    assert (create.refused, create.retryable) == ((409,), (429,))
    assert create.answer == {"number": "invoice.number", "text": "invoice.printedNo"}
    assert config.operations["approve"].path == "/payments/{subject}/approve"
    assert config.target is not None
    assert config.target.url == "http://127.0.0.1:4000/api"
    said = capsys.readouterr().err
    assert "could not guess what to send as kind: operations.create.body" in said
    assert "could not guess whether invoices.total_amount (numeric) is in major units" in said
    assert "could not guess which tables hold payments, terms, refunds" in said
    assert main(["audit", "--postgres", postgres_database.url, "--config", str(out)]) == 0
    assert main(["init", *words]) == 2, "a file that is there is not replaced"


@pytest.mark.parametrize(
    ("route", "name", "path"),
    [
        ("/orders/{id}/cancel", "cancel_order", "/orders/{subject}/cancel"),
        ("/orders/{id}/refunds", "refund_order", "/orders/{subject}/refunds"),
        ("/payments/{id}/cancel", "cancel", "/payments/{subject}/cancel"),
        ("/sales/{number}/void", "void_sale", "/sales/{text}/void"),
        ("/sales/{id}/void", "void_sale", "/sales/{text}/void"),
        ("/companies/{companyId}/invoices", "create", "/companies/{company}/invoices"),
        ("/invoices/{id}/void", "void", "/invoices/{subject}/void"),
    ],
)
def test_a_verb_means_what_it_does_to_the_thing_in_its_path(tmp_path: Path, route: str, name: str, path: str) -> None:
    parameter = {"name": re.findall("{(.*)}", route)[0], "in": "path"}
    document = {"openapi": "3.1.0", "paths": {route: {"post": {"parameters": [parameter], "responses": {"200": {}}}}}}
    (tmp_path / "api.json").write_text(json.dumps(document))
    ((found,), _) = read_openapi(tmp_path / "api.json")
    assert (found.name, found.path) == (name, path)


def test_collections_are_proposed_as_pipelines_that_run(mongo_database: Database, tmp_path: Path) -> None:
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(mongo_database.url)
    with client:
        client[mongo_database.name].payments.insert_many(
            {"paymentNumber": f"PAY2026{n:04d}", "user": "u", "amount": 12.5, "status": "paid"} for n in range(1, 8)
        )
        client[mongo_database.name].invoices.insert_many({"invoiceNo": n, "company": "acme"} for n in range(1, 8))
    out = tmp_path / "racegate.toml"

    assert main(["init", "--mongo", mongo_database.url, "--out", str(out)]) == 0

    assert set(load_service(out).books) == {"documents", "payments"}
    assert main(["audit", "--mongo", mongo_database.url, "--config", str(out)]) == 0


def test_without_anything_it_proposes_an_example_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--out", "-"]) == 0
    captured = capsys.readouterr()
    assert parse_service(captured.out, Path("racegate.toml")).operations.keys() == {"create"}
    assert "could not guess where the service is" in captured.err


@pytest.mark.parametrize(
    ("texts", "template"),
    [
        (["INV-00001", "INV-00012"], "INV-{00000}"),
        (["PAY20260001", "PAY20260002"], "PAY{yyyy}{0000}"),
        (["INV-2025-007", "INV-2026-001"], "INV-{yyyy}-{000}"),
        (["7", "8", "12"], "{0}"),
        (["A1B2", "C9"], None),
        ([], None),
        (["free text"], None),
    ],
)
def test_the_format_of_printed_numbers_is_guessed(texts: list[str], template: str | None) -> None:
    assert guess_format(texts) == template


names = st.text(min_size=1, max_size=12) | st.sampled_from(
    ["invoices", "Invoice No", "payments", "id", "number", "status", "amount"]
)


@given(
    st.dictionaries(names, st.dictionaries(names, st.sampled_from(["bigint", "text", "numeric", "date"]), max_size=6), max_size=4)
)
def test_whatever_the_tables_are_called_the_proposal_loads(tables: dict[str, dict[str, str]]) -> None:
    for mongo in (False, True):
        proposal = propose(tables, lambda table, column: ["X1", "X2"], [], url=None, mongo=mongo)
        parse_service("\n".join(proposal.lines), Path("racegate.toml"))


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*"abc", "post", "$ref", "properties"]), inner),
    max_leaves=8,
)


@given(paths=st.dictionaries(st.sampled_from(["/invoices", "/a/{x}/approve", "/"]), documents), servers=documents)
def test_no_document_makes_a_traceback(paths: Any, servers: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "api.json"
    path.write_text(json.dumps({"paths": paths, "servers": servers}))
    operations, url = read_openapi(path)
    proposal = propose({}, lambda table, column: [], operations, url=url, mongo=False)
    parse_service("\n".join(proposal.lines), Path("racegate.toml"))


@pytest.mark.parametrize("spec", ["embedded", "container,nodes=3", "container:mongo:8"])
def test_a_database_that_would_be_empty_is_refused(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--mongo", spec, "--out", "-"]) == 2
    assert f"--mongo {spec} would be an empty database; init reads one that has tables: give its URL" in capsys.readouterr().err


def test_what_is_no_openapi_document_is_refused(tmp_path: Path) -> None:
    for content in ("[]", "{}", "a: [", "\x00"):
        path = tmp_path / "api"
        path.write_text(content)
        with pytest.raises(UsageError, match=r"--openapi"):
            read_openapi(path)
