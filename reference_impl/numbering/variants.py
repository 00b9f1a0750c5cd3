"""The variants of numbering by name."""

from __future__ import annotations

from typing import Any

from reference_impl.numbering import broken_mongo as wrong_mongo
from reference_impl.numbering import broken_postgres as wrong
from reference_impl.numbering import broken_postgres_more as more
from reference_impl.numbering import mongo, postgres
from reference_impl.numbering import postgres_blocks as blocks
from reference_impl.numbering import postgres_others as others
from reference_impl.numbering import postgres_reservations as reservations
from reference_impl.variants import ISOLATION, UNIQUE_INDEX, WRITE_CONCERN, variant

OPERATIONS = frozenset({"create", "seed", "delete", "import_document"})
IN_TRANSACTION = OPERATIONS | {"post", "introduce", "void", "cleanup"}
"""What is offered wherever a create is a transaction. The others show what a create without one is worth, and little else."""
RESERVING = IN_TRANSACTION | {"reserve", "confirm", "release", "sweep"}

POSTGRES = {"isolation": ISOLATION, "unique_index": UNIQUE_INDEX}
MONGO = {"write_concern": WRITE_CONCERN, "unique_index": UNIQUE_INDEX}

ON_POSTGRES: tuple[tuple[str, type[postgres.CounterRow], dict[str, Any]], ...] = (
    ("counter_row", postgres.CounterRow, {}),
    ("counter_row_one_statement", others.CounterRowOneStatement, {}),
    ("increment_then_refresh_in_transaction", others.IncrementThenRefreshInTransaction, {}),
    ("native_sequence", others.NativeSequence, {}),
    ("native_sequence_after_check", others.NativeSequenceAfterCheck, {}),
    ("advisory_lock_max", others.MaxUnderAdvisoryLock, {}),
    ("serializable_max", others.MaxSerializable, {}),
    ("optimistic_savepoint", others.OptimisticSavepoint, {"unique_index": True}),
    ("count_plus_one", wrong.CountPlusOne, {}),
    ("latest_text_plus_one", wrong.LatestTextPlusOne, {}),
    ("lock_last_row", wrong.LockLastRow, {}),
    ("increment_then_refresh", wrong.IncrementThenRefresh, {}),
    ("load_add_save", wrong.LoadAddSave, {}),
    ("check_next_retry_fallback", wrong.CheckNextRetryFallback, {"unique_index": True}),
    ("counter_on_other_connection", wrong.CounterOnOtherConnection, {}),
    ("native_sequence_cached", wrong.NativeSequenceCached, {}),
    ("serializable_without_retry", wrong.SerializableWithoutRetry, {}),
    ("counter_row_without_retry", wrong.CounterRowWithoutRetry, {}),
    ("select_then_insert_counter", wrong.SelectThenInsertCounter, {}),
    ("swallowed_error", wrong.SwallowedError, {"unique_index": True}),
    ("retry_insert_only", wrong.RetryInsertOnly, {"unique_index": True}),
    ("counter_starts_at_zero", wrong.CounterStartsAtZero, {}),
    ("reserved_number", reservations.ReservedNumber, {}),
    ("block_allocation", blocks.BlockAllocation, {}),
    ("counters_in_any_order", more.CountersInAnyOrder, {}),
    ("counter_reset_on_start", more.CounterResetOnStart, {}),
    ("cleanup_renumbers", more.CleanupRenumbers, {}),
    ("void_without_register", more.VoidWithoutRegister, {}),
    ("confirm_by_look", more.ConfirmByLook, {}),
    ("reservations_never_lapse", more.ReservationsNeverLapse, {}),
    ("blocks_without_register", more.BlocksWithoutRegister, {}),
    ("block_read_then_moved", more.BlockReadThenMoved, {}),
    ("counter_goes_back", wrong.CounterGoesBack, {}),
    ("serial_on_conflict", wrong.SerialOnConflict, {}),
    ("two_time_zones", wrong.TwoTimeZones, {}),
    ("token_ignored", wrong.TokenIgnored, {}),
    ("token_checked_first", wrong.TokenCheckedFirst, {}),
    ("payload_not_compared", wrong.PayloadNotCompared, {}),
    ("period_from_the_clock", wrong.PeriodFromTheClock, {}),
    ("striped_counter", wrong.StripedCounter, {}),
    ("two_allocators", wrong.TwoAllocators, {}),
    ("share_then_update", wrong.ShareThenUpdate, {}),
)

ON_MONGO: tuple[tuple[str, type[mongo.CounterDocument], dict[str, Any]], ...] = (
    ("counter_document", mongo.CounterDocument, {}),
    ("counter_in_transaction", mongo.CounterInTransaction, {}),
    ("optimistic_insert", mongo.OptimisticInsert, {"unique_index": True}),
    ("count_plus_one", wrong_mongo.CountPlusOne, {}),
    ("latest_text_plus_one", wrong_mongo.LatestTextPlusOne, {}),
    ("increment_then_find", wrong_mongo.IncrementThenFind, {}),
    ("load_add_save", wrong_mongo.LoadAddSave, {}),
    ("check_next_retry_fallback", wrong_mongo.CheckNextRetryFallback, {"unique_index": True}),
    ("number_from_the_clock", wrong_mongo.NumberFromTheClock, {}),
    ("counter_without_scope_as_id", wrong_mongo.CounterWithoutScopeAsId, {}),
    ("counter_in_transaction_without_retry", wrong_mongo.CounterInTransactionWithoutRetry, {}),
    ("count_in_transaction", wrong_mongo.CountInTransaction, {}),
    ("unacknowledged_insert", wrong_mongo.UnacknowledgedInsert, {"unique_index": True, "write_concern": "0"}),
    ("retry_insert_only", wrong_mongo.RetryInsertOnly, {"unique_index": True}),
    ("counter_starts_at_zero", wrong_mongo.CounterStartsAtZero, {}),
    ("token_ignored", wrong_mongo.TokenIgnored, {}),
    ("period_from_the_clock", wrong_mongo.PeriodFromTheClock, {}),
    ("two_time_zones", wrong_mongo.TwoTimeZones, {}),
    ("striped_counter", wrong_mongo.StripedCounter, {}),
    ("two_allocators", wrong_mongo.TwoAllocators, {}),
    ("optimistic_insert_on_shards", mongo.OptimisticInsertOnShards, {"unique_index": True}),
    ("unique_on_each_shard", wrong_mongo.UniqueOnEachShard, {"unique_index": True}),
    ("index_without_scope", wrong_mongo.IndexWithoutScope, {}),
    ("cleanup_renumbers", wrong_mongo.CleanupRenumbers, {}),
)


def _offered(implementation: type[postgres.CounterRow]) -> frozenset[str]:
    if issubclass(implementation, blocks.BlockAllocation):  # see there
        return IN_TRANSACTION - {"delete", "import_document"}
    if issubclass(implementation, others.OptimisticSavepoint):  # each document of an event would need tries of its own
        return IN_TRANSACTION - {"post"}
    if issubclass(implementation, reservations.ReservedNumber):
        return RESERVING
    return IN_TRANSACTION if implementation.transaction else OPERATIONS


for _name, _implementation, _defaults in ON_POSTGRES:
    variant(f"pg.{_name}", operations=_offered(_implementation), settings=POSTGRES, **_defaults)(_implementation)
for _name, _on_mongo, _defaults in ON_MONGO:
    variant(f"mongo.{_name}", operations=_on_mongo.jobs | {"create"}, settings=MONGO, **_defaults)(_on_mongo)
