"""Finds numbers that several documents bear, and voids the surplus ones if asked to. By default it only reports.

    $ python -m reference_impl.numbering.cleanup URL --company acme --document-type invoice
    $ python -m reference_impl.numbering.cleanup URL --company acme --document-type invoice --apply

It may run while documents are created. The URL is a PostgreSQL or a MongoDB one, of a database that holds this reference's
documents. Exit status 1 where duplicates are left, 0 where there are none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from reference_impl.base.refusal import Refused
from reference_impl.provider import PROVIDER


def main(arguments: Sequence[str] | None = None) -> int:
    """Report duplicates on standard output; with ``--apply`` void all but the first document of each number."""
    asked = _parser().parse_args(arguments)
    variant = "mongo.counter_document" if asked.url.startswith("mongodb") else "pg.counter_row"
    connection = PROVIDER.target(variant, {}).connect(_At(asked.url), 0)
    try:
        left = clean_up(connection, asked.company, asked.document_type, asked.branch, apply=asked.apply)
    finally:
        connection.close()
    return 1 if left else 0


def clean_up(connection: Any, company: str, document_type: str, branch: str, *, apply: bool) -> int:
    """Print what is found and what is done; return how many surplus documents are left."""
    where = {"company": company, "document_type": document_type, "branch": branch}
    duplicates = connection.call("cleanup", where, "report", _nothing)["duplicates"]
    left = 0
    for entry in duplicates:
        print(f"{entry['text']}: document {entry['keep']} may keep it; surplus: {', '.join(entry['surplus'])}")
        for document in entry["surplus"]:
            left += not (apply and _void(connection, {**where, "text": entry["text"], "document": document}))
    if not duplicates:
        print("No number is borne twice.")
    elif not apply:
        print("Nothing was changed. With --apply each surplus document is voided; its customer needs a new one.")
    return left


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reference_impl.numbering.cleanup", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("url", help="postgresql://... or mongodb://...")
    parser.add_argument("--company", required=True)
    parser.add_argument("--document-type", required=True)
    parser.add_argument("--branch", default="Main")
    parser.add_argument("--apply", action="store_true", help="void the surplus documents")
    return parser


if __name__ == "__main__":
    sys.exit(main())
