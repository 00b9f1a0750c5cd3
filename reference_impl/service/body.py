"""Reads requests strictly: what could mean two things is refused before anything is touched."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from reference_impl.base.refusal import Refused, invalid

LARGEST = 64 * 1024
"""Bytes of a body; the largest request that makes sense is a hundredth of that."""

DRAINED = 32 * 1024 * 1024
"""Bytes that are read and thrown away so that the client, which may not listen while it sends, gets to see the refusal."""

DEEPEST = 16
"""Levels of nesting; no argument has more than one."""

PLAIN = ", once, in UTF-8 and without a Content-Encoding"
"""How a body is to be sent, whatever it is."""

KEY = "Idempotency-Key"
KEY_PATTERN = "^[!-~]{1,200}$"


async def read_arguments(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body.

    Raises:
        Refused: it is too large (413), not JSON by its headers (415) or content (400), gives a name twice (400), or is no
            object (422).
    """
    content = await read_content(request)
    if not sent_as(request, "application/json"):
        raise Refused("not_json", f"Send the arguments as JSON, with Content-Type: application/json{PLAIN}.", status=415)
    return parse(content)


def sent_as(request: Request, media_type: str) -> bool:
    """Tell whether the body is of this type by its headers, and to be read as it comes: in UTF-8, and not compressed.

    A header that is there twice, by itself or as a list, says nothing: who else reads it may take the other one.
    """
    kinds, encodings = request.headers.getlist("content-type"), request.headers.getlist("content-encoding")
    if len(kinds) != 1 or "," in kinds[0] or [e.strip().lower() for e in encodings] not in ([], ["identity"]):
        return False
    kind, *parameters = (part.strip().lower() for part in kinds[0].split(";"))
    charsets = [value for name, _, value in (p.partition("=") for p in parameters) if name.strip() == "charset"]
    return kind == media_type and all(c.strip().strip('"') in ("utf-8", "utf8") for c in charsets)


async def read_content(request: Request) -> bytes:
    """Return the body, if it is no larger than `LARGEST` and came to its end."""
    content, size = bytearray(), 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= LARGEST:
                content += chunk
            if size > DRAINED:
                break
    except ClientDisconnect:  # nobody is there to read this, and nothing is wrong with the service
        raise Refused("hung_up", "The client hung up before the body's end.", status=400) from None
    if size > LARGEST:
        raise Refused("too_large", f"The body must have at most {LARGEST} bytes.", status=413)
    return bytes(content)


def parse(content: bytes) -> dict[str, Any]:
    """Return the JSON object. Raises Refused as `read_arguments` does."""
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except Refused:
        raise
    except RecursionError:
        raise Refused("invalid_json", "The body is nested too deeply.", status=400) from None
    except ValueError:
        raise Refused("invalid_json", "The body is not valid JSON in UTF-8.", status=400) from None
    if _deeper_than(value, DEEPEST):
        raise Refused("invalid_json", "The body is nested too deeply.", status=400)
    if not isinstance(value, dict):
        raise invalid("The body must be a JSON object with the operation's arguments.")
    return value


def read_key(request: Request, *, needed: bool) -> str:
    """Return the client's token; where it is not needed and not given, a fresh one.

    Raises:
        Refused: it is missing, given twice, or is not 1 to 200 visible ASCII characters.
    """
    given = request.headers.getlist(KEY)
    if not given and not needed:
        return secrets.token_hex(16)
    if not given:
        raise Refused("key_missing", f"Send {KEY}: one value for each intent, the same when it is sent again.", status=400)
    if len(given) > 1 or not re.fullmatch(KEY_PATTERN.strip("^$"), given[0]):
        raise Refused("invalid_key", f"{KEY} must be given once, with 1 to 200 visible ASCII characters.", status=400)
    return given[0]


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("duplicate_name", "The body gives a name twice; which value is meant is not known.", status=400)
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _deeper_than(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        lists = [v for v in level if isinstance(v, list | dict)]
        if not lists:
            return False
        level = [inner for v in lists for inner in (v.values() if isinstance(v, dict) else v)]
    return any(isinstance(v, list | dict) for v in level)
