"""The account page's addresses: the page, its form, its style and its script."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import jinja2
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from reference_impl.base.arguments import COMPANY
from reference_impl.service.page.form import MEDIA_TYPE, Typed, minor_units, read_form
from reference_impl.service.page.view import CHOOSE, NOT_SHOWN, SUBMIT, notice_of, page_of
from reference_impl.service.problems import MEANINGS, SCHEMA, Problem
from reference_impl.service.problems import MEDIA_TYPE as PROBLEM_TYPE

NEEDED = frozenset({"account", "history", "submit"})
"""Operations that a variant must have for the page to be served."""

Caller = Callable[[str, Mapping[str, Any], str], Awaitable[dict[str, Any]]]
Explain = Callable[[Exception], Problem]

PROTECTED = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",  # the form's key is for one intent, and the figures are of this moment
}
HTML = {"content": {"text/html": {"schema": {"type": "string"}}}}
FORM_SCHEMA = {
    "type": "object",
    "properties": {
        "key": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "one for each intent"},
        "term": {"type": "string"},
        "amount": {"type": "string", "description": "pesos and centavos, as typed: 1,875.55"},
    },
    "required": ["key", "term", "amount"],
}


def add_page(app: FastAPI, call: Caller, explain: Explain) -> None:
    """Serve the account page.

    Args:
        app: the service.
        call: carries out an operation.
        explain: tells what an error means to the reader.
    """

    async def shown(
        account: str,
        company: str,
        chosen: str,
        *,
        submitted: str = "",
        typed: Typed | None = None,
        problem: Problem | None = None,
    ) -> Response:
        try:
            about = {"subject": account, "company": company}
            overview, history = await call("account", about, "page"), await call("history", about, "page")
        except Exception as e:  # noqa: BLE001 - every error has a page
            return _failed(problem or explain(e), typed, _address(account, company))
        notice = notice_of(problem) if problem else None
        same_key = typed is not None and notice is not None and notice.same_key
        if typed and same_key and any(payment["id"] == typed.payment for payment in history["payments"]):
            return _submitted(account, company, typed)
        page = page_of(overview, history, company=company, chosen=chosen, submitted=submitted)
        return _html(
            "account.html.j2",
            problem.status if problem else 200,
            page=page,
            notice=notice,
            amount=typed.amount if typed and page.chosen in ("", typed.term) else "",  # it was meant for no other term
            key=typed.key if typed and same_key else secrets.token_hex(16),
            action=_address(account, company),
            choose=CHOOSE,
            submit=SUBMIT,
        )

    @app.get(
        "/accounts/{account:path}",
        response_class=HTMLResponse,
        summary="Show the account page",
        responses={200: {"description": "the page"}, **_as_pages()},
    )
    async def show(
        account: str,
        company: Annotated[str, Query()] = COMPANY,
        term: Annotated[str, Query()] = "",
        submitted: Annotated[str, Query()] = "",
    ) -> Response:
        return await shown(account, company, term, submitted=submitted)

    @app.post(
        "/accounts/{account:path}",
        response_class=HTMLResponse,
        status_code=303,
        summary="Submit a payment as the page's form does",
        responses={303: {"description": "recorded; the page shows it"}, **_as_pages()},
        openapi_extra={"requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": FORM_SCHEMA}}}},
    )
    async def submit(account: str, request: Request, company: Annotated[str, Query()] = COMPANY) -> Response:
        typed = None
        try:
            typed = await read_form(request)
            asked = {"subject": typed.payment, "account": account, "term": typed.term, "company": company}
            await call("submit", {**asked, "amount": minor_units(typed.amount)}, typed.key)
        except Exception as e:  # noqa: BLE001 - every error has a page
            problem = explain(e)
            if typed is None:
                return _failed(problem)
            return await shown(account, company, typed.term, typed=typed, problem=problem)
        return _submitted(account, company, typed)

    for name, kind in (("account.css", "text/css"), ("account.js", "text/javascript")):
        _add_file(app, name, kind)


def _add_file(app: FastAPI, name: str, kind: str) -> None:
    content = (files(__package__) / name).read_bytes()

    async def file() -> Response:
        return Response(content, media_type=kind, headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"})

    app.add_api_route(f"/{name}", file, include_in_schema=False)


def _as_pages() -> dict[int | str, dict[str, Any]]:
    """Return how refusals are told: as a page, or as a problem where the address is not even known."""
    content = {**HTML["content"], PROBLEM_TYPE: {"schema": SCHEMA}}
    return {status: {"description": told, "content": content} for status, told in MEANINGS.items()}


def _address(account: str, company: str, **query: str) -> str:
    asked = {**({} if company == COMPANY else {"company": company}), **query}
    return f"/accounts/{quote(account, safe='/')}" + (f"?{urlencode(asked)}" if asked else "")


def _submitted(account: str, company: str, typed: Typed) -> Response:
    address = _address(account, company, term=typed.term, submitted=typed.payment)
    return RedirectResponse(address, status_code=303, headers=PROTECTED)


def _failed(problem: Problem, typed: Typed | None = None, action: str = "") -> Response:
    """Return a page without the account; what was typed stays on it, with its key, where it may be sent again."""
    notice = notice_of(problem) if typed else None
    title = notice.heading if notice else HTTPStatus(problem.status).phrase
    again = typed if notice and notice.same_key else None
    refusal = NOT_SHOWN if problem.status >= 500 else problem.message
    text = notice.text if notice else refusal
    return _html("failed.html.j2", problem.status, code=problem.code, title=title, text=text, again=again, action=action)


def _html(template: str, status: int, **values: Any) -> Response:
    return HTMLResponse(_templates().get_template(template).render(values), status, headers=PROTECTED)


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
