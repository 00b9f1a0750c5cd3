"""What tests of the reference need when one node is not enough."""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.stores import Database, StoreKind, StoreOptions, open_store


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Three nodes of MongoDB, whose replication can be held and whose primary can be killed."""
    store = open_store(StoreKind.MONGO, "embedded,nodes=3", StoreOptions(connections=20))
    yield store
    store.close()


@pytest.fixture
def replicated_database(nodes: Any) -> Iterator[Database]:
    """A fresh database on three nodes."""
    database: Database = nodes.create_database()
    yield database
    nodes.recover()
    nodes.drop_database(database)
