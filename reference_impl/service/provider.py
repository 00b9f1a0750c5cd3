"""The services as seen from outside: variants by name, each an ASGI application over a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reference_impl.provider import PROVIDER
from reference_impl.service.install import prepare
from reference_impl.variants import VARIANTS


class Service:
    """Every variant of the reference as a service."""

    def names(self) -> Sequence[str]:
        """Return the variants' names."""
        return PROVIDER.names()

    def settings(self, variant: str) -> Mapping[str, Any]:
        """Return the variant's settings."""
        return PROVIDER.settings(variant)

    def describe(self, variant: str) -> str:
        """Return one sentence on how it works."""
        return PROVIDER.describe(variant)

    def store(self, variant: str) -> str:
        """Return the kind of store that the variant needs."""
        self.names()
        return VARIANTS[variant].store

    def prepare(self, variant: str, settings: Mapping[str, Any], url: str) -> str:
        """Make the variant's tables in an empty database; return what was done, as a sentence.

        Raises:
            ValueError: the database holds something else.
            ConnectionError: it cannot be reached, or refuses us.
        """
        self.names()
        return prepare(VARIANTS[variant], self._filled(variant, settings), url)

    def application(self, variant: str, settings: Mapping[str, Any], url: str, connections: int) -> Any:
        """Return the ASGI application. See `reference_impl.service.app.build_app`."""
        from reference_impl.service.app import build_app  # noqa: PLC0415 - FastAPI is heavy, and names are asked for often

        self.names()
        return build_app(VARIANTS[variant], self._filled(variant, settings), url, connections)

    def _filled(self, variant: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {name: settings.get(name, knob.default) for name, knob in self.settings(variant).items()}


SERVICE = Service()
