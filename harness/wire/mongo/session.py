"""One MongoDB connection's conversation: one command is one unit. No I/O.

Commands of one client may come over any of its pooled connections, so what a step belongs to is its logical session
(``lsid``) and transaction number, not its connection; both are in the step. A driver that lost an answer sends a retryable
write, or a commit, again under the same number, perhaps over another connection: `Attempts`, shared by a proxy's
connections, counts those.

What is a step: every command except what drivers say by themselves (`harness.wire.mongo.commands.UNGATED`) and, outside a
transaction, the further batches of a cursor. What is passed on unread: compressed messages (nobody negotiated any), and
legacy operations other than the greeting. An unacknowledged write is done when it is sent.

Known weakness: the store does not roll a transaction back when a connection ends, only when its session is killed or
times out, so here nothing is "in transaction" for a connection.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from harness.wire.base import SHOWN_ROWS, Result, Status, Step, StepKind
from harness.wire.conversation import Finished, Item, Opened, Refused, ToClient, Unit, Unreadable
from harness.wire.mongo import frames, greeting
from harness.wire.mongo.commands import UNGATED, fingerprint_of, kind_of, parameters_of, shown, text_of
from harness.wire.mongo.frames import FrameError, Message, Reader, Sections, sections_of

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)
_LOAD_BALANCED = {
    "ok": 0.0,
    "errmsg": "racegate's proxy does not speak to load balancers: remove loadBalanced=true from the URI",
    "code": 72,
    "codeName": "InvalidOptions",
}

_UNREADABLE = (FrameError, BSONError, RecursionError, ValueError)


class Attempts:
    """Counts how often each retryable write and each commit was sent, over all connections of a proxy."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._seen: OrderedDict[tuple[Any, ...], int] = OrderedDict()

    def count(self, key: tuple[Any, ...]) -> int:
        """Return the number of this attempt, from 1. The oldest of very many are forgotten."""
        number = self._seen.pop(key, 0) + 1
        self._seen[key] = number
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)
        return number


class MongoUnit(Unit):
    """A command, and the last message of its answer. ``unheard``: the answer is for us alone, the application wants none."""

    __slots__ = ("command", "greeting", "name", "reply", "request", "sections", "unheard")

    def __init__(
        self,
        data: bytes,
        *,
        request: int,
        name: str,
        sections: Sections | None,
        replies: bool = True,
        unheard: bool = False,
    ) -> None:
        super().__init__(data, replies=replies)
        self.unheard = unheard
        self.request = request
        self.name = name
        self.sections = sections
        self.greeting = name in greeting.NAMES
        self.command: dict[str, Any] = {}
        self.reply: Message | None = None


