"""Opens a store as the user named it."""

from __future__ import annotations

from harness.model.errors import UsageError
from harness.stores.base import Store, StoreKind
from harness.stores.images import candidates, is_container
from harness.stores.options import StoreOptions


def open_store(kind: StoreKind, spec: str, options: StoreOptions) -> Store:
    """Return a running store of this kind.

    Args:
        kind: PostgreSQL or MongoDB.
        spec: ``embedded``, ``container``, ``container:IMAGE``, or a URL.
        options: see `StoreOptions`.

    Raises:
        UsageError: the spec is none of these, or a URL that may not be written to.
        EnvironmentProblem: the server does not start or cannot be reached.
    """
    # Each way of obtaining a server brings drivers of its own; only the one that is used is imported.
    if spec == "embedded":
        if kind is StoreKind.POSTGRES:
            from harness.stores.embedded_postgres import EmbeddedPostgres  # noqa: PLC0415

            return EmbeddedPostgres(options)
        from harness.stores.embedded_mongo import EmbeddedMongo  # noqa: PLC0415

        return EmbeddedMongo(options)
    if is_container(spec):
        images = candidates(kind, spec, options)
        if kind is StoreKind.POSTGRES:
            from harness.stores.container_postgres import ContainerPostgres  # noqa: PLC0415

            return ContainerPostgres(options, images)
        from harness.stores.container_mongo import ContainerMongo  # noqa: PLC0415

        return ContainerMongo(options, images)
    if "://" in spec:
        from harness.stores.url import UrlMongo, UrlPostgres  # noqa: PLC0415

        return UrlPostgres(spec, options) if kind is StoreKind.POSTGRES else UrlMongo(spec, options)
    raise UsageError(f"--{kind} {spec!r} is not a store; expected embedded, container, container:IMAGE, or a URL")
