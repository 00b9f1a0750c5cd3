"""Lengths of time as people write them."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def parse_seconds(text: str) -> float:
    """Return the seconds that ``30s``, ``500ms``, ``2m`` or ``1h`` mean. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{text!r} is not a length of time such as 30s, 500ms or 2m")
    return float(match[1]) * _UNITS[match[2]]
