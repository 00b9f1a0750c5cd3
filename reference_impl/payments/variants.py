"""The variants of term payments by name."""

from __future__ import annotations

from typing import Any

from reference_impl.payments import broken_mongo as wrong_mongo
from reference_impl.payments import broken_mongo_keys as mongo_keys
from reference_impl.payments import broken_postgres as wrong
from reference_impl.payments import broken_postgres_keys as keys
from reference_impl.payments import broken_postgres_outbox as outbox
from reference_impl.payments.mongo import ApproveInTransaction
from reference_impl.payments.postgres import ApproveInOneTransaction
from reference_impl.payments.postgres_locking import LockTheTerm
from reference_impl.payments.requests import OPERATIONS
from reference_impl.variants import ISOLATION, TRANSACTION, UNIQUE_INDEX, variant

POSTGRES = {"isolation": ISOLATION, "unique_index": UNIQUE_INDEX, "transaction": TRANSACTION}


class LockWithoutTransaction(LockTheTerm):
    """The same locks in autocommit, where each ends with its statement and guards nothing (P01).

    A locks p1: awaiting; B locks p1: awaiting; A takes 300 off; B takes 300 off; both write "paid". What was wrong
    with the document's fix, and nothing else: with ``transaction`` it is `LockTheTerm`, which mends its guard as well.
    """


ON_POSTGRES: tuple[tuple[str, type[ApproveInOneTransaction], dict[str, Any]], ...] = (
    ("approve_in_one_transaction", ApproveInOneTransaction, {}),
    ("lock_the_term", LockTheTerm, {}),
    ("lock_without_transaction", LockWithoutTransaction, {"transaction": False}),
    ("exists_then_insert", wrong.ExistsThenInsert, {}),
    ("guard_by_json_number", wrong.GuardByJsonNumber, {}),
    ("guard_with_null_term", wrong.GuardWithNullTerm, {}),
    ("validates_account_balance", wrong.ValidatesAccountBalance, {}),
    ("approve_without_recheck", wrong.ApproveWithoutRecheck, {}),
    ("absolute_balance", wrong.AbsoluteBalance, {}),
    ("blind_status", wrong.BlindStatus, {}),
    ("resolution_row", wrong.ResolutionRow, {}),
    ("refund_by_sum", wrong.RefundBySum, {}),
    ("webhook_without_dedup", wrong.WebhookWithoutDedup, {}),
    ("float_balance", wrong.FloatBalance, {}),
    ("rounded_split", wrong.RoundedSplit, {}),
    ("key_inserted_last", keys.RefundsWithKeyInsertedLast, {}),
    ("key_without_fingerprint", keys.RefundsWithoutFingerprint, {}),
    ("key_is_all_that_is_known", keys.RefundsForgottenWithKey, {}),
    ("key_lock_taken_over", keys.RefundsWithKeyTakenOver, {}),
    ("key_committed_first", keys.RefundsWithKeyCommittedFirst, {}),
    ("key_stores_any_failure", keys.RefundsWithStoredFailures, {"isolation": "repeatable_read"}),
    ("audit_afterwards", outbox.AuditAfterwards, {}),
    ("side_effect_first", outbox.SideEffectFirst, {}),
    ("consumer_without_dedup", outbox.ConsumerWithoutDedup, {}),
    ("poll_by_cursor", outbox.PollByCursor, {}),
)

MONGO = {"unique_index": UNIQUE_INDEX, "transaction": TRANSACTION}

ON_MONGO: tuple[tuple[str, type[ApproveInTransaction], dict[str, Any]], ...] = (
    ("approve_in_transaction", ApproveInTransaction, {}),
    ("guard_then_insert", wrong_mongo.GuardThenInsert, {}),
    ("guard_by_json_number", wrong_mongo.GuardByJsonNumber, {}),
    ("approve_without_recheck", wrong_mongo.ApproveWithoutRecheck, {}),
    ("validates_account_balance", wrong_mongo.ValidatesAccountBalance, {}),
    ("replace_document", wrong_mongo.ReplaceDocument, {"transaction": False}),
    ("blind_status", wrong_mongo.BlindStatus, {"transaction": False}),
    ("resolution_document", wrong_mongo.ResolutionDocument, {"transaction": False}),
    ("webhook_without_dedup", wrong_mongo.WebhookWithoutDedup, {}),
    ("token_looked_up_first", wrong_mongo.TokenLookedUpFirst, {}),
    ("fingerprint_ignored", wrong_mongo.FingerprintIgnored, {}),
    ("rounded_split", wrong_mongo.RoundedSplit, {}),
    ("forgotten_with_key", mongo_keys.ForgottenWithKey, {}),
    ("key_taken_over", mongo_keys.KeyTakenOver, {}),
    ("key_committed_first", mongo_keys.KeyCommittedFirst, {}),
    ("key_stores_any_failure", mongo_keys.KeyStoresAnyFailure, {}),
    ("audit_afterwards", mongo_keys.AuditAfterwards, {}),
    ("audit_without_session", mongo_keys.AuditWithoutSession, {}),
    ("side_effect_first", mongo_keys.SideEffectFirst, {}),
    ("consumer_without_dedup", mongo_keys.ConsumerWithoutDedup, {}),
)

for _name, _implementation, _defaults in ON_POSTGRES:
    variant(f"pg.{_name}", operations=frozenset(OPERATIONS), settings=POSTGRES, **_defaults)(_implementation)
for _name, _on_mongo, _defaults in ON_MONGO:
    variant(f"mongo.{_name}", operations=frozenset(OPERATIONS), settings=MONGO, **_defaults)(_on_mongo)
