"""A business's days begin at its own midnight, in every series."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from reference_impl.base import days
from reference_impl.numbering import cleanup
from reference_impl.numbering.series import place_of
from reference_impl.sales.rules import series

MORNING = datetime.fromisoformat("2027-01-01T07:00:00+08:00")


@pytest.mark.parametrize(("zone", "day", "year"), [("UTC", "2026-12-31", "2026"), ("Asia/Manila", "2027-01-01", "2027")])
def test_day_and_year_are_those_of_the_business(monkeypatch: pytest.MonkeyPatch, zone: str, day: str, year: str) -> None:
    monkeypatch.setattr(days, "ZONE", ZoneInfo(zone))
    printed = f"InvBambang{day[5:7]}_{day[8:]}_{day[:4]}_"
    assert series("Bambang", MORNING) == ("Bambang/sale", day, printed)
    place = place_of("acme", "sale", "Bambang", MORNING)
    assert (place.scope, place.period, place.prefix) == ("Bambang/sale", day, printed)
    assert place_of("acme", "payment", "Bambang", MORNING).period == year


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "Pacific/Honolulu"])
def test_a_day_that_the_cleanup_is_asked_for_is_one_of_the_business(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setattr(days, "ZONE", ZoneInfo(zone))
    at = datetime.fromisoformat(cleanup._day("2026-12-31"))
    assert place_of("acme", "sale", "Bambang", at).period == "2026-12-31"
