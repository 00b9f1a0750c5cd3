"""The variants by name: every way in which the reference can do its business, right or wrong.

A variant is a class with ``install``, ``connect`` and ``books``; its docstring's first line says how it works. Nothing
here or in the data tells a broken one from a correct one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Implementation = TypeVar("Implementation", bound=type)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A knob of a variant: its default (whose type is the knob's type), choices if limited, and what it means."""

    default: Any
    help: str
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way of implementing the operations of a business."""

    name: str
    """Store and method: ``pg.counter_row``."""
    implementation: Any
    operations: frozenset[str]
    settings: Mapping[str, Setting]

    @property
    def store(self) -> str:
        """The kind of store that it works on."""
        return "postgres" if self.name.startswith("pg.") else "mongo"

    @property
    def summary(self) -> str:
        """One sentence on how it works."""
        return str(self.implementation.__doc__).strip().split("\n")[0]


VARIANTS: dict[str, Variant] = {}


def variant(
    name: str, *, operations: frozenset[str], settings: Mapping[str, Setting], **defaults: Any
) -> Callable[[Implementation], Implementation]:
    """Register a class as the variant ``name``. ``defaults`` replace the defaults of its settings.

    Raises:
        ValueError: the name is taken, or the class has no docstring.
    """

    def register(implementation: Implementation) -> Implementation:
        if name in VARIANTS:
            raise ValueError(f"two variants are called {name!r}")
        if not implementation.__doc__:
            raise ValueError(f"the variant {name!r} needs a docstring")
        own = {key: Setting(default=defaults.get(key, s.default), help=s.help, choices=s.choices) for key, s in settings.items()}
        VARIANTS[name] = Variant(name=name, implementation=implementation, operations=operations, settings=own)
        return implementation

    return register


ISOLATION = Setting(
    default="read_committed",
    help="isolation level of every transaction",
    choices=("read_committed", "repeatable_read", "serializable"),
)
UNIQUE_INDEX = Setting(default=False, help="a unique index as second line of defence", choices=(True, False))
WRITE_CONCERN = Setting(
    default="majority",
    help="how many nodes have a single write before it is acknowledged; a transaction always waits for a majority",
    choices=("0", "1", "majority"),
)
TRANSACTION = Setting(
    default=True, help="one transaction an operation; without it every statement commits by itself", choices=(True, False)
)
