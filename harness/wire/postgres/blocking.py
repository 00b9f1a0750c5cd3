"""Who waits for whom, asked of PostgreSQL. A control connection is used for it, never one that goes through the gate."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

_BLOCKED = """
    SELECT pid, pg_blocking_pids(pid) || pg_safe_snapshot_blocking_pids(pid)
    FROM unnest(%s::int[]) AS pid
"""
_STRANGERS = """
    SELECT pid, coalesce(application_name, ''), coalesce(host(client_addr), 'local')
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
      AND application_name <> 'racegate control' AND pid <> pg_backend_pid() AND pid <> ALL(%s::int[])
"""
_RUNNING = """
    SELECT pid, state, wait_event_type, wait_event FROM pg_stat_activity WHERE pid = ANY(%s::int[])
"""


class Control(Protocol):
    """What is needed of a control connection: a psycopg connection in autocommit is one."""

    def execute(self, query: Any, params: Any = None, /) -> Any:
        """Run one statement and return its cursor."""


def blocked_pids(control: Control, pids: Collection[int]) -> dict[int, list[int]]:
    """Return, for each of our backends that waits for others of ours, those that it waits for.

    Waits for outsiders (autovacuum, the control connection) are left out: they are transient and not ours to decide. A
    SERIALIZABLE READ ONLY DEFERRABLE transaction that waits for a safe snapshot counts as waiting. Prepared
    transactions appear in PostgreSQL as process 0 and are outsiders too.

    Args:
        control: a connection of its own, in autocommit.
        pids: our backends. Those that are gone do not appear in the answer.
    """
    ours = set(pids)
    if not ours:
        return {}
    rows = control.execute(_BLOCKED, (sorted(ours),)).fetchall()
    found = {pid: sorted(set(blockers) & ours) for pid, blockers in rows}
    return {pid: blockers for pid, blockers in found.items() if blockers}


def waits(control: Control, pids: Collection[int]) -> dict[int, str]:
    """Say in short what each of our backends is doing: ``active, waits for Lock transactionid``."""
    rows = control.execute(_RUNNING, (sorted(pids),)).fetchall()
    return {
        pid: str(state) + (f", waits for {kind} {event}" if kind and kind != "Client" else "") for pid, state, kind, event in rows
    }


def strangers(control: Control, pids: Collection[int]) -> list[str]:
    """Describe the backends in the control connection's database that did not come through the proxy.

    Our own control connections are left out by their name, ``racegate control``.
    """
    rows = control.execute(_STRANGERS, (sorted(pids),)).fetchall()
    return [f"backend {pid} of {name or 'an unnamed application'} ({address})" for pid, name, address in rows]


def terminate_backend(control: Control, pid: int) -> None:
    """End a backend; what it had open is rolled back."""
    control.execute("SELECT pg_terminate_backend(%s)", (pid,))
