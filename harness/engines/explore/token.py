"""A schedule as a token: everything that is needed to repeat it, in one line.

``rg1:`` and compressed JSON. A fingerprint of each step goes along, so that a replay on a changed program says where it
diverged. Fingerprints are of normalised statements: other generated ids and timestamps do not change them.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2s
from typing import Any

from harness.engines.explore.moves import FAULTS, Choices, Move, in_short
from harness.model.errors import UsageError

PREFIX = "rg1:"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Who was let through, step by step, in which scenario on which target.

    ``steps`` are the steps' fingerprints in short. ``faults`` are those of the steps that met one, by their place, from 0.
    ``absent`` clients do nothing: the interleaving was shrunk to fewer.
    """

    scenario: str
    target: str
    clients: int
    operations: int
    seed: int
    policy: str
    choices: tuple[int, ...]
    steps: tuple[str, ...]
    scenario_settings: Mapping[str, Any] = field(default_factory=dict)
    target_settings: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[int, str] = field(default_factory=dict)
    absent: tuple[int, ...] = ()

    @property
    def moves(self) -> list[Move]:
        """The choices with their faults."""
        return Choices(clients=self.choices, faults=self.faults).moves()

    @property
    def lanes(self) -> str:
        """The choices for people: ``0x3 1x2 0!lose_reply``."""
        return in_short(self.moves)


def encode(schedule: Schedule) -> str:
    """Return the token of a schedule."""
    text = json.dumps(asdict(schedule), separators=(",", ":"), sort_keys=True)
    return PREFIX + base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def decode(token: str) -> Schedule:
    """Return the schedule of a token. Raises UsageError if it is none, or is damaged."""
    body = token.strip()
    if not body.startswith(PREFIX):
        raise UsageError(f"that is not a schedule: a token begins with {PREFIX}")
    try:
        packed = body.removeprefix(PREFIX)
        document = json.loads(zlib.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))))
        for name in ("choices", "steps", "absent"):
            document[name] = tuple(document.get(name, ()))
        document["faults"] = {int(at): str(fault) for at, fault in document.get("faults", {}).items()}
        if unknown := set(document["faults"].values()) - FAULTS.keys():
            raise UsageError(f"the schedule has a fault that this version does not know: {min(unknown)}; update racegate")
        return Schedule(**document)
    except (ValueError, zlib.error, TypeError, KeyError, AttributeError) as e:
        raise UsageError(f"the schedule is damaged ({type(e).__name__}); copy the whole token") from e


def short(fingerprint: str) -> str:
    """Return a step's fingerprint in eight letters."""
    return blake2s(fingerprint.encode(), digest_size=4).hexdigest()


def compare(expected: Sequence[str], seen: Sequence[tuple[str, str]]) -> str | None:
    """Return where a replay diverged, or None. ``seen`` pairs each step's short fingerprint with its text."""
    for at, (wanted, (got, text)) in enumerate(zip(expected, seen, strict=False), start=1):
        if wanted != got:
            return f"diverged at step {at}: expected the statement {wanted}, saw {got}: {text}"
    if len(seen) < len(expected):
        return f"diverged at step {len(seen) + 1}: expected the statement {expected[len(seen)]}, saw the end"
    return None
