"""What the readers of plain arguments take, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from reference_impl.base.arguments import moment, text
from reference_impl.base.refusal import Refused
from reference_impl.numbering import series
from reference_impl.orders import requests as orders
from reference_impl.payments import requests as payments
from reference_impl.sales import requests as sales


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-20T18:00:00+08:00",
        "2026-11-20t10:00:00z",
        "2026-11-20 10:00Z",
        "2026-11-20T10:00:00.000Z",
        "2026-11-20T18:00:00,0+0800",
    ],
)
def test_a_time_is_read_as_the_standards_write_it(written: str) -> None:
    assert moment({"at": written}) == datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.mark.parametrize("between", ["\ud800", "😀", "\0", "_", "-", "\u2003", "10:00T", ""])
def test_only_a_letter_or_a_space_stands_between_date_and_time(between: str) -> None:
    with pytest.raises(Refused, match="at must be a time such as"):
        moment({"at": f"2026-11-20{between}10:00:00+00:00"})


@pytest.mark.parametrize("blank", ["", " ", "   ", " " * 200])
def test_a_blank_text_is_none(blank: str) -> None:
    with pytest.raises(Refused, match="company must have 1 to 200 printable characters and not be blank"):
        text({"company": blank}, "company")


def test_a_text_is_kept_as_it_is() -> None:
    assert text({"company": " two  words "}, "company") == " two  words "


Understand = Callable[[str, dict[str, Any], str], Any]
ANYWHERE = {"currency": "PHP", "at": "2026-11-20T10:00:00+00:00"}
OURS = {**ANYWHERE, "company": "main"}
INVOICE = {"company": "acme", "amount": 100}
OF_INVOICES = {**ANYWHERE, "document_type": "invoice", "branch": "Main"}
SALE = {"branch": "Bambang", "item": "rice", "quantity": 1, "price": 100}
DEFAULTS: list[tuple[Understand, str, dict[str, Any], dict[str, Any]]] = [
    (series.understand, "create", INVOICE, {**OF_INVOICES, "discount_bp": 0, "discount_permitted": True}),
    (series.understand, "post", {**INVOICE, "documents": ["invoice", "bill"]}, {**ANYWHERE, "branch": "Main"}),
    (series.understand, "reserve", INVOICE, OF_INVOICES),
    (series.understand, "seed", {"company": "acme", "through": 3}, {"counter": True, "document_type": "invoice"}),
    (series.understand, "cleanup", {"company": "acme"}, {"apply": False, "document_type": "invoice", "branch": "Main"}),
    (payments.understand, "submit", {"subject": "p", "term": "a/1", "amount": 100}, {**OURS, "account": None}),
    (payments.understand, "reject", {"subject": "p"}, {**OURS, "reason": "not stated"}),
    (payments.understand, "deliver", {}, {**OURS, "most": 100}),
    (orders.understand, "open_order", {"subject": "o", "total": 1000}, {**OURS, "advance": 0}),
    (orders.understand, "import_order", {"subject": "o", "total": 1000}, {"advance": 0, "discount": 0, "twice": False}),
    (orders.understand, "migrate", {}, {**OURS, "most": 100}),
    (sales.understand, "sell", SALE, {**OURS, "subject": "rice", "customer": None, "document_type": "sale"}),
    (sales.understand, "sell", SALE, {"discount_bp": 0, "discount_permitted": False}),
]


@pytest.mark.parametrize(("understand", "f", "asked", "defaults"), DEFAULTS)
def test_what_is_left_to_its_default_is_the_same_request_as_what_is_said(
    understand: Understand, f: str, asked: dict[str, Any], defaults: dict[str, Any]
) -> None:
    whole = understand(f, {**asked, **defaults}, "one").request
    for name in defaults:
        partly = {**asked, **{n: value for n, value in defaults.items() if n != name}}
        assert understand(f, partly, "another").request == whole, name
    assert understand(f, asked, "another").request == whole


@pytest.mark.parametrize(
    ("understand", "f", "asked", "changed"),
    [
        (series.understand, "create", INVOICE, {"company": "other"}),
        (series.understand, "create", INVOICE, {"document_type": "bill"}),
        (series.understand, "create", INVOICE, {"branch": "North"}),
        (series.understand, "create", INVOICE, {"discount_bp": 1}),
        (series.understand, "create", INVOICE, {"discount_permitted": False}),
        (series.understand, "post", {**INVOICE, "documents": ["invoice", "bill"]}, {"documents": ["invoice", "journal_entry"]}),
        (series.understand, "cleanup", {"company": "acme", "text": "INV-00001", "document": "1"}, {"apply": True}),
        (payments.understand, "submit", {"subject": "p", "term": "a/1", "amount": 100}, {"account": "a"}),
        (payments.understand, "submit", {"subject": "p", "term": "a/1", "amount": 100}, {"term": "a/2"}),
        (payments.understand, "reject", {"subject": "p"}, {"reason": "unreadable"}),
        (payments.understand, "webhook", {"subject": "p", "event": "e1"}, {"event": "e2"}),
        (orders.understand, "open_order", {"subject": "o", "total": 1000}, {"advance": 1}),
        (orders.understand, "import_order", {"subject": "o", "total": 1000}, {"twice": True}),
        (orders.understand, "import_order", {"subject": "o", "total": 1000}, {"discount": 1}),
        (sales.understand, "sell", SALE, {"company": "other"}),
        (sales.understand, "sell", SALE, {"customer": "maria"}),
        (sales.understand, "sell", SALE, {"discount_permitted": True}),
    ],
)
def test_whatever_is_asked_otherwise_is_another_request(
    understand: Understand, f: str, asked: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert understand(f, asked, "token").request != understand(f, {**asked, **changed}, "token").request


def test_another_operation_is_another_request() -> None:
    assert (
        payments.understand("approve", {"subject": "p"}, "t").request
        != payments.understand("cancel", {"subject": "p"}, "t").request
    )
