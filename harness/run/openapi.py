"""Reads an OpenAPI document for the operations that scenarios call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.config.toml_text import inline
from harness.model.errors import UsageError

ACTIONS: Mapping[str, str] = {
    "approve": "approve",
    "reject": "reject",
    "cancel": "cancel",
    "refund": "refund",
    "refunds": "refund",
    "void": "void",
    "webhook": "webhook",
    "webhooks": "webhook",
    "discount": "discount",
}
"""What the last part of a path means where it is a verb."""

OF_ONE_THING = (
    ("orders", "cancel", "cancel_order"),
    ("orders", "refund", "refund_order"),
    ("orders", "refunds", "refund_order"),
    ("sales", "void", "void_sale"),
)
"""Verbs that have a name of their own for one kind of thing: its path, the verb and the name."""

THINGS: Mapping[str, str] = {
    "invoices": "create",
    "documents": "create",
    "receipts": "create",
    "bills": "create",
    "payments": "submit",
    "accounts": "open_account",
    "orders": "open_order",
    "installments": "pay_installment",
    "instalments": "pay_installment",
    "sales": "sell",
}
"""What a POST to a collection means."""

ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "token": ("idempotencykey", "clienttoken", "token", "reference", "requestid", "externalid"),
    "amount": ("amount", "cents", "amountcents", "total", "paidamount"),
    "company": ("company", "companyid", "tenant", "tenantid", "organization", "organizationid", "user", "userid"),
    "subject": ("subject", "id", "paymentid", "orderid", "accountid", "order", "payment"),
    "term": ("term", "termid"),
    "total": ("total", "totalamount"),
    "advance": ("advance", "advancepaid", "deposit"),
    "assessment": ("assessment", "totalassessment"),
    "item": ("item", "itemid", "product", "productid", "sku"),
    "quantity": ("quantity", "qty"),
    "text": ("text", "number", "saleid", "invoicenumber", "receiptnumber"),
    "reason": ("reason",),
    "at": ("date", "issuedat", "at"),
}

HAS: Mapping[str, tuple[str, ...]] = {
    "create": ("token", "company", "amount", "at"),
    "submit": ("token", "subject", "term", "amount"),
    "open_account": ("subject", "assessment"),
    "open_order": ("token", "subject", "total", "advance"),
    "pay_installment": ("token", "subject", "amount"),
    "sell": ("token", "item", "quantity", "company", "amount"),
    "void_sale": ("token", "text", "reason"),
}
"""The arguments that an operation has; any other has its subject, its amount and its token."""

LARGEST = 20_000_000


@dataclass
class ProposedOperation:
    """One operation as lines of TOML, and what could not be guessed about it."""

    name: str
    path: str
    method: str
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    retryable: list[int] = field(default_factory=list)
    answer: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    unsure: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the section."""
        lines = [f"[operations.{self.name}]", f"path = {inline(self.path)}"]
        if self.method != "POST":
            lines.append(f"method = {inline(self.method)}")
        for key in ("headers", "body", "refused", "retryable", "answer", "constants"):
            if value := getattr(self, key):
                lines.append(f"{key} = {inline(value)}")
        return [*lines, ""]


def read_openapi(path: Path) -> tuple[list[ProposedOperation], str | None]:
    """Return the operations that a document shows, and the URL of its first server.

    Raises:
        UsageError: it cannot be read, or is no OpenAPI document.
    """
    document = _document(path)
    servers = document.get("servers")
    url = servers[0].get("url") if isinstance(servers, list) and servers and isinstance(servers[0], Mapping) else None
    base = urlsplit(url).path.rstrip("/") if isinstance(url, str) and not url.startswith("http") else ""
    found: dict[str, ProposedOperation] = {}
    for route, method, operation in _operations(document):
        name = _name(route, method)
        if name is not None and name not in found:
            found[name] = _proposed(name, base + route, method, operation, document)
    usable = url if isinstance(url, str) and url.startswith(("http://", "https://")) else None
    return list(found.values()), usable


def _document(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST)
        text = content.decode()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"--openapi {path} cannot be read: {e}") from e
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = _yaml(text, path)
    if not isinstance(document, Mapping) or not isinstance(document.get("paths"), Mapping):
        raise UsageError(f"--openapi {path} is no OpenAPI document: it has no paths")
    return document


def _yaml(text: str, path: Path) -> Any:
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - where it is installed
    except ModuleNotFoundError:
        raise UsageError(f"--openapi {path} is not JSON; for YAML install PyYAML, or convert it") from None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise UsageError(f"--openapi {path} is neither JSON nor YAML: {' '.join(str(e).split())[:200]}") from e


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for route, item in document["paths"].items():
        if not isinstance(item, Mapping):
            continue
        for method in ("post", "put", "patch"):
            operation = item.get(method)
            if isinstance(operation, Mapping):
                shared = item.get("parameters") if isinstance(item.get("parameters"), list) else []
                own = operation.get("parameters") if isinstance(operation.get("parameters"), list) else []
                yield str(route), method.upper(), {**operation, "parameters": [*(shared or []), *(own or [])]}


