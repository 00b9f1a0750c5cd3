"""Who waits for whom, asked of MongoDB. A control client is used for it, never one that goes through the gate.

MongoDB has no `pg_blocking_pids`. A transaction that meets another's write fails at once (WriteConflict) and waits for
nobody; a plain write that meets a transaction's is tried again inside the server until the transaction ends, which shows
as a running operation with ``writeConflicts``; readers of prepared transactions and waiters for intent locks show as such.
So an answer here says that an operation waits and why, not for whom: that is whoever of ours has a transaction open.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

CONTROL = "racegate control"
"""The application name of our own connections past the proxy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """An operation that waits. ``write_conflicts`` counts how often it was tried again so far."""

    port: int
    session: str
    reason: str
    write_conflicts: int
    microseconds: int


def waiting_ports(control: Any, ports: Collection[int]) -> dict[int, Waiting]:
    """Return our operations that wait, by the port from which the proxy is connected (`ConnectionOpened.backend`).

    Args:
        control: a `pymongo.MongoClient` of its own.
        ports: ours.
    """
    ours = set(ports)
    found: dict[int, Waiting] = {}
    for operation in _operations(control):
        port = _port(operation)
        reason = _reason(operation)
        if port in ours and reason:
            found[port] = Waiting(
                port=port,
                session=_session(operation),
                reason=reason,
                write_conflicts=int(operation.get("writeConflicts") or 0),
                microseconds=int(operation.get("microsecs_running") or 0),
            )
    return found


def running_ports(control: Any, ports: Collection[int]) -> set[int]:
    """Return those of our connections on which the server is working, waiting or not."""
    return {_port(o) for o in _operations(control)} & set(ports)


def strangers(control: Any, database: str, ports: Collection[int]) -> list[str]:
    """Describe the connections that work in a database, or bear its name, and did not come through the proxy.

    A database's URL carries its name as the application's (`harness.stores.base.Database`), so that an application that
    was handed the wrong URL is seen even while it is idle. Our own control clients are left out by their name.

    Args:
        control: as above.
        database: its name.
        ports: every port from which the proxy is connected (`WireProxy.store_ports`).
    """
    ours = set(ports)
    stages = [
        {"$currentOp": {"allUsers": True, "idleSessions": True, "idleConnections": True}},
        {"$match": {"client": {"$exists": True}, "appName": {"$ne": CONTROL}}},
        {"$match": {"$or": [{"appName": database}, {"ns": {"$regex": f"^{re.escape(database)}\\."}}]}},
    ]
    found = {
        f"{o.get('appName') or 'an unnamed application'} ({o['client']})"
        for o in control.admin.aggregate(stages)
        if _port(o) not in ours
    }
    return sorted(found)


def _operations(control: Any) -> list[dict[str, Any]]:
    stages = [
        {"$currentOp": {"allUsers": True, "idleConnections": False}},
        {"$match": {"active": True, "client": {"$exists": True}}},
    ]
    return list(control.admin.aggregate(stages))


def _reason(operation: dict[str, Any]) -> str:
    if operation.get("waitingForLock"):
        return "waits for a lock"
    if operation.get("prepareReadConflicts"):
        return "reads what a prepared transaction wrote"
    if operation.get("writeConflicts"):
        return "writes what a transaction wrote"
    return ""


def _port(operation: dict[str, Any]) -> int:
    return int(str(operation.get("client", ":0")).rpartition(":")[2] or 0)


def _session(operation: dict[str, Any]) -> str:
    identity = (operation.get("lsid") or {}).get("id")
    if identity is None:
        return ""
    return identity.hex if hasattr(identity, "hex") and not isinstance(identity, bytes) else bytes(identity).hex()
