"""Which image a container store is made of.

In this order: the one that the option or the configuration names (``container:IMAGE``), the one of the environment
(``RACEGATE_POSTGRES_IMAGE``, ``RACEGATE_MONGO_IMAGE``), the official image of the default if it is there, the image that
``make images`` built on this machine if it is there, and the official one from its registry.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from harness.stores.base import StoreKind


@dataclass(frozen=True, kw_only=True)
class DefaultImage:
    """``official`` is pinned by its digest, so that a run today is a run tomorrow; ``local`` is what ``make images`` builds.

    ``variable`` is the environment variable that names another.
    """

    official: str
    local: str
    variable: str


DEFAULTS = {
    StoreKind.POSTGRES: DefaultImage(
        official="postgres:18@sha256:86c951e05bf56c93d95d397747fb8820ac76cc3bedb78f43abd83eedbe3666ae",
        local="racegate/postgres:18",
        variable="RACEGATE_POSTGRES_IMAGE",
    ),
    StoreKind.MONGO: DefaultImage(
        official="mongo:8@sha256:613a7cc66be5bbf1796252660b43c9b8969a5ad1dab6180c9d917b7472867e64",
        local="racegate/mongo:6",
        variable="RACEGATE_MONGO_IMAGE",
    ),
}


def candidates(kind: StoreKind, image: str) -> list[str]:
    """Return the images to look for on this machine, best first; the first is the one to pull when none is there.

    Args:
        kind: PostgreSQL or MongoDB.
        image: what ``container:IMAGE`` names, or nothing.
    """
    default = DEFAULTS[kind]
    chosen = image or os.environ.get(default.variable)
    return [chosen] if chosen else [default.official, default.local]
