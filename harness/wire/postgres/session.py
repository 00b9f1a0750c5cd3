"""One PostgreSQL connection's conversation, cut into units that can be held. No I/O.

What ends a unit. In the simple protocol every Query is one. In the extended protocol a unit ends with Sync, and with Flush,
after which a client usually waits; that a client says Sync right behind a Flush does not join the two, or the cut would
depend on how the bytes were chunked. A unit is done at ReadyForQuery, or, if it ended with Flush, when each of its
messages has been answered. After an error the server skips to Sync, and so does the count here.

What is a step. A unit that executes something, unless all that it executes is housekeeping outside a transaction (or
takes no lock and no snapshot inside one). Preparing alone is not: it touches no row. A Sync by itself is one if it commits
what was executed and flushed before it outside a transaction.

Known weakness: the SQL of statements made with the SQL command PREPARE is shown as EXECUTE; functions hide what they do;
a client that uses PREPARE-only round trips takes its snapshot there (at REPEATABLE READ), which is forwarded unasked
right after the step before it, so that no order of snapshots and commits is lost.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any

from harness.wire.base import SHOWN_ROWS, Result, Status, Step, StepKind
from harness.wire.conversation import (
    Cancel,
    Finished,
    Invite,
    Item,
    Opened,
    Refused,
    StartTls,
    ToClient,
    ToServer,
    Unit,
    Unreadable,
)
from harness.wire.postgres import frames
from harness.wire.postgres.frames import CLIENT_LIMITS, SERVER_LIMITS, FrameError, Message, Reader
from harness.wire.postgres.statements import Facts, facts_of, joined_kind, level_chosen
from harness.wire.postgres.units import Names, PostgresUnit, described_columns
from harness.wire.postgres.values import fields_of, row_of


class Phase(Enum):
    """How far a connection has come."""

    STARTUP = "start-up"
    AUTHENTICATION = "authentication"
    READY = "ready"
    TUNNEL = "tunnel"


class Act(Enum):
    """What a client's message means for the unit that is being said."""

    COLLECT = "collect"
    END = "end"
    FLUSH = "flush"
    COPY = "copy"
    PASS = "pass"
    BYE = "bye"


def _acts(**letters: Act) -> dict[int, Act]:
    return {ord(letter): act for letters_, act in letters.items() for letter in letters_}


CLIENT_ACTS: dict[Phase, dict[int, Act]] = {
    Phase.AUTHENTICATION: _acts(p=Act.PASS, X=Act.BYE, QFS=Act.END, H=Act.FLUSH, PBDEC=Act.COLLECT, dcf=Act.PASS),
    Phase.READY: _acts(p=Act.PASS, X=Act.BYE, QFS=Act.END, H=Act.FLUSH, PBDEC=Act.COLLECT, dcf=Act.COPY),
}
"""The state table of the client's side after start-up. A letter that is not in it is not understood."""

_S, _H = b"SH"
_READY, _ERROR, _TAG, _COLUMNS, _ROW = b"ZECTD"
_COPY_IN, _KEY, _SETTING, _TYPES = b"GKSt"
_ANSWERS = frozenset(b"123TnCIs")
"""Server's messages that each end the answer to one message of a unit that ended with Flush."""

_WATCHED = frozenset(b"ECTDtn")
_TURNING = frozenset(b"ZGWKS")


