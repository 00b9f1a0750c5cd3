from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.stores import Database
from harness.stores.mongo import lasting_transactions
from harness.wire.base import WireProxy
from harness.wire.opening import open_proxy


@pytest.fixture
def postgres_proxy(postgres_database: Database) -> Iterator[WireProxy]:
    """A proxy in front of a fresh PostgreSQL database."""
    proxy = open_proxy("postgres", postgres_database.url)
    yield proxy
    proxy.close()


@pytest.fixture
def mongo_proxy(mongo_store: Any, mongo_database: Database) -> Iterator[WireProxy]:
    """A proxy in front of a fresh MongoDB database, whose transactions last while they are looked at."""
    with lasting_transactions(mongo_store.client):
        proxy = open_proxy("mongo", mongo_database.url)
        yield proxy
        proxy.close()