class MongoSession:
    """See `harness.wire.conversation.Session`.

    Args:
        address: what the driver connected to, ``127.0.0.1:12345``.
        attempts: shared by the proxy's connections.
    """

    def __init__(self, address: str, attempts: Attempts) -> None:
        self.application_name = ""
        self._address = address
        self._attempts = attempts
        self._client = Reader()
        self._server = Reader()
        self._in_flight: dict[int, MongoUnit] = {}
        self._opened = False
        self._tunnel = False

    @property
    def ready(self) -> bool:
        """There is no start-up of the protocol's own: the greeting is a command."""
        return True

    @property
    def outlives_connection(self) -> bool:
        """It does: ``transactionLifetimeLimitSeconds`` is a minute by default."""
        return True

    @property
    def cancel_key(self) -> bytes:
        """There is no such thing."""
        return b""

    def in_transaction(self) -> bool:
        """Tell whether the end of this connection would roll something back: never, by itself."""
        return False

    # The client's side

    def client_data(self, data: bytes) -> list[Item]:
        """Take in what the application sent."""
        if self._tunnel:
            return [Unit(data, replies=False)]
        out: list[Item] = []
        messages = deque(self._client.feed(data))
        while messages:
            message = messages.popleft()
            try:
                self._say(message, out)
            except _UNREADABLE as e:
                self._unread(str(e) or type(e).__name__, out, [message, *messages])
                return out
        if self._client.error is not None:
            self._unread(self._client.error, out, [])
        return out

    def _say(self, message: Message, out: list[Item]) -> None:
        if message.operation == frames.OP_MSG:
            sections = sections_of(message)
            name = frames.command_name(sections.body)
            if name in greeting.NAMES:
                self._greet(message, _decoded(sections.body), out)
                return
            if not self._opened and name not in UNGATED:
                self._opened = True
                out.append(Opened(None, self.application_name, ""))
            replies = not sections.flags & frames.MORE_TO_COME
            unheard = not replies and not sections.flags & frames.CHECKSUM
            data = frames.wanting_an_answer(message) if unheard else message.data
            out.append(MongoUnit(data, request=message.request, name=name, sections=sections, replies=replies, unheard=unheard))
        elif message.operation == frames.OP_QUERY:
            collection, document, at = frames.query_of(message)
            name = frames.command_name(document)
            if not collection.endswith(".$cmd") or name not in greeting.NAMES:
                raise FrameError(f"a legacy query of {collection}")
            self._greet(message, _decoded(document), out, legacy_at=at)
        else:
            raise FrameError("a compressed message" if message.operation == frames.OP_COMPRESSED else "an odd message")

    def _greet(self, message: Message, command: dict[str, Any], out: list[Item], legacy_at: int | None = None) -> None:
        application = command.get("client", {}).get("application", {}) if isinstance(command.get("client"), dict) else {}
        if isinstance(application, Mapping) and application.get("name"):
            self.application_name = str(application["name"])
        if greeting.wants_load_balancer(command):
            reply = frames.op_msg(request=0, response_to=message.request, flags=0, body=bson.encode(_LOAD_BALANCED))
            out.append(Refused(reply, "loadBalanced=true"))
            return
        body = bson.encode(greeting.request_through(command), codec_options=_CODEC)
        if legacy_at is not None:
            data = frames.with_document(message, legacy_at, body)
        else:
            flags = message.flags & ~frames.EXHAUST_ALLOWED
            data = frames.op_msg(request=message.request, response_to=message.response_to, flags=flags, body=body)
        out.append(MongoUnit(data, request=message.request, name="hello", sections=None))

    def _unread(self, reason: str, out: list[Item], kept: list[Message]) -> None:
        """Stop reading: what was kept back goes out as it is, and so does everything after it."""
        self._tunnel = True
        out.append(Unreadable(reason))
        if self._server.rest:
            out.append(ToClient(self._server.rest))
        data = b"".join(m.data for m in kept) + self._client.rest
        if data:
            out.append(Unit(data, replies=False))

    # What the gate asks

    def gated(self, unit: Unit) -> bool:
        """Tell whether the unit is a step."""
        if not isinstance(unit, MongoUnit) or unit.greeting or unit.name in UNGATED:
            return False
        return unit.name != "getMore" or _in_transaction(self._command(unit))

    def describe(self, unit: Unit, connection: int, index: int) -> Step:
        """Return the command as a step."""
        assert isinstance(unit, MongoUnit)
        command, name = self._command(unit), unit.name
        session = _session_of(command)
        in_transaction = _in_transaction(command)
        kind = kind_of(name, command)
        comment = command.get("comment")
        return Step(
            connection=connection,
            index=index,
            text=text_of(name, command),
            fingerprint=fingerprint_of(name, command),
            parameters=parameters_of(name, command),
            kind=kind,
            status=Status.IN_TRANSACTION if in_transaction and not command.get("startTransaction") else Status.IDLE,
            session=session,
            attempt=self._attempt(session, command, name, kind, in_transaction),
            acknowledged=unit.replies,
            tags={str(k): str(v) for k, v in comment.items()} if isinstance(comment, Mapping) else {},
            body=command,
        )

    def _attempt(self, session: str, command: Mapping[str, Any], name: str, kind: StepKind, in_transaction: bool) -> int:
        number = command.get("txnNumber")
        ends = kind in (StepKind.COMMIT, StepKind.ROLLBACK)
        if not isinstance(number, int) or (in_transaction and not ends):
            return 1
        return self._attempts.count((session, number, name))

    def _command(self, unit: MongoUnit) -> dict[str, Any]:
        if not unit.command and unit.sections is not None:
            try:
                unit.command = _decoded(unit.sections.body)
                for name, documents in unit.sections.sequences.items():
                    unit.command[name] = [_decoded(d) for d in documents]
            except _UNREADABLE:
                unit.command = {unit.name: "(unreadable)"}
        return unit.command

    def begin(self, unit: Unit) -> bool:
        """Note that the command is on its way; return whether an answer is to come."""
        if not isinstance(unit, MongoUnit) or not (unit.replies or unit.unheard):
            return False
        if self._tunnel:
            unit.replies = unit.unheard = False  # none that will be recognised
            return False
        self._in_flight[unit.request] = unit
        return True

    def finished(self, unit: Unit) -> tuple[Result, Status]:
        """Return what the server answered, as far as it did, and where the session stands after it."""
        assert isinstance(unit, MongoUnit)
        command = self._command(unit)
        reply: dict[str, Any] = {}
        if unit.reply is not None:
            try:
                reply = _decoded(sections_of(unit.reply).body)
            except _UNREADABLE:
                reply = {}
        result = result_of(reply)
        if not _in_transaction(command):
            return result, Status.IDLE
        if result.error is not None:
            return result, Status.FAILED
        ended = kind_of(unit.name, command) in (StepKind.COMMIT, StepKind.ROLLBACK) and bool(reply)
        return result, Status.IDLE if ended else Status.IN_TRANSACTION

    # The server's side

    def server_data(self, data: bytes) -> list[Item]:
        """Take in what the server sent."""
        if self._tunnel:
            return [ToClient(data)]
        out: list[Item] = []
        for message in self._server.feed(data):
            unit = self._in_flight.pop(message.response_to, None)
            if unit is None:
                out.append(ToClient(message.data))
                continue
            try:
                answer = self._answer(unit, message)
            except _UNREADABLE:
                answer = message.data
            if not unit.unheard:
                out.append(ToClient(answer))
            unit.reply = message
            if message.operation == frames.OP_MSG and len(message.data) >= 20 and message.flags & frames.MORE_TO_COME:
                self._in_flight[message.request] = unit  # the next part answers this part
            else:
                out.append(Finished(unit))
        if self._server.error is not None:
            self._unread(f"from the server: {self._server.error}", out, [])
        return out

    def _answer(self, unit: MongoUnit, message: Message) -> bytes:
        """Return what the application is told."""
        if not unit.greeting:
            return message.data
        if message.operation == frames.OP_REPLY:
            document, at = frames.reply_of(message)
            return frames.with_document(message, at, self._rewritten(document))
        sections = sections_of(message)
        return frames.op_msg(
            request=message.request,
            response_to=message.response_to,
            flags=sections.flags,
            body=self._rewritten(sections.body),
        )

    def _rewritten(self, document: bytes) -> bytes:
        return bson.encode(greeting.reply_through(_decoded(document), self._address), codec_options=_CODEC)


