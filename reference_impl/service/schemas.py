"""What the OpenAPI document says of every operation's arguments.

The names come from the businesses' own tables. What is said of them here is what their readers accept; the readers decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reference_impl.base.arguments import CURRENCY, MAX_MONEY, MAX_TEXT
from reference_impl.numbering import series
from reference_impl.orders import requests as orders
from reference_impl.payments import requests as payments
from reference_impl.sales import requests as sales

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
MAYBE_TEXT: Schema = {**TEXT, "type": ["string", "null"]}
MONEY: Schema = {"type": "integer", "minimum": 1, "maximum": MAX_MONEY, "description": "minor units (centavos)"}
MAYBE_MONEY: Schema = {**MONEY, "minimum": 0}
SWITCH: Schema = {"type": "boolean"}

ARGUMENTS: Mapping[str, Schema] = {
    "account": MAYBE_TEXT,
    "advance": MAYBE_MONEY,
    "amount": MONEY,
    "apply": {**SWITCH, "description": "void the document; otherwise only report"},
    "assessment": MONEY,
    "at": {
        "type": ["string", "null"],
        "format": "date-time",
        "description": "when it is done, with its offset from UTC; the present if not given",
    },
    "branch": {**TEXT, "description": "one word of letters and digits"},
    "company": TEXT,
    "counter": {**SWITCH, "description": "whether the counter is introduced as well"},
    "currency": {"type": "string", "enum": [CURRENCY]},
    "customer": MAYBE_TEXT,
    "discount": MAYBE_MONEY,
    "discount_bp": {"type": "integer", "minimum": 0, "maximum": 10_000, "description": "basis points: 1000 is 10 %"},
    "discount_permitted": SWITCH,
    "document": {**TEXT, "description": "the identity of one document of several with the same number"},
    "document_type": {"type": "string", "pattern": f"^{series.CUSTOM_TYPE.pattern}$"},
    "documents": {
        "type": "array",
        "items": {"type": "string", "pattern": f"^{series.CUSTOM_TYPE.pattern}$"},
        "minItems": 1,
        "maxItems": 5,
        "uniqueItems": True,
        "description": "types of the documents that one event makes",
    },
    "event": {**TEXT, "description": "the gateway's identity of the event"},
    "item": TEXT,
    "limit": MAYBE_MONEY,
    "most": {"type": "integer", "minimum": 1, "maximum": 1000},
    "number": {"type": "integer", "minimum": 1, "maximum": 10**12},
    "price": MONEY,
    "quantity": {"type": "integer", "minimum": 1, "maximum": 10**6},
    "reason": TEXT,
    "subject": TEXT,
    "term": TEXT,
    "text": {**TEXT, "description": "the number as printed"},
    "through": {"type": "integer", "minimum": 1, "maximum": 10**5},
    "total": MONEY,
    "twice": SWITCH,
}

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "create": ("company", "amount"),
    "seed": ("company", "through"),
    "post": ("company", "documents", "amount"),
    "import_document": ("company", "amount", "number"),
    "introduce": ("company",),
    "void": ("company", "text", "reason"),
    "delete": ("company", "text"),
    "cleanup": ("company",),
    "reserve": ("company", "amount"),
    "confirm": ("company", "text"),
    "release": ("company", "text", "reason"),
    "sweep": ("company",),
    "open_account": ("subject", "assessment"),
    "submit": ("subject", "term", "amount"),
    "approve": ("subject",),
    "reject": ("subject",),
    "cancel": ("subject",),
    "refund": ("subject", "amount"),
    "webhook": ("subject", "event"),
    "account": ("subject",),
    "history": ("subject",),
    "open_order": ("subject", "total"),
    "import_order": ("subject", "total"),
    "pay_installment": ("subject", "amount"),
    "discount": ("subject", "amount"),
    "refund_order": ("subject", "amount"),
    "cancel_order": ("subject",),
    "repair": ("subject",),
    "order": ("subject",),
    "stock_item": ("subject", "quantity", "price"),
    "add_customer": ("subject", "limit"),
    "void_sale": ("text", "reason"),
    "sell": ("branch", "item", "quantity", "price"),
    "gaps": ("branch",),
}


def names_of(operation: str) -> tuple[str, ...]:
    """Return the names of an operation's arguments."""
    if operation in series.ARGUMENTS:
        return series.ARGUMENTS[operation]
    for business in (payments, orders, sales):
        if operation in business.OPERATIONS:
            return (*business.OPERATIONS[operation], *business.COMMON)
    return ()


def schema_of(operation: str) -> Schema:
    """Return the schema of an operation's body."""
    names = names_of(operation)
    return {
        "type": "object",
        "properties": {name: ARGUMENTS.get(name, {}) for name in names},
        "required": list(REQUIRED.get(operation, ())),
        "additionalProperties": not names,
    }
