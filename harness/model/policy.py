"""What the business demands of its numbers. Values only; loading and presets live in `harness.config`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Continuity(StrEnum):
    """What may be missing from a run of numbers."""

    NONE = "none"
    """Gaps do not matter."""
    EXPLAINED = "explained"
    """Each gap must be matched by a failed, rolled-back or ambiguous attempt."""
    BUDGET = "budget"
    """Explained, and no more of them than the budget allows."""
    GAPLESS = "gapless"
    """None at all."""


class Period(StrEnum):
    """When the numbers of a scope start again."""

    NONE = "none"
    YEAR = "year"
    FISCAL_YEAR = "fiscal_year"
    MONTH = "month"
    DAY = "day"


class Overflow(StrEnum):
    """What happens when a number no longer fits the width of its format."""

    GROW = "grow"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class GapBudget:
    """How many settled gaps are tolerated, as shares of the denominator (0.03 is 3 %).

    Up to ``normal`` nothing is said; above ``investigate`` it is a violation; between them a cost. Below
    ``minimum_sample`` numbers the share says little, so the violation also needs that a true rate of
    ``investigate`` would produce this many gaps with a probability of at most ``significance`` (exact binomial tail).
    ``denominator`` is ``range`` (numbers between start and maximum) or ``issued`` (documents that exist).
    """

    normal: float = 0.03
    investigate: float = 0.05
    minimum_sample: int = 100
    significance: float = 0.05
    denominator: str = "range"


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """A numbering policy.

    ``scope_keys`` names the arguments that make up a scope, ``time_zone`` (IANA) decides in which period a moment
    falls, ``fiscal_start_month`` (1 to 12) when a fiscal year begins. ``format`` is a template such as
    ``INV-{00000}``, ``PAY{yyyy}{0000}`` or ``Inv{branch}{MM_DD_YYYY}_{0000}``: zeros are the padded number, the rest
    are date parts and scope keys; None demands nothing. ``maximum`` is the highest number of a scope, ``max_length`` and
    ``charset`` (the allowed characters, as the inside of a regular expression's brackets: ``A-Za-z0-9/-``) bind the
    printed number. ``unique_per`` is ``ever``, or ``period`` where a printed number may return in the next period.
    ``real_time_order`` demands that a number acknowledged before
    another request began is the lower one; ``dates_ascend`` that document dates do not decrease with the number.
    """

    name: str
    summary: str = ""
    scope_keys: tuple[str, ...] = ("company", "document_type")
    period: Period = Period.NONE
    time_zone: str = "UTC"
    fiscal_start_month: int = 1
    format: str | None = None
    overflow: Overflow = Overflow.GROW
    maximum: int | None = None
    max_length: int | None = None
    charset: str | None = None
    unique_per: str = "ever"
    start: int = 1
    continuity: Continuity = Continuity.EXPLAINED
    budget: GapBudget = field(default_factory=GapBudget)
    real_time_order: bool = False
    dates_ascend: bool = False
    voids_allowed: bool = True
    void_reason_required: bool = True
    source: str = ""
