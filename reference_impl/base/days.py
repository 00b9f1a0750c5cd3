"""The days that documents are counted by."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

ZONE: tzinfo = UTC
"""Where the business keeps its books: its days and years begin at midnight there, whatever the server's clock shows.

Every number, period and print goes by it, and the policy that judges them must name it as its ``time_zone``. Put the business's
own zone here (``ZoneInfo("Asia/Manila")``): by UTC, what a shop in Manila sells before eight is numbered with yesterday.
"""


def day_of(at: datetime) -> datetime:
    """Return the moment as the business's clock and calendar show it."""
    return at.astimezone(ZONE)
