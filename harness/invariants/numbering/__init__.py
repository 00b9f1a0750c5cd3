"""The numbering rules (N-*): uniqueness, gaps, order, form, counters, and what was promised to clients."""

from harness.invariants.numbering import counters, form, gaps, order, promises, uniqueness

__all__ = ["counters", "form", "gaps", "order", "promises", "uniqueness"]
