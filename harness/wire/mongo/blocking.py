"""Who waits for whom, asked of MongoDB. A control client is used for it, never one that goes through the gate.

MongoDB has no `pg_blocking_pids`. A transaction that meets another's write fails at once (WriteConflict) and waits for
nobody; a plain write that meets a transaction's is tried again inside the server until the transaction ends, which shows
as a running operation with ``writeConflicts``; readers of prepared transactions and waiters for intent locks show as such.
So an answer here says that an operation waits and why, not for whom: that is whoever of ours has a transaction open.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any


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
    """Describe the operations and open transactions in a database that did not come through our connections."""
    ours = set(ports)
    stages = [
        {"$currentOp": {"allUsers": True, "idleSessions": True}},
        {"$match": {"ns": {"$regex": f"^{database}\\."}}},
    ]
    return [
        f"{o.get('appName') or 'an unnamed application'} ({o.get('client')}): {o.get('op')} {o.get('ns')}"
        for o in control.admin.aggregate(stages)
        if o.get("client") and _port(o) not in ours
    ]


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
