"""The stores of a run: each kind opened when first needed, all closed together."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from harness.model.errors import UsageError
from harness.stores import StoreOptions, open_store
from harness.stores.base import Store, StoreKind


class Stores:
    """Opens servers on demand and stops them at the end. Use it as a context manager.

    Args:
        specs: how each kind is obtained: ``embedded``, ``container`` or a URL.
        options: what every store is opened with.
    """

    def __init__(self, specs: dict[StoreKind, str], options: StoreOptions) -> None:
        self._specs = specs
        self._options = options
        self._open: dict[StoreKind, Store] = {}
        self._opening = threading.Lock()

    def get(self, kind: str) -> Store:
        """Return the store of this kind, starting it if need be."""
        try:
            wanted = StoreKind(kind)
        except ValueError:
            raise UsageError(f"no store is of the kind {kind!r}; there are postgres and mongo") from None
        with self._opening:
            if wanted not in self._open:
                self._open[wanted] = open_store(wanted, self._specs.get(wanted, "embedded"), self._options)
            return self._open[wanted]

    def close(self) -> None:
        """Close every store that was opened."""
        while self._open:
            _, store = self._open.popitem()
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
