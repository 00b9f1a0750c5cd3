"""Finds numbers that several documents bear, and voids the surplus ones if asked to. By default it only reports.

    $ python -m reference_impl.numbering.cleanup URL --company acme --document-type invoice
    $ python -m reference_impl.numbering.cleanup URL --company acme --document-type invoice --apply
    $ python -m reference_impl.numbering.cleanup URL --company acme --document-type payment --date 2025-12-31

A series that begins anew each year or day is searched in one period: that of the date, which is today's unless one is given.
The tool may run while documents are created. The URL is a PostgreSQL or a MongoDB one, of a database that holds this reference's
documents. Exit status: 0 no duplicates are left in that period, 1 some are, 2 wrong call, 3 the database could not be asked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Any, NoReturn
from urllib.parse import urlsplit

from pymongo.errors import ConfigurationError, PyMongoError
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from reference_impl.base import days
from reference_impl.base.arguments import moment
from reference_impl.base.refusal import Refused, first_words
from reference_impl.numbering.series import understand
from reference_impl.provider import PROVIDER

LEFT, WRONG_CALL, ENVIRONMENT = 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Report duplicates on standard output; with ``--apply`` void all but the first document of each number."""
    asked = _parser().parse_args(arguments)
    where = {"company": asked.company, "document_type": asked.document_type, "branch": asked.branch}
    try:
        understand("cleanup", where, "report")  # before anybody waits for a server
        connection = _connect(asked.url)
        try:
            return LEFT if clean_up(connection, where, asked.date, apply=asked.apply) else 0
        finally:
            connection.close()
    except Refused as e:
        return _say(str(e), WRONG_CALL)
    except (SQLAlchemyError, PyMongoError) as e:
        return _say(f"the database could not be asked: {_reason(e)}", ENVIRONMENT)


def _connect(url: str) -> Any:
    """Open the database. Raises Refused where the URL is none; its text does not repeat the URL, which may hold a password."""
    variants = {"postgres": "pg.counter_row", "postgresql": "pg.counter_row", "mongodb": "mongo.counter_document"}
    try:
        parts = urlsplit(url)
        variant = variants[parts.scheme.removesuffix("+srv")]
        if not parts.path.strip("/"):
            raise ValueError("no database")
        return PROVIDER.target(variant, {}).connect(_At(url), 0)
    except (KeyError, ValueError, ArgumentError, ConfigurationError):
        told = "The URL cannot be read; expected postgresql://user:password@host:port/database or mongodb://host:port/database."
        raise Refused("invalid_url", told) from None


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


def _say(message: str, status: int) -> int:
    print(f"cleanup: {message}", file=sys.stderr)
    return status


def _reason(error: Exception) -> str:
    """Return the driver's own words in one line, without the settings and the state that MongoDB's adds."""
    return first_words(error).partition(" (configured timeouts")[0].partition(", full error")[0]


def _day(text: str) -> str:
    """Return noon of a day, if it is one that documents are dated with."""
    try:
        at = datetime.combine(date.fromisoformat(text), time(12), days.ZONE).isoformat()
        moment({"at": at})
    except (ValueError, Refused):
        raise argparse.ArgumentTypeError(f"expected a day of the years 2000 to 2200 such as 2025-12-31, not {text!r}") from None
    return at


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong, as for every other wrong call."""
        self.exit(_say(f"{message}; see --help", WRONG_CALL))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m reference_impl.numbering.cleanup", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("url", help="postgresql://... or mongodb://...")
    parser.add_argument("--company", required=True)
    parser.add_argument("--document-type", required=True)
    parser.add_argument("--branch", default="Main")
    parser.add_argument(
        "--date", type=_day, metavar="YYYY-MM-DD", help="a day of the period that is searched, by the business's clock"
    )
    parser.add_argument("--apply", action="store_true", help="void the surplus documents")
    return parser


if __name__ == "__main__":
    sys.exit(main())
