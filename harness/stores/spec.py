"""How a store is asked for in one word: ``embedded``, ``container``, ``container:IMAGE`` or a URL.

The first three may be followed by settings: ``embedded,nodes=3`` is a MongoDB replica set of three nodes, ``container,fsync=on``
a PostgreSQL server that keeps its promises when the machine dies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.model.errors import UsageError, nearest
from harness.stores.base import StoreKind
from harness.stores.options import StoreOptions

NODES = (1, 3)

PLACES = ("embedded", "container")
"""Where racegate starts servers of its own."""


@dataclass(frozen=True, kw_only=True)
class StoreSpec:
    """What was asked for. ``place`` is ``embedded`` or ``container``, or the URL; ``image`` may be empty."""

    place: str
    image: str = ""
    nodes: int | None = None
    fsync: bool | None = None

    def applied(self, options: StoreOptions) -> StoreOptions:
        """Return the options with what was asked for."""
        return replace(
            options,
            nodes=options.nodes if self.nodes is None else max(self.nodes, options.nodes),
            fsync=options.fsync if self.fsync is None else self.fsync or options.fsync,
        )


def is_ours(text: str) -> bool:
    """Tell whether this asks for a server that racegate starts, whose databases are empty at first."""
    return "://" not in text and text.partition(",")[0].partition(":")[0].strip() in PLACES


def parse_spec(kind: StoreKind, text: str) -> StoreSpec:
    """Read what was asked for. Raises UsageError when it is not a store."""
    if "://" in text:
        return StoreSpec(place=text)
    where, *settings = [part.strip() for part in text.split(",")]
    place, _, image = where.partition(":")
    if place not in PLACES or (place == "embedded" and image):
        raise UsageError(f"--{kind} {text!r} is not a store; expected embedded, container, container:IMAGE, or a URL")
    spec = StoreSpec(place=place, image=image)
    for setting in settings:
        name, _, value = setting.partition("=")
        if name == "nodes" and value in map(str, NODES) and kind is StoreKind.MONGO:
            spec = replace(spec, nodes=int(value))
        elif name == "fsync" and value in ("on", "off"):
            spec = replace(spec, fsync=value == "on")
        else:
            known = ["nodes=3", "fsync=on"] if kind is StoreKind.MONGO else ["fsync=on"]
            raise UsageError(
                f"--{kind} {text!r}: {setting!r} is no setting of a store{nearest(name, known)}; there are: {', '.join(known)}"
            )
    return spec