def _name(route: str, method: str) -> str | None:
    parts = [p for p in route.lower().split("/") if p]
    if not parts:
        return None
    last = re.sub(r"[^a-z{}]", "", parts[-1])
    if last in ACTIONS and len(parts) > 1:
        return next((name for thing, verb, name in OF_ONE_THING if thing in parts and verb == last), ACTIONS[last])
    return THINGS.get(last) if method == "POST" else None


def _proposed(name: str, route: str, method: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> ProposedOperation:
    known = HAS.get(name, ("token", "subject", "amount"))
    found = ProposedOperation(name=name, path=route, method=method)
    for parameter in (_resolved(p, document) for p in operation["parameters"]):
        where, called = parameter.get("in"), str(parameter.get("name", ""))
        if where == "path":
            argument = _argument(called, known) or _thing(name, known)
            found.path = found.path.replace(f"{{{called}}}", f"{{{argument}}}")
        elif where == "header" and _argument(called, known) == "token":
            found.headers[called] = "{token}"
    for left in re.findall(r"\{([^{}]+)\}", found.path):
        if left not in ARGUMENTS:
            argument = _argument(left, known) or _thing(name, known)
            found.path = found.path.replace(f"{{{left}}}", f"{{{argument}}}")
    content = _at(_resolved(operation.get("requestBody"), document), "content")
    schema = _json_schema(content, document)
    if schema:
        found.body = _body(schema, known, found, document)
    statuses = [int(s) for s in _mapping(operation.get("responses")) if str(s).isdigit()]
    found.refused = [s for s in statuses if s in (400, 403, 404, 409, 412, 422)]
    found.retryable = [s for s in statuses if s in (425, 429)]
    if name == "create":
        _numbers(operation, document, found)
        found.constants = {"scope": "{company}", "period": ""}
    return found


def _thing(name: str, known: Sequence[str]) -> str:
    """Return what the path of an operation names where nothing else is known of it."""
    if "text" in known:
        return "text"
    return "subject" if name in ACTIONS.values() or "subject" in known else "company"


def _numbers(operation: Mapping[str, Any], document: Mapping[str, Any], found: ProposedOperation) -> None:
    for status, response in _mapping(operation.get("responses")).items():
        if not str(status).startswith("2"):
            continue
        for path, kind in _leaves(_json_schema(_at(_resolved(response, document), "content"), document), document):
            plain = re.sub(r"[^a-z]", "", path.rpartition(".")[2].lower())
            if not re.search(r"(number|no|sequence|seq)$", plain):
                continue
            found.answer.setdefault("text" if kind == "string" else "number", path)
    if not found.answer:
        found.unsure.append("where the answer holds the number: operations.create.answer")
        found.answer = {"number": "number"}


def _leaves(schema: Mapping[str, Any], document: Mapping[str, Any], at: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    if depth > 6:
        return
    for name, item in _mapping(schema.get("properties")).items():
        inner = _resolved(item, document)
        path = f"{at}.{name}" if at else str(name)
        if inner.get("properties"):
            yield from _leaves(inner, document, path, depth + 1)
        else:
            yield path, str(inner.get("type", ""))


def _body(
    schema: Mapping[str, Any], known: Sequence[str], found: ProposedOperation, document: Mapping[str, Any]
) -> dict[str, Any]:
    required = schema.get("required")
    needed = set(required) if isinstance(required, list) else set()
    body: dict[str, Any] = {}
    used: set[str] = set()
    for name, item in _mapping(schema.get("properties")).items():
        argument = _argument(str(name), [k for k in known if k not in used])
        if argument is not None:
            body[str(name)] = f"{{{argument}}}"
            used.add(argument)
        elif name in needed:
            body[str(name)] = _example(_resolved(item, document))
            found.unsure.append(f"what to send as {name}: operations.{found.name}.body")
    return body


def _example(schema: Mapping[str, Any]) -> Any:
    for key in ("example", "default"):
        if isinstance(schema.get(key), str | int | float | bool):
            return schema[key]
    choices = schema.get("enum")
    if isinstance(choices, list) and choices and isinstance(choices[0], str | int):
        return choices[0]
    return {"integer": 1, "number": 1, "boolean": False, "array": [], "object": {}}.get(str(schema.get("type")), "x")


def _argument(name: str, known: Sequence[str]) -> str | None:
    plain = re.sub(r"[^a-z]", "", name.lower())
    return next((argument for argument in known if plain in ARGUMENTS.get(argument, ())), None)


def _json_schema(content: Any, document: Mapping[str, Any]) -> Mapping[str, Any]:
    for kind, media in _mapping(content).items():
        if "json" in str(kind):
            return _resolved(_at(media, "schema"), document)
    return {}


def _resolved(item: Any, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references within the document."""
    for _ in range(20):
        if not isinstance(item, Mapping):
            return {}
        reference = item.get("$ref")
        if not isinstance(reference, str):
            return item
        item = document if reference.startswith("#/") else None
        for part in reference.removeprefix("#/").split("/"):
            item = _at(item, part.replace("~1", "/").replace("~0", "~"))
    return {}


def _at(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, Mapping) else None


def _mapping(item: Any) -> Mapping[Any, Any]:
    return item if isinstance(item, Mapping) else {}
