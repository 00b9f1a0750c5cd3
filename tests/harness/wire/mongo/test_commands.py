from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from harness.wire.base import StepKind
from harness.wire.mongo.commands import SHOWN_LENGTH, fingerprint_of, kind_of, parameters_of, text_of

OWN = {"lsid": {"id": b"1"}, "$db": "shop", "$clusterTime": {"t": 1}, "txnNumber": 4, "comment": "x"}


@pytest.mark.parametrize(
    ("command", "text", "fingerprint", "parameters"),
    [
        (
            {"find": "t", "filter": {"_id": {"$in": [1, 2, 3]}}, **OWN},
            "find t filter: {_id: {$in: [1, 2, 3]}}",
            "find t filter: {_id: {$in: [?]}}",
            (1, 2, 3),
        ),
        (
            {"update": "t", "ordered": True, "updates": [{"q": {"_id": "a"}, "u": {"$inc": {"n": 1}}, "upsert": True}]},
            "update t updates: [{q: {_id: 'a'}, u: {$inc: {n: 1}}, upsert: true}]",
            "update t updates: [{q: {_id: ?}, u: {$inc: {n: ?}}, upsert: ?}]",
            ("a", 1, True),
        ),
        (
            {"insert": "t", "ordered": False, "documents": [{"a": None, "b": b"xy", "c": dt.datetime(2026, 11, 20)}]},
            "insert t ordered: false documents: [{a: null, b: <2 bytes>, c: 2026-11-20T00:00:00}]",
            "insert t ordered: false documents: ?",
            (None, b"xy", dt.datetime(2026, 11, 20)),
        ),
        ({"commitTransaction": 1, "autocommit": False, **OWN}, "commitTransaction", "commitTransaction", ()),
        ({"getMore": 77, "collection": "t", "batchSize": 5}, "getMore t batchSize: 5", "getMore t batchSize: ?", ("t", 5)),
    ],
)
def test_a_command_is_shown_with_its_values_and_known_by_its_shape(
    command: dict[str, Any], text: str, fingerprint: str, parameters: tuple[Any, ...]
) -> None:
    name = next(iter(command))
    assert text_of(name, command) == text
    assert fingerprint_of(name, command) == fingerprint
    assert parameters_of(name, command) == parameters


def test_a_long_command_is_cut_for_showing_and_not_for_knowing_it() -> None:
    command = {"find": "t", "filter": {f"field {i}": i for i in range(200)}}
    assert len(text_of("find", command)) == SHOWN_LENGTH
    assert len(fingerprint_of("find", command)) > SHOWN_LENGTH


def test_an_aggregation_that_writes_is_a_write() -> None:
    assert kind_of("aggregate", {"aggregate": "t", "pipeline": [{"$match": {}}]}) is StepKind.READ
    assert kind_of("aggregate", {"aggregate": "t", "pipeline": [{"$match": {}}, {"$out": "u"}]}) is StepKind.WRITE
    assert kind_of("aggregate", {"aggregate": "t", "pipeline": "odd"}) is StepKind.READ
    assert kind_of("createIndexes", {}) is StepKind.OTHER


def test_documents_nested_beyond_reason_are_cut() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = {"a": deep}
    for show in (text_of, fingerprint_of, parameters_of):
        show("find", {"find": "t", "filter": deep})
