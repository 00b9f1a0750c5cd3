"""The service's connections: a pool that lends one line to each request.

On PostgreSQL the pool is SQLAlchemy's, on MongoDB the driver's own. A request that finds no line within `PATIENCE` is
refused and may be sent again: it did nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa
from pymongo.errors import PyMongoError

from reference_impl.base.mongo import open_client
from reference_impl.base.postgres import dialect_url
from reference_impl.base.refusal import first_words
from reference_impl.variants import Variant

PATIENCE = 10.0
"""Seconds that a request waits for a line when all are lent."""


class NoLine(Exception):
    """No line to the store was to be had: the operation did not begin."""


class Lines:
    """Lends lines to the store, each as a connection of the variant.

    Args:
        variant: what speaks over them.
        settings: all of the variant's settings.
        url: the store, with its database.
        connections: how many operations are carried out at once. Variants that need a second line for one have as many again.
    """

    def __init__(self, variant: Variant, settings: Mapping[str, Any], url: str, connections: int) -> None:
        self._variant = variant
        self._settings = settings
        self._pool: Any
        if variant.store == "postgres":
            self._pool = sa.create_engine(
                dialect_url(url),
                pool_size=2 * connections,  # a request may need a second one
                max_overflow=0,
                pool_timeout=PATIENCE,
                # The last one that came back is lent first: what it keeps, such as a block of numbers, is used up before
                # another one takes more.
                pool_use_lifo=True,
            )
        else:
            self._pool = open_client(url, connections=2 * connections)
        self._lent: set[Any] = set()
        self._changing = threading.Lock()
        self.connections = connections

    def warm(self) -> None:
        """Open every line once, so that no request pays for that. Raises NoLine if the store cannot be reached."""
        if self._variant.store == "postgres":
            self._warm_engine()
            return
        self.ping()

    def ping(self) -> None:
        """Ask the store for a sign of life. Raises NoLine if there is none."""
        try:
            if self._variant.store == "postgres":
                with self._pool.connect() as connection:
                    connection.execute(sa.text("SELECT 1"))
            else:
                self._pool.admin.command("ping")
        except (sa.exc.SQLAlchemyError, PyMongoError) as e:
            raise NoLine(first_words(e)) from e

    def _warm_engine(self) -> None:
        opened = []
        try:
            opened = [self._pool.connect() for _ in range(self.connections)]
        except sa.exc.SQLAlchemyError as e:
            raise NoLine(first_words(e)) from e
        finally:
            for connection in opened:
                connection.close()

    @contextmanager
    def lend(self) -> Iterator[Any]:
        """Lend a line for one operation. Raises NoLine when there is none."""
        try:
            line = self._variant.implementation.connect(self._pool, self._settings)
        except sa.exc.SQLAlchemyError as e:
            raise NoLine(first_words(e)) from e
        with self._changing:
            self._lent.add(line)
        try:
            yield line
        finally:
            with self._changing:
                self._lent.discard(line)
            line.close()

    def close(self) -> None:
        """Cut what is still lent, so that nobody goes on with it, and close the rest."""
        with self._changing:
            lent = list(self._lent)
        for line in lent:
            with suppress(Exception):  # a line that cannot be cut is gone already
                line.vanish()
        if self._variant.store == "postgres":
            self._pool.dispose()
        else:
            self._pool.close()
