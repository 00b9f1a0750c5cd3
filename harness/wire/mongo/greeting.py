"""The greeting (hello, or isMaster) and its reply, rewritten so that a driver stays at the proxy. Pure.

A replica set tells every driver its members' addresses, and the driver leaves for them: so the addresses become the
proxy's. Compression is not offered on, because then nobody compresses. A driver that learns the topology's version has
the server stream its state (exhaust), which a connection that is held cannot carry: without a version it polls instead.
``speculativeAuthenticate`` rides along untouched.
"""

from __future__ import annotations

from typing import Any

NAMES = frozenset({"hello", "isMaster", "ismaster"})

_MEMBERS = ("passives", "arbiters")


def request_through(command: dict[str, Any]) -> dict[str, Any]:
    """Return what is sent to the server instead of the driver's greeting."""
    return {k: v for k, v in command.items() if k not in ("compression", "topologyVersion", "maxAwaitTimeMS")}


def wants_load_balancer(command: dict[str, Any]) -> bool:
    """Tell whether the driver believes that it talks to a load balancer, which is another protocol on top."""
    return bool(command.get("loadBalanced"))


def reply_through(reply: dict[str, Any], address: str) -> dict[str, Any]:
    """Return what the driver is told instead of the server's reply: a set with the proxy as its only member."""
    out = {k: v for k, v in reply.items() if k not in (*_MEMBERS, "topologyVersion", "compression")}
    if "hosts" in out:
        out["hosts"] = [address]
    if "me" in out:
        out["me"] = address
    if "primary" in out:
        if out.get("isWritablePrimary") or out.get("ismaster"):
            out["primary"] = address
        else:
            del out["primary"]
    return out
