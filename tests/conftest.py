"""Real servers, shared by a test session; each test gets a database of its own."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from harness.stores import Database, Store, StoreKind, StoreOptions, open_store

# No clock decides a property test, and CI tries the same examples for the same commit.
settings.register_profile("racegate", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("racegate")


def pytest_collection_finish() -> None:
    """Take thousands of collected tests out of the garbage collector's way, here and in processes that tests fork."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def passage() -> Iterator[Path]:
    """A temporary folder that other users, as servers are, can pass through, with room behind its path for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="racegate-test-", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_store() -> Iterator[Store]:
    """An embedded PostgreSQL server for this worker's session."""
    store = open_store(StoreKind.POSTGRES, "embedded", StoreOptions(connections=100))
    yield store
    store.close()


@pytest.fixture(scope="session")
def mongo_store() -> Iterator[Store]:
    """An embedded MongoDB replica set for this worker's session."""
    store = open_store(StoreKind.MONGO, "embedded", StoreOptions(connections=100))
    yield store
    store.close()


@pytest.fixture
def postgres_database(postgres_store: Store) -> Iterator[Database]:
    """A fresh PostgreSQL database."""
    database = postgres_store.create_database()
    yield database
    postgres_store.drop_database(database)


@pytest.fixture
def mongo_database(mongo_store: Store) -> Iterator[Database]:
    """A fresh MongoDB database."""
    database = mongo_store.create_database()
    yield database
    mongo_store.drop_database(database)
