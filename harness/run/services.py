"""Services that racegate can start: found through the entry point group ``racegate.services``, ours and users' alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol, cast

from harness.model.errors import UsageError, nearest
from harness.run.registry import entries


class ServiceProvider(Protocol):
    """A family of services, by variant."""

    def names(self) -> Sequence[str]:
        """Return the variants' names: ``pg.counter_row``."""

    def settings(self, variant: str) -> Mapping[str, Any]:
        """Return the variant's settings as `harness.model.Setting` values or objects with the same attributes."""

    def describe(self, variant: str) -> str:
        """Return one sentence on how the variant works."""

    def store(self, variant: str) -> str:
        """Return the kind of store that the variant needs: ``postgres`` or ``mongo``."""

    def prepare(self, variant: str, settings: Mapping[str, Any], url: str) -> str:
        """Make what the variant needs in an empty database, and leave a prepared one alone; return what was done.

        Raises:
            ValueError: the database holds something else.
            ConnectionError: it cannot be reached, or refuses us.
        """

    def application(self, variant: str, settings: Mapping[str, Any], url: str, connections: int) -> Any:
        """Return an ASGI application over the database; its lifespan opens and closes the connections."""


@cache
def services() -> Mapping[str, ServiceProvider]:
    """Return every provider of services by the prefix that selects it."""
    return {name: cast(ServiceProvider, value) for name, value in entries("racegate.services").items()}


def service_named(name: str) -> tuple[ServiceProvider, str]:
    """Return provider and variant of a name, with or without its prefix: ``reference:pg.counter_row``, ``pg.counter_row``.

    Raises:
        UsageError: there is none, or several have one.
    """
    family, colon, rest = name.partition(":")
    variant = rest if colon else name
    candidates = {f: p for f, p in services().items() if variant in p.names() and (not colon or f == family)}
    if len(candidates) == 1:
        return next(iter(candidates.values())), variant
    if candidates:
        raise UsageError(f"{name!r} is served by several: write one of {', '.join(f'{f}:{variant}' for f in candidates)}")
    known = [v for provider in services().values() for v in provider.names()]
    raise UsageError(f"no service is called {name!r}{nearest(variant, known)}; see: racegate list targets")
