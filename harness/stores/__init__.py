"""A PostgreSQL or MongoDB server: embedded, container, or a URL."""

from harness.stores.base import Database, Store, StoreKind
from harness.stores.opening import open_store
from harness.stores.options import StoreOptions
from harness.stores.redaction import redact

__all__ = ["Database", "Store", "StoreKind", "StoreOptions", "open_store", "redact"]
