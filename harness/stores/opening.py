"""Opens a store by its specification: ``embedded``, ``container``, or a URL."""

from __future__ import annotations

from harness.model.errors import UsageError
from harness.stores.base import Store, StoreKind
from harness.stores.images import candidates
from harness.stores.options import StoreOptions
from harness.stores.spec import parse_spec


def open_store(kind: StoreKind, spec: str, options: StoreOptions) -> Store:
    """Start or connect to a store.

    Args:
        kind: PostgreSQL or MongoDB.
        spec: ``embedded``, ``container``, ``container:IMAGE``, or a URL: see `harness.stores.spec`.
        options: see `StoreOptions`.

    Raises:
        UsageError: the specification is none of these.
        EnvironmentProblem: the server is not there or could not be started; says what to install or do.
    """
    asked = parse_spec(kind, spec)
    chosen = asked.applied(options)
    if chosen.nodes > 1 and kind is StoreKind.POSTGRES:
        raise UsageError("only MongoDB has replica sets here; a PostgreSQL store is one server")
    if asked.place == "embedded":
        return _embedded(kind, chosen)
    if asked.place == "container":
        return _container(kind, chosen, candidates(kind, asked.image))
    from harness.stores.url import UrlMongo, UrlPostgres  # noqa: PLC0415

    return UrlPostgres(spec, chosen) if kind is StoreKind.POSTGRES else UrlMongo(spec, chosen)


def _embedded(kind: StoreKind, options: StoreOptions) -> Store:
    if kind is StoreKind.POSTGRES:
        from harness.stores.embedded_postgres import EmbeddedPostgres  # noqa: PLC0415

        return EmbeddedPostgres(options)
    if options.nodes > 1:
        from harness.stores.embedded_nodes import embedded_replica_set  # noqa: PLC0415

        return embedded_replica_set(options)
    from harness.stores.embedded_mongo import EmbeddedMongo  # noqa: PLC0415

    return EmbeddedMongo(options)


def _container(kind: StoreKind, options: StoreOptions, images: list[str]) -> Store:
    if kind is StoreKind.POSTGRES:
        from harness.stores.container_postgres import ContainerPostgres  # noqa: PLC0415

        return ContainerPostgres(options, images)
    if options.nodes > 1:
        from harness.stores.container_nodes import container_replica_set  # noqa: PLC0415

        return container_replica_set(options, images)
    from harness.stores.container_mongo import ContainerMongo  # noqa: PLC0415

    return ContainerMongo(options, images)