def _decoded(document: bytes) -> dict[str, Any]:
    return bson.decode(document, codec_options=_CODEC)


def _in_transaction(command: Mapping[str, Any]) -> bool:
    return command.get("autocommit") is False


def _session_of(command: Mapping[str, Any]) -> str:
    lsid = command.get("lsid")
    identity = lsid.get("id") if isinstance(lsid, Mapping) else None
    return bytes(identity).hex() if isinstance(identity, bytes) else ""


def result_of(reply: Mapping[str, Any]) -> Result:
    """Return a command's reply in short. The first error in it counts: the command's, a write's, the write concern's."""
    errors: list[Any] = [] if reply.get("ok", 1) else [reply]
    errors += reply.get("writeErrors") or []
    errors += [reply["writeConcernError"]] if reply.get("writeConcernError") else []
    cursor = reply.get("cursor")
    batch: list[Any] = []
    if isinstance(cursor, Mapping):
        batch = cursor.get("firstBatch") or cursor.get("nextBatch") or []
    elif isinstance(reply.get("value"), Mapping):
        batch = [reply["value"]]
    number = reply.get("n")
    tag = ", ".join(f"{k}: {reply[k]}" for k in ("n", "nModified") if k in reply)
    first = errors[0] if errors and isinstance(errors[0], Mapping) else {}
    return Result(
        tag=tag,
        rows=len(batch),
        count=int(number) if isinstance(number, int | float) else None,
        error=f"mongo:{first.get('code', '?')}" if errors else None,
        message=str(first.get("errmsg", "")) if errors else None,
        first_rows=tuple((shown(d),) for d in batch[:SHOWN_ROWS] if isinstance(d, Mapping)),
    )
