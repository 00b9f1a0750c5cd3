"""Finds numbers that several documents bear, and voids the surplus ones if asked to. By default it only reports.

    $ python -m reference_impl.numbering.cleanup URL --company acme --document-type invoice
    $ python -m reference_impl.numbering.cleanup URL --company acme --document-type invoice --apply
    $ python -m reference_impl.numbering.cleanup URL --company acme --document-type payment --date 2025-12-31

A series that begins anew each year or day is searched in one period: that of the date, which is today's unless one is given.
The tool may run while documents are created. The URL is a PostgreSQL or a MongoDB one, of a database that holds this reference's
documents. Exit status 1 where duplicates are left in that period, 0 where there are none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from reference_impl.base.arguments import moment
from reference_impl.base.refusal import Refused
from reference_impl.provider import PROVIDER


def main(arguments: Sequence[str] | None = None) -> int:
    """Report duplicates on standard output; with ``--apply`` void all but the first document of each number."""
    asked = _parser().parse_args(arguments)
    variant = "mongo.counter_document" if asked.url.startswith("mongodb") else "pg.counter_row"
    connection = PROVIDER.target(variant, {}).connect(_At(asked.url), 0)
    where = {"company": asked.company, "document_type": asked.document_type, "branch": asked.branch}
    try:
        left = clean_up(connection, where, asked.date, apply=asked.apply)
    finally:
        connection.close()
    return 1 if left else 0


def clean_up(connection: Any, where: dict[str, Any], at: str | None = None, *, apply: bool) -> bool:
    """Print what is found in the period of ``at`` and what is done; return whether duplicates are left.

    One report names so many numbers and no more: after each that led to anything another is asked for.
    """
    while duplicates := _report(connection, {**where, "at": at}):
        if not apply:
            print("Nothing was changed. With --apply each surplus document is voided; its customer needs a new one.")
            return True
        surplus = [{**where, "text": entry["text"], "document": one} for entry in duplicates for one in entry["surplus"]]
        voided = sum(_void(connection, which) for which in surplus)
        if not voided:
            return True
    return False


def _report(connection: Any, asked: dict[str, Any]) -> list[dict[str, Any]]:
    report = connection.call("cleanup", asked, "report", _nothing)
    series = f"{report['scope']} in {report['period']}" if report["period"] else report["scope"]
    duplicates: list[dict[str, Any]] = report["duplicates"]
    for entry in duplicates:
        print(f"{series}: {entry['text']}: document {entry['keep']} may keep it; surplus: {', '.join(entry['surplus'])}")
    if not duplicates:
        print(f"{series}: no number is borne twice.")
    return duplicates


def _void(connection: Any, which: dict[str, Any]) -> bool:
    token = f"cleanup {which['document']} {datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    try:
        connection.call("cleanup", {**which, "apply": True}, token, _nothing)
    except Refused as e:  # somebody else was there first
        print(f"  document {which['document']} was left: {e}")
        return False
    print(f"  document {which['document']} is void")
    return True


class _At:
    """A database that is known by its URL alone."""

    def __init__(self, url: str) -> None:
        self.url = url


def _nothing(point: str) -> None:
    """Pass a named point."""


def _day(text: str) -> str:
    """Return noon of a day. Raises ValueError if it is none that documents are dated with."""
    at = f"{date.fromisoformat(text)}T12:00:00+00:00"
    try:
        moment({"at": at})
    except Refused as e:
        raise ValueError(str(e)) from e
    return at


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference_impl.numbering.cleanup", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("url", help="postgresql://... or mongodb://...")
    parser.add_argument("--company", required=True)
    parser.add_argument("--document-type", required=True)
    parser.add_argument("--branch", default="Main")
    parser.add_argument(
        "--date", type=_day, metavar="YYYY-MM-DD", help="a day of the period that is searched, by the series' clock (UTC)"
    )
    parser.add_argument("--apply", action="store_true", help="void the surplus documents")
    return parser


if __name__ == "__main__":
    sys.exit(main())
