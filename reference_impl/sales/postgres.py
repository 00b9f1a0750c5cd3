"""Sales on PostgreSQL, done right: `SellInOneTransaction`.

The order of steps is the point:

1. the key is claimed, so that a second click waits and is answered with the first one's invoice;
2. stock is taken by a conditional update (``quantity >= wanted``): nothing is validated that is not at once done;
3. price and discount are checked, and credit is taken by a conditional update of the customer's row;
4. the number is drawn **last**, from a counter row in the same transaction.

If any of it fails, all of it rolls back, the number too: there is no gap, so there is nothing to explain. The counter is
held only from step 4 to the commit. Locks are taken in the order item, customer, counter. A refusal is explained by the row
as it stands under a lock (`change_or_refuse`): nobody is refused by a reason that does not hold.

A sale is voided and never deleted: what it took goes back to stock and to the customer's credit in the transaction that marks
it, and its number stays taken. Of two who void it at once the second finds that it is not issued any more.

Failed attempts are logged in a transaction of their own, after the sale's has rolled back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from reference_impl.base import outbox
from reference_impl.base.business import PostgresBusiness, Settings, change_or_refuse
from reference_impl.base.keys import Answer, Keyed, Keys
from reference_impl.base.postgres import Checkpoint, Transaction, sqlstate
from reference_impl.base.refusal import Refused, unknown
from reference_impl.sales import rules
from reference_impl.sales.requests import Ask, understand

SCHEMA = """
CREATE TABLE items (
    id        text PRIMARY KEY,
    company   text NOT NULL,
    price     bigint NOT NULL,
    opening   bigint NOT NULL,
    quantity  bigint NOT NULL
);
CREATE TABLE customers (
    id           text PRIMARY KEY,
    company      text NOT NULL,
    credit       bigint NOT NULL,
    open_amount  bigint NOT NULL DEFAULT 0
);
CREATE TABLE counters (
    scope   text NOT NULL,
    period  text NOT NULL,
    value   bigint NOT NULL,
    PRIMARY KEY (scope, period)
);
CREATE TABLE sales (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    company   text NOT NULL,
    scope     text NOT NULL,
    period    text NOT NULL,
    number    bigint NOT NULL,
    text      text NOT NULL,
    item      text NOT NULL REFERENCES items,
    quantity  bigint NOT NULL,
    amount    bigint NOT NULL,
    customer  text REFERENCES customers,
    dated     timestamptz NOT NULL,
    token     text NOT NULL,
    status    text NOT NULL DEFAULT 'issued',
    reason    text
);
CREATE INDEX sales_place ON sales (scope, period, number);
CREATE INDEX sales_of_customer ON sales (customer) WHERE customer IS NOT NULL;
CREATE INDEX sales_token ON sales (token);
CREATE INDEX sales_text ON sales (text);
CREATE TABLE attempts (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope   text NOT NULL,
    period  text NOT NULL,
    token   text NOT NULL,
    reason  text NOT NULL,
    at      timestamptz NOT NULL
);
"""
NUMBER_INDEX = "ALTER TABLE sales ADD CONSTRAINT sales_number_key UNIQUE (scope, period, number);"
STOCK_CHECK = "ALTER TABLE items ADD CONSTRAINT items_never_below_zero CHECK (quantity >= 0);"

TAKE = """
INSERT INTO counters (scope, period, value) VALUES (:scope, :period, 1)
ON CONFLICT (scope, period) DO UPDATE SET value = counters.value + 1 RETURNING value
"""
STORE = """
INSERT INTO sales (company, scope, period, number, text, item, quantity, amount, customer, dated, token)
VALUES (:company, :scope, :period, :number, :text, :item, :quantity, :amount, :customer, :dated, :token)
"""
OWED = "SELECT coalesce(sum(amount), 0)::bigint FROM sales WHERE customer = c.id AND status = 'issued'"
VOID = """
UPDATE sales SET status = 'void', reason = :reason WHERE company = :company AND text = :text AND status = 'issued'
RETURNING item, quantity, customer, amount
"""
GAPS = """
WITH issued AS (SELECT number FROM sales WHERE scope = :scope AND period = :period),
     drawn AS (SELECT value FROM counters WHERE scope = :scope AND period = :period),
     top AS (SELECT greatest((SELECT max(number) FROM issued), (SELECT value FROM drawn), 0) AS highest),
     missing AS (SELECT n FROM generate_series(1, (SELECT highest FROM top)) AS n EXCEPT SELECT number FROM issued)
