"""Finds numbers that several issued documents bear, and settles one at a time.

What is wrong with two documents of one number cannot be put right by giving one of them another number: its customer holds
it on paper. So the surplus document is voided, with its reason, and a new document under a new number replaces it. Which
one stays is for the business to say; the first one is proposed. `reference_impl.numbering.cleanup` is the tool around it.
"""

from __future__ import annotations

from typing import Any

from reference_impl.base.postgres import Transaction
from reference_impl.numbering.series import Ask, print_of

MOST = 1000
"""Numbers that one report names."""

FIND = """
SELECT text, array_agg(id::text ORDER BY dated, id) AS documents FROM documents
WHERE company = :company AND status = 'issued' AND scope = :scope AND period = :period
GROUP BY text HAVING count(*) > 1 ORDER BY text LIMIT :most
"""


def found(tx: Transaction, ask: Ask) -> list[dict[str, Any]]:
    """Return each number that is borne twice, the document that may keep it, and those that may not."""
    rows = tx.rows(FIND, company=ask.company, scope=ask.place.scope, period=ask.place.period, most=MOST)
    return [{"text": row.text, "keep": row.documents[0], "surplus": row.documents[1:]} for row in rows]


def lock_copies(tx: Transaction, ask: Ask) -> list[str]:
    """Return the issued documents with the number in question.

    All documents with the number are locked, in one order: of two who void a copy each at the same time, the second finds
    that the other copy is gone. A look without the lock would leave the number with no document at all.
    """
    rows = tx.rows(
        "SELECT id, status FROM documents WHERE company = :company AND scope = :scope AND text = :text ORDER BY id FOR UPDATE",
        **print_of(ask),
    )
    return [str(row.id) for row in rows if row.status == "issued"]
