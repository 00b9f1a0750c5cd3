"""A store is asked for in one word, with settings after commas."""

from __future__ import annotations

import pytest

from harness.model import UsageError
from harness.stores import StoreKind, StoreOptions, open_store
from harness.stores.spec import StoreSpec, parse_spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("embedded", StoreSpec(place="embedded")),
        ("container", StoreSpec(place="container")),
        ("container:host:5000/mongo:7", StoreSpec(place="container", image="host:5000/mongo:7")),
        ("container:mongo:7,nodes=3", StoreSpec(place="container", image="mongo:7", nodes=3)),
        ("embedded,nodes=3,fsync=on", StoreSpec(place="embedded", nodes=3, fsync=True)),
        ("mongodb://a,b,c/x?replicaSet=r", StoreSpec(place="mongodb://a,b,c/x?replicaSet=r")),
    ],
)
def test_what_is_asked_for_is_read(text: str, expected: StoreSpec) -> None:
    assert parse_spec(StoreKind.MONGO, text) == expected


@pytest.mark.parametrize("text", ["embeded", "embedded:image", "docker", ""])
def test_what_is_no_store_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a store; expected embedded, container, container:IMAGE, or a URL"):
        parse_spec(StoreKind.MONGO, text)


@pytest.mark.parametrize("text", ["embedded,nodes=2", "embedded,node=3", "embedded,fsync=yes"])
def test_a_setting_that_makes_no_sense_is_refused_with_those_that_do(text: str) -> None:
    with pytest.raises(UsageError, match="is no setting of a store.*there are: nodes=3, fsync=on"):
        parse_spec(StoreKind.MONGO, text)


def test_only_mongodb_has_several_nodes() -> None:
    with pytest.raises(UsageError, match="no setting of a store"):
        parse_spec(StoreKind.POSTGRES, "embedded,nodes=3")
    with pytest.raises(UsageError, match="only MongoDB has replica sets"):
        open_store(StoreKind.POSTGRES, "embedded", StoreOptions(nodes=3))


def test_what_a_run_needs_is_added_to_what_was_asked_for() -> None:
    asked = parse_spec(StoreKind.MONGO, "embedded,fsync=off").applied(StoreOptions(nodes=3, fsync=True))
    assert (asked.nodes, asked.fsync) == (3, True)