SELECT (SELECT count(*) FROM issued) AS issued, (SELECT highest FROM top) AS highest,
       (SELECT count(*) FROM missing) AS missing,
       (SELECT array_agg(n ORDER BY n) FROM (SELECT n FROM missing ORDER BY n LIMIT 20) AS first) AS numbers,
       (SELECT coalesce(json_object_agg(reason, times), '{}') FROM (
            SELECT reason, count(*) AS times FROM attempts
            WHERE scope = :scope AND period = :period AND reason <> :unknown GROUP BY reason
        ) AS counted) AS failed
"""

UNKNOWN = "unknown"
"""Why an attempt failed whose connection was lost: perhaps it did not."""


class SaleKeys(Keys):
    """Keys whose intents are remembered with their invoice, long after the key itself was forgotten."""

    def recall(self, tx: Transaction, ask: Keyed) -> Answer | None:
        """Return what was sold for this token, and under which number."""
        answer = super().recall(tx, ask)
        if answer is None:
            return None
        if ask.f == "void_sale":
            return {**answer, "status": "void"}
        if ask.f != "sell":
            return answer
        sale = tx.row("SELECT scope, period, number, text FROM sales WHERE token = :token", token=ask.key)
        return {**answer, **(sale._mapping if sale else {})}


class SellInOneTransaction(PostgresBusiness):
    """Stock and credit are taken by conditional updates, the number is drawn last, and all of it commits together."""

    keys = SaleKeys()
    without_key = frozenset({"gaps", "deliver"})
    customers_books: ClassVar[str] = f"""
        SELECT c.id, c.credit AS "limit", c.open_amount, ({OWED}) AS sold FROM customers c
    """
    refusals: ClassVar[Mapping[str, Callable[[Ask], Refused]]] = {
        "items_pkey": lambda ask: rules.exists_already("item", ask.subject),
        "customers_pkey": lambda ask: rules.exists_already("customer", ask.subject),
    }

    @classmethod
    def tables(cls, settings: Settings) -> str:
        """Return the DDL. ``unique_index`` and ``stock_check`` add the second lines of defence."""
        parts = [SCHEMA]
        if settings["unique_index"]:
            parts.append(NUMBER_INDEX)
        if settings["stock_check"]:
            parts.append(STOCK_CHECK)
        return "\n".join(parts)

    @classmethod
    def books(cls, settings: Settings) -> Mapping[str, str]:
        """Return how each canonical table is read."""
        return {
            "documents": """
                SELECT id, scope, period, number, text, token, status, dated, amount, reason FROM sales
            """,
            "counters": "SELECT scope, period, value FROM counters",
            "stock": """
                SELECT i.id AS item, i.opening, i.quantity, coalesce(s.sold, 0) AS sold FROM items i
                LEFT JOIN (
                    SELECT item, sum(quantity) AS sold FROM sales WHERE status = 'issued' GROUP BY item
                ) s ON s.item = i.id
            """,
            "customers": cls.customers_books,
            **outbox.BOOKS,
        }

    def understand(self, f: str, arguments: Mapping[str, Any], token: str) -> Ask:
        """Read the request, or refuse it."""
        return understand(f, arguments, token)

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Carry out one operation, and log a sale that failed, unless its request makes no sense at all (422)."""
        try:
            return super().call(f, arguments, token, checkpoint)
        except (Refused, DBAPIError) as e:
            if f == "sell" and not (isinstance(e, Refused) and e.status == 422):
                self.log_attempt(self.understand(f, arguments, token), e)
            raise

    # The operations -------------------------------------------------------------------------------------------------

    def stock_item(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take an item into stock."""
        tx.change(
            "INSERT INTO items (id, company, price, opening, quantity) VALUES (:id, :company, :price, :quantity, :quantity)",
            id=ask.subject,
            company=ask.company,
            price=ask.price,
            quantity=ask.quantity,
        )
        self.record(tx, ask, ask.price)
        return {"subject": ask.subject, "amount": ask.price}

    def add_customer(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Add a customer who may buy on credit up to a limit."""
        tx.change(
            "INSERT INTO customers (id, company, credit) VALUES (:id, :company, :limit)",
            id=ask.subject,
            company=ask.company,
            limit=ask.limit,
        )
        self.record(tx, ask, ask.limit)
        return {"subject": ask.subject, "amount": ask.limit}

    def sell(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Sell, and return the invoice's number."""
        price = self.take_stock(tx, ask)
        tx.at("stock_taken")
        amount = self.check(ask, price)
        if ask.customer is not None:
            self.take_credit(tx, ask, amount)
            tx.at("credit_taken")
        self.work(ask)
        scope, period, prefix = rules.series(ask.branch, ask.at)
        number = self.draw(tx, scope, period)
        tx.at("number_taken")
        place = {"scope": scope, "period": period, "number": number, "text": f"{prefix}{number:04d}"}
        self.store(tx, ask, place, amount)
        tx.at("document_stored")
        self.record(tx, ask, amount)
        return {"subject": ask.subject, "amount": amount, **place}

    def void_sale(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Void a sale, with its reason: what it took goes back, and its number stays taken for ever."""
        sale = self.mark_void(tx, ask)
        tx.at("sale_voided")
        self.return_stock(tx, sale)
        if sale.customer is not None:
            self.return_credit(tx, sale)
        self.record(tx, ask, sale.amount)
        return {"subject": ask.subject, "amount": sale.amount, "status": "void"}

    def gaps(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Tell how many numbers of a branch are missing on the day of ``at``, what to make of it, and why sales failed.

        The counter is asked as well: nothing is stored above numbers that were lost at the end of a day. Here only settled
        gaps are seen, because counter and sale are committed together; where a number is drawn in a transaction of its own,
        one that is under way is missing until its sale is stored.
        """
        scope, period, _ = rules.series(ask.branch, ask.at)
        found = tx.row(GAPS, scope=scope, period=period, unknown=UNKNOWN)
        return {
            "scope": scope,
            "period": period,
            "issued": found.issued,
            "highest": found.highest,
            "missing": found.missing,
            "numbers": found.numbers or [],
            "failed_attempts": sum(found.failed.values()),
            "reasons": dict(sorted(found.failed.items(), key=lambda counted: (-counted[1], counted[0]))),
            "judgement": rules.judge_gaps(missing=found.missing, highest=found.highest),
        }

    def deliver(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Publish what waits in the outbox."""
        return self.outbox.deliver(self.session, tx, ask.most)

    # Steps ----------------------------------------------------------------------------------------------------------

    def take_stock(self, tx: Transaction, ask: Ask) -> int:
        """Take the quantity out of stock if it is there; return the item's price."""
        item = change_or_refuse(
            lambda: tx.row(
                "UPDATE items SET quantity = quantity - :quantity"
                " WHERE id = :item AND company = :company AND quantity >= :quantity RETURNING price",
                item=ask.item,
                company=ask.company,
                quantity=ask.quantity,
            ),
            lambda: self.item(tx, ask, lock=" FOR UPDATE"),
            lambda stands: rules.insufficient_stock(ask.item, wanted=ask.quantity, left=stands.quantity),
        )
        return int(item.price)

    def check(self, ask: Ask, price: int) -> int:
        """Check price and discount; return what the sale costs."""
        if ask.price != price:
            raise rules.price_mismatch(asked=ask.price, price=price)
        if ask.discount_bp > rules.DISCOUNT_WITHOUT_PERMISSION and not ask.discount_permitted:
            raise rules.discount_not_permitted(ask.discount_bp)
        return rules.amount_of(price=price, quantity=ask.quantity, discount_bp=ask.discount_bp)

    def take_credit(self, tx: Transaction, ask: Ask, amount: int) -> None:
        """Add to what the customer owes if the limit allows it."""
        change_or_refuse(
            lambda: tx.change(
                "UPDATE customers SET open_amount = open_amount + :amount"
                " WHERE id = :id AND company = :company AND open_amount + :amount <= credit",
                id=ask.customer,
                company=ask.company,
                amount=amount,
            ),
            lambda: self.customer(tx, ask, lock=" FOR UPDATE"),
            lambda stands: rules.credit_exceeded(amount=amount, limit=stands.credit, open_amount=stands.open_amount),
        )

    def work(self, ask: Ask) -> None:
        """Compute what takes its time and needs no number; here, wait as long. Item and customer are locked meanwhile.

        Nothing that has an effect elsewhere, such as a call to a payment terminal, belongs here: this transaction may be run
        again from its beginning, or roll back, and whoever wants the same item waits for it. Reserve and commit first, then
        call with a key of the call's own, then confirm in a second transaction; or let the outbox deliver it.
        """
        if self.settings["work_ms"]:
            time.sleep(self.settings["work_ms"] / 1000)

    def draw(self, tx: Transaction, scope: str, period: str) -> int:
        """Draw the next number of the branch's day."""
        return int(tx.value(TAKE, scope=scope, period=period))

    def store(self, tx: Transaction, ask: Ask, place: Mapping[str, Any], amount: int) -> None:
        """Store the sale under its number."""
        tx.change(
            STORE,
            **place,
            company=ask.company,
            item=ask.item,
            quantity=ask.quantity,
            amount=amount,
            customer=ask.customer,
            dated=ask.at,
            token=ask.key,
        )

    def mark_void(self, tx: Transaction, ask: Ask) -> Any:
        """Mark the one issued sale with this number as void, and return what it took."""
        voided = change_or_refuse(
            lambda: tx.rows(VOID, company=ask.company, text=ask.subject, reason=ask.reason),
            lambda: self.lock_sale(tx, ask),
            lambda stands: rules.not_one(ask.subject, 0),
        )
        if len(voided) > 1:
            raise rules.not_one(ask.subject, len(voided))
        return voided[0]

    def lock_sale(self, tx: Transaction, ask: Ask) -> None:
        """Lock what was sold under this number, if anything was."""
        found = tx.rows(
            "SELECT FROM sales WHERE company = :company AND text = :text FOR UPDATE", company=ask.company, text=ask.subject
        )
        if not found:
            raise unknown("sale", ask.subject)

    def return_stock(self, tx: Transaction, sale: Any) -> None:
        """Put back what the sale took out of stock."""
        tx.change("UPDATE items SET quantity = quantity + :quantity WHERE id = :item", item=sale.item, quantity=sale.quantity)

    def return_credit(self, tx: Transaction, sale: Any) -> None:
        """Take the sale off what its customer owes."""
        tx.change("UPDATE customers SET open_amount = open_amount - :amount WHERE id = :id", id=sale.customer, amount=sale.amount)

    def item(self, tx: Transaction, ask: Ask, *, lock: str = "") -> Any:
        """Read an item of this company, to explain. Never to decide."""
        item = tx.row(
            f"SELECT price, quantity FROM items WHERE id = :item AND company = :company{lock}", item=ask.item, company=ask.company
        )
        if item is None:
            raise unknown("item", ask.item)
        return item

    def customer(self, tx: Transaction, ask: Ask, *, lock: str = "") -> Any:
        """Read a customer of this company, to explain. Never to decide."""
        customer = tx.row(
            f"SELECT credit, open_amount FROM customers WHERE id = :id AND company = :company{lock}",
            id=ask.customer,
            company=ask.company,
        )
        if customer is None:
            raise unknown("customer", ask.customer or "")
        return customer

    def log_attempt(self, ask: Ask, error: Refused | DBAPIError) -> None:
        """Log a sale that failed, on another connection: the sale's own transaction is gone, or, with a lost line, perhaps not.

        A log that cannot be written does not change what the client is told.
        """
        if self.session.is_cut:
            return
        scope, period, _ = rules.series(ask.branch, ask.at)
        with suppress(SQLAlchemyError):  # a pool that has no second connection to lend says so with more than a DBAPIError
            self.session.aside(
                lambda tx: tx.change(
                    "INSERT INTO attempts (scope, period, token, reason, at) VALUES (:scope, :period, :token, :reason, :at)",
                    scope=scope,
                    period=period,
                    token=ask.key,
                    reason=error.refusal if isinstance(error, Refused) else sqlstate(error) or UNKNOWN,
                    at=ask.at,
                )
            )
