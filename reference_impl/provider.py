"""The reference as seen from outside: variants by name, each a target with settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

from reference_impl.variants import VARIANTS, Variant

BUSINESSES = (
    "reference_impl.numbering.variants",
    "reference_impl.numbering.durability",
    "reference_impl.payments.variants",
    "reference_impl.orders.variants",
    "reference_impl.sales.variants",
)
"""Modules that register variants when they are imported."""

DRIVERS = ("sqlalchemy.dialects.postgresql.psycopg", "psycopg", "pymongo")


@dataclass(frozen=True, kw_only=True)
class BooksQuery:
    """How one canonical table of the books is read."""

    table: str
    sql: str | None = None
    collection: str | None = None
    pipeline: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class ReferenceTarget:
    """A variant with its settings. A plain value: it can be sent to other processes."""

    variant: str
    settings: Mapping[str, Any]
    preload: ClassVar[tuple[str, ...]] = (*BUSINESSES, *DRIVERS)
    """What the clients' processes need not import one by one."""

    @property
    def name(self) -> str:
        """As the user writes it."""
        return f"reference:{self.variant}"

    @property
    def store(self) -> str:
        """The kind of store that it works on."""
        return self._variant.store

    @property
    def operations(self) -> frozenset[str]:
        """What it can be asked to do."""
        return self._variant.operations

    @property
    def _variant(self) -> Variant:
        _load()
        return VARIANTS[self.variant]

    def install(self, database: Any) -> None:
        """Make the tables, indexes and sequences in an empty database."""
        self._variant.implementation.install(database.url, self.settings)

    def connect(self, database: Any, client: int) -> Any:
        """Open one client's connection."""
        return self._variant.implementation.connect(database.url, self.settings)

    def books(self) -> list[BooksQuery]:
        """Return how each canonical table is read."""
        found = self._variant.implementation.books(self.settings)
        return [
            BooksQuery(table=table, sql=query)
            if isinstance(query, str)
            else BooksQuery(table=table, collection=query[0], pipeline=query[1])
            for table, query in found.items()
        ]


class Provider:
    """All variants of the reference."""

    def names(self) -> list[str]:
        """Return the variants' names."""
        _load()
        return list(VARIANTS)

    def settings(self, variant: str) -> Mapping[str, Any]:
        """Return the variant's settings."""
        _load()
        return VARIANTS[variant].settings

    def describe(self, variant: str) -> str:
        """Return one sentence on how it works."""
        _load()
        return VARIANTS[variant].summary

    def target(self, variant: str, settings: Mapping[str, Any]) -> ReferenceTarget:
        """Return the variant with these settings; the others keep their defaults."""
        declared = self.settings(variant)
        return ReferenceTarget(
            variant=variant, settings={name: settings.get(name, knob.default) for name, knob in declared.items()}
        )


def _load() -> None:
    for module in BUSINESSES:
        import_module(module)


PROVIDER = Provider()