class PostgresSession:
    """See `harness.wire.conversation.Session`.

    Args:
        tls: a client that asks for TLS gets it, from the proxy.
        strip_binding: remove SCRAM-SHA-256-PLUS from what the server offers, because its TLS is not the client's.
    """

    def __init__(self, *, tls: bool = False, strip_binding: bool = False) -> None:
        self.status = Status.IDLE
        self.phase = Phase.STARTUP
        self.user = ""
        self.application_name = ""
        self.backend: int | None = None
        self._cancel_key = b""
        self._tls = tls
        self._strip_binding = strip_binding
        self._client = Reader(CLIENT_LIMITS, startup=True)
        self._server = Reader(SERVER_LIMITS)
        self._parts: list[Message] = []
        self._last: PostgresUnit | None = None
        self._names = Names()
        self._in_flight: deque[PostgresUnit] = deque()
        self._skipping = False
        self._flushed = False
        """Something was executed and flushed that the next Sync commits."""
        self._session_locks = False
        self._isolation = ""

    @property
    def ready(self) -> bool:
        """The server said once that it is ready."""
        return self.phase is Phase.READY or self.phase is Phase.TUNNEL

    @property
    def outlives_connection(self) -> bool:
        """It does not: the server rolls back."""
        return False

    @property
    def cancel_key(self) -> bytes:
        """The secret with which the server lets this connection be cancelled: 4 bytes, in protocol 3.2 up to 256."""
        return self._cancel_key

    def _unread(self) -> bool:
        return self.phase is Phase.TUNNEL

    def in_transaction(self) -> bool:
        """Tell whether the server would have something to roll back."""
        return self.status is not Status.IDLE or bool(self._in_flight)

    # The client's side

    def client_data(self, data: bytes) -> list[Item]:
        """Take in what the application sent."""
        if self._unread():
            return [Unit(data, replies=False)]
        out: list[Item] = []
        found = self._client.feed(data)
        while self.phase is Phase.STARTUP and found:
            self._start(found[0][1], out)
            found = self._client.feed(b"") if not self._client.error else []
        if not self._unread():
            self._say(found, out)
        if self._client.error is not None and not self._unread():
            self._tunnel(self._client.error, out)
        return out

    def _start(self, message: bytes, out: list[Item]) -> None:
        code = int.from_bytes(message[4:8], "big")
        if code == frames.SSL_REQUEST and self._tls:
            if self._client.rest:  # what was said before the encryption must not pass for having been said within it
                out.append(Refused(b"", "data right behind a request for TLS"))
                self._client = Reader(CLIENT_LIMITS, startup=True)
            else:
                self._tls = False
                out.append(StartTls(b"S"))
        elif code in (frames.SSL_REQUEST, frames.GSS_REQUEST):
            out.append(ToClient(b"N"))
        elif code == frames.CANCEL_REQUEST:
            out.append(Cancel(message, (int.from_bytes(message[8:12], "big"), message[12:])))
        elif code >> 16 != 3:
            self._client.startup = False
            self._tunnel(f"protocol {code >> 16}.{code & 0xFFFF}", out, message)
        else:
            self._client.startup = False
            fields = message[8:].split(b"\0")
            options = dict(zip(fields[::2], fields[1::2], strict=False))
            self.user = options.get(b"user", b"").decode("utf-8", "replace")
            self.application_name = options.get(b"application_name", b"").decode("utf-8", "replace")
            given = b"; ".join([b" = ".join(pair) for pair in options.items()]).decode("utf-8", "replace")
            self._isolation = level_chosen(given.replace("\\ ", " ")) or ""
            if options.get(b"replication", b"false").lower() not in (b"false", b"off", b"no", b"0", b""):
                self._tunnel("a replication connection", out, message)
            else:
                self.phase = Phase.AUTHENTICATION
                out.append(ToServer(message))

    def _say(self, messages: list[Message], out: list[Item]) -> None:
        acts = CLIENT_ACTS.get(self.phase, {})
        parts = self._parts
        for message in messages:
            kind = message[0]
            act = acts.get(kind)
            if kind in (_S, _H) and not parts and self._copies():
                act = Act.COPY
            if act is Act.COLLECT:
                parts.append(message)
            elif act is Act.END or act is Act.FLUSH:
                parts.append(message)
                self._last = self._unit(parts)
                out.append(self._last)
                self._parts = parts = []
            elif act is Act.COPY:
                self._copy(message, out)
            elif act is Act.BYE:
                out.append(PostgresUnit(message[1], closing=True, replies=False))
            elif self.phase is Phase.AUTHENTICATION:
                out.append(ToServer(message[1]))
            else:
                out.append(PostgresUnit(message[1], replies=False))

    def _copies(self) -> bool:
        """Tell whether a Flush or Sync comes while data is copied in: the server takes no notice until the data ends."""
        last = self._last
        return last is not None and not last.over and (last.copying or (last.copied and last.simple is None))

    def _copy(self, message: Message, out: list[Item]) -> None:
        """Take in data to be copied: not every client waits to be asked for it, so the COPY itself may still be held."""
        kind, data = message
        last = self._last
        if last is None or last.over:
            out.append(ToServer(data))  # late, after an error; the server ignores it
            return
        last.copied = True
        if kind == _S and not last.copying:
            last.more_syncs += 1
        if last.begun:
            out.append(ToServer(data))
        else:
            if not isinstance(last.data, bytearray):
                last.data = bytearray(last.data)
            last.data += data

    def _unit(self, parts: list[Message]) -> PostgresUnit:
        """Return the unit that these messages make."""
        unit = self._names.unit_of(parts)
        last = parts[-1][0]
        if last == _H:
            unit.awaits = len(parts) - 1
            self._flushed = self._flushed or bool(unit.portals)
        elif last == _S:
            unit.commits = self._flushed and not unit.portals
            self._flushed = False
        return unit

    # What the gate asks

    def gated(self, unit: Unit) -> bool:
        """Tell whether the unit is a step."""
        if not isinstance(unit, PostgresUnit) or not unit.replies:
            return False
        if unit.commits:
            return self.status is Status.IDLE and not self._skipping
        if unit.simple is None and not unit.portals:
            return unit.data[:1] == b"F"
        if self._skipping and unit.awaits >= 0:
            return False
        facts = self._facts(unit)
        if self.status is not Status.IDLE:
            return not all(f.harmless for f in facts)
        held = self._session_locks and any(f.drops_session_locks for f in facts)
        return held or not all(f.housekeeping for f in facts)

    def describe(self, unit: Unit, connection: int, index: int) -> Step:
        """Return the unit as a step."""
        assert isinstance(unit, PostgresUnit)
        common: dict[str, Any] = {
            "connection": connection,
            "index": index,
            "status": self.status,
            "session": str(self.backend or ""),
            "isolation": self._isolation,
        }
        if unit.commits:
            return Step(text="SYNC", fingerprint="SYNC", kind=StepKind.COMMIT, **common)
        if unit.data[:1] == b"F":
            return Step(text="function call", fingerprint="function call", **common)
        facts = self._facts(unit)
        texts = [unit.simple] if unit.simple is not None else [p.statement.sql for p in unit.portals]
        single = len(facts) == 1
        return Step(
            text="; ".join([t.decode("utf-8", "replace").strip() for t in texts]),
            fingerprint=facts[0].fingerprint if single else "; ".join([f.fingerprint for f in facts]),
            parameters=() if unit.simple is not None else tuple(v for p in unit.portals for v in p.values()),
            kind=facts[0].kind if single else joined_kind({f.kind for f in facts}),
            housekeeping=all(f.housekeeping for f in facts),
            statements=facts[0].statements if single else sum(f.statements for f in facts),
            tags=facts[0].tags if single else {k: v for f in facts for k, v in f.tags.items()},
            **common,
        )

    def _facts(self, unit: PostgresUnit) -> list[Facts]:
        if unit.simple is not None:
            return [facts_of(unit.simple)]
        return [facts_of(p.statement.sql) for p in unit.portals]

    def begin(self, unit: Unit) -> bool:
        """Note that the unit is on its way; return whether an answer is to come."""
        if not isinstance(unit, PostgresUnit) or not unit.replies:
            return False
        unit.begun = True
        if self._unread():
            unit.replies = False  # none that will be recognised
            return False
        if unit.awaits == 0 or (unit.awaits > 0 and self._skipping):
            unit.over = True
            return False
        if unit.simple is not None or unit.portals:
            facts = self._facts(unit)
            self._session_locks = self._session_locks or any(f.takes_session_locks for f in facts)
            self._isolation = next((f.isolation for f in reversed(facts) if f.isolation is not None), self._isolation)
        self._in_flight.append(unit)
        return True

    def finished(self, unit: Unit) -> tuple[Result, Status]:
        """Return what the server answered, as far as it did, and the status after it."""
        assert isinstance(unit, PostgresUnit)
        try:
            rows = tuple([row_of(body, unit.known_columns()) for body in unit.rows])
        except FrameError:
            rows = ()
        number = unit.tag.rsplit(" ", 1)[-1]
        result = Result(
            tag=unit.tag,
            rows=unit.row_count,
            count=int(number) if number.isdecimal() else None,
            error=unit.error,
            message=unit.message,
            first_rows=rows,
        )
        return result, self.status

    # The server's side

    def server_data(self, data: bytes) -> list[Item]:
        """Take in what the server sent."""
        if self._unread():
            return [ToClient(data)]
        messages = self._server.feed(data)
        out: list[Item] = []
        if self._strip_binding:
            self._forward_without_binding(messages, out)
        elif any(kind == _COPY_IN for kind, _ in messages):
            out.append(Invite(data))
        else:
            out.append(ToClient(data))
        for kind, message in messages:
            unit = self._in_flight[0] if self._in_flight else None
            if unit is not None and kind in _WATCHED and (unit.step or unit.described or kind == _ERROR):
                self._watch(unit, kind, message)
            if kind in _TURNING:
                self._turn(kind, message, unit, out)
            elif unit is not None and unit.awaits > 0:
                self._count(unit, kind, out)
            if self._unread():
                return out
        if self._server.error is not None:
            self._tunnel(f"from the server: {self._server.error}", out)
        return out

    def _forward_without_binding(self, messages: list[Message], out: list[Item]) -> None:
        """Forward the server's messages whole until authentication is over, as one of them may have to be changed."""
        out += [ToClient(_without_binding(message)) for _, message in messages]
        if self._server.error is not None or any(kind == _READY for kind, _ in messages):
            self._strip_binding = False
            out.append(ToClient(self._server.rest))

    def _turn(self, kind: int, message: bytes, unit: PostgresUnit | None, out: list[Item]) -> None:
        """Take in a message that changes where the connection stands."""
        if kind == _READY:
            self.status = _STATUS.get(message[5:6], Status.IDLE)
            if self.status is Status.IDLE:
                self._names.end_transaction()
            if self.phase is Phase.AUTHENTICATION:
                self.phase = Phase.READY
                out.append(Opened(self.backend, self.application_name, self.user))
            elif unit is not None and unit.more_syncs and not unit.copying:
                unit.more_syncs -= 1
            elif unit is not None:
                self._skipping = False
                self._finish(out)
        elif kind == _COPY_IN:
            if unit is not None:
                unit.copying = True
        elif kind == _KEY:
            self.backend = int.from_bytes(message[5:9], "big")
            self._cancel_key = message[9:]
        elif kind == _SETTING:
            if message.startswith(b"application_name\0", 5):
                self.application_name = message[22:-1].decode("utf-8", "replace")
        else:  # CopyBoth
            self._tunnel("a replication stream", out)

    def _count(self, unit: PostgresUnit, kind: int, out: list[Item]) -> None:
        """Count an answer to a unit that ended with Flush."""
        if kind == _ERROR:
            self._skipping = True
            self._flushed = False
            if self.status is Status.IN_TRANSACTION:
                self.status = Status.FAILED
            while self._in_flight and self._in_flight[0].awaits > 0:
                self._finish(out)
        elif kind in _ANSWERS:
            if kind == _TAG and unit.portals:
                words = unit.portals[-1].statement.sql[:40].split(None, 1)
                first = words[0].lower() if words else b""
                if first in (b"begin", b"start"):
                    self.status = Status.IN_TRANSACTION
            unit.awaits -= 1
            if not unit.awaits:
                self._finish(out)

    def _finish(self, out: list[Item]) -> None:
        unit = self._in_flight.popleft()
        unit.over = True
        out.append(Finished(unit))

    def _watch(self, unit: PostgresUnit, kind: int, message: bytes) -> None:
        """Keep what the server answers to a step, and what it says of prepared statements."""
        if kind == _ROW:
            unit.row_count += 1
            if len(unit.rows) < SHOWN_ROWS:
                unit.rows.append(message[5:])
        elif kind == _TAG:
            unit.tag = message[5:-1].decode("utf-8", "replace")
        elif kind == _ERROR:
            fields = fields_of(message[5:])
            unit.error = fields.get("C", "XX000")
            unit.message = fields.get("M", "")
        elif kind == _TYPES:
            unit.typed = True
            if unit.answered < len(unit.described):
                types = [int.from_bytes(message[i : i + 4], "big") for i in range(7, len(message), 4)]
                unit.described[unit.answered].oids = types
        else:
            columns = described_columns(message[5:]) if kind == _COLUMNS else ()
            if unit.typed and unit.answered < len(unit.described):
                unit.described[unit.answered].columns = columns
                unit.typed = False
                unit.answered += 1
            else:
                unit.columns = columns
                unit.rows.clear()

    def _tunnel(self, reason: str, out: list[Item], first: bytes = b"") -> None:
        """Stop reading: what was kept back goes out as it is, and so does everything after it."""
        kept = first + b"".join([data for _, data in self._parts]) + self._client.rest
        self.phase = Phase.TUNNEL
        self._parts = []
        self._in_flight.clear()
        out.append(Unreadable(reason))
        if kept:
            out.append(Unit(kept, replies=False))


_STATUS = {b"I": Status.IDLE, b"T": Status.IN_TRANSACTION, b"E": Status.FAILED}
_SASL = (10).to_bytes(4, "big")


def _without_binding(message: bytes) -> bytes:
    """Return AuthenticationSASL without the mechanism that binds to a TLS channel, any other message as it is."""
    if message[:1] != b"R" or message[5:9] != _SASL:
        return message
    kept = [name for name in message[9:].split(b"\0") if name and name != b"SCRAM-SHA-256-PLUS"]
    body = _SASL + b"".join(name + b"\0" for name in kept) + b"\0"
    return b"R" + (len(body) + 4).to_bytes(4, "big") + body
