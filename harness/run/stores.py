"""The stores of a run: each kind opened when first needed, all closed together."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.model.errors import UsageError
from harness.model.scenario import StoreNeeds
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
        self._own: list[Store] = []
        self._opening = threading.Lock()

    def get(self, kind: str, *, logs: Path | None = None) -> Store:
        """Return the store of this kind, starting it if need be. If it fails its logs are kept in ``logs``."""
        wanted = _kind(kind)
        with self._opening:
            if wanted not in self._open:
                options = replace(self._options, folder=logs or self._options.folder)
                self._open[wanted] = open_store(wanted, self._specs.get(wanted, "embedded"), options)
            return self._open[wanted]

    def get_own(self, kind: str, needs: StoreNeeds, *, logs: Path | None = None) -> Store:
        """Start a store that no other run shares, because its servers will be hurt. Give it back with `give_back`.

        Raises:
            UsageError: it is somebody's own server, at a URL, which is not ours to hurt.
        """
        wanted = _kind(kind)
        spec = self._specs.get(wanted, "embedded")
        if "://" in spec:
            raise UsageError(f"servers are hurt on purpose only if racegate started them; use --{wanted} embedded or container")
        options = replace(
            self._options,
            folder=logs or self._options.folder,
            nodes=max(needs.nodes, self._options.nodes),
            fsync=needs.fsync or self._options.fsync,
        )
        store = open_store(wanted, spec, options)
        self._own.append(store)
        return store

    def give_back(self, store: Store) -> None:
        """Close a store that `get_own` started; leave a shared one open for the next run."""
        if store in self._own:
            self._own.remove(store)
            store.close()

    def close(self) -> None:
        """Close every store that was opened."""
        while self._own:
            self._own.pop().close()
        while self._open:
            _, store = self._open.popitem()
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _kind(kind: str) -> StoreKind:
    try:
        return StoreKind(kind)
    except ValueError:
        raise UsageError(f"no store is of the kind {kind!r}; there are postgres and mongo") from None
