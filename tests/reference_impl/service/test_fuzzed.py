"""Requests made up from the OpenAPI document: whatever is sent, no answer is a 500, and each is one that the document names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis.checks
import schemathesis.openapi
import urllib3
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from harness.stores import Store
from tests.reference_impl.service.running import Running, served

EXAMPLES = 5
"""Requests for each operation, valid ones and as many invalid ones."""

EXPECTED = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
REJECTED = [*EXPECTED, checks.negative_data_rejection]
VARIANTS = [
    "pg.counter_row",
    "pg.approve_in_one_transaction",
    "pg.balance_from_one_row",
    "pg.sell_in_one_transaction",
    "mongo.counter_document",
    "mongo.approve_in_transaction",
    "mongo.number_from_order",
    "mongo.take_from_stock",
]


@pytest.fixture(scope="module", params=VARIANTS)
def service(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A service of each business."""
    store: Store = request.getfixturevalue({"pg": "postgres_store", "mongo": "mongo_store"}[request.param.split(".")[0]])
    database = store.create_database()
    with served(request.param, database, connections=2) as running:
        yield running
    store.drop_database(database)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_from_the_document_is_answered_with_500(service: Running, mode: GenerationMode) -> None:
    document = urllib3.request("GET", f"{service.url}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=service.url)
    looked_at, seen = [], set()
    for found in schema.get_all_operations():
        operation = found.ok()
        looked_at.append(operation.label)
        if mode is GenerationMode.NEGATIVE and operation.label == "GET /health":
            continue  # it takes nothing that could be wrong

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def probe(case: Any) -> None:
            if mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "through" in case.body:
                case.body["through"] = 1 + case.body["through"] % 50  # millions of documents would only take their time
            answer = case.call_and_validate(checks=EXPECTED if mode is GenerationMode.POSITIVE else REJECTED)
            seen.add(answer.status_code)

        probe()

    assert len(looked_at) == sum(len(methods) for methods in document["paths"].values())
    assert 200 in seen or mode is GenerationMode.NEGATIVE, "valid requests are carried out"
    assert seen & {400, 404, 409, 422}
