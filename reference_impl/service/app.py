"""The routes: one POST for each operation of the variant, health, and the account page where there are accounts."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from reference_impl.service.body import KEY, KEY_PATTERN, read_arguments, read_key
from reference_impl.service.lines import Lines, NoLine
from reference_impl.service.page import NEEDED, add_page
from reference_impl.service.problems import MEANINGS, MEDIA_TYPE, SCHEMA, Problem, problem_of
from reference_impl.service.schemas import schema_of
from reference_impl.variants import Variant

Caller = Callable[[str, Mapping[str, Any], str], Awaitable[dict[str, Any]]]
"""Carries out an operation: its name, its arguments and the client's token."""

LONGEST_PATH = 200
"""Characters of an unknown path that are repeated in the answer."""

LOG = logging.getLogger("racegate.service")


def build_app(variant: Variant, settings: Mapping[str, Any], url: str, connections: int) -> FastAPI:
    """Return the service of a variant.

    Args:
        variant: what is served.
        settings: all of its settings.
        url: the store, with its database; the tables are there.
        connections: how many operations are carried out at a time.
    """
    lines = Lines(variant, settings, url, connections)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(lines.warm)
        yield
        await asyncio.to_thread(lines.close)

    app = FastAPI(
        title=f"racegate reference: {variant.name}",
        description=variant.summary,
        version="1",
        docs_url=None,  # its page loads script from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        responses={
            status: {"description": told, "content": {MEDIA_TYPE: {"schema": SCHEMA}}} for status, told in MEANINGS.items()
        },
    )
    call = _caller(lines)
    for operation in sorted(variant.operations):
        _add_operation(app, variant, operation, call)
    _add_health(app, variant, lines)
    if variant.operations >= NEEDED:
        add_page(app, call, explain)

    @app.exception_handler(HTTPException)
    async def no_such_path(request: Request, error: HTTPException) -> Response:
        code = {404: "unknown_path", 405: "method_not_allowed"}.get(error.status_code, "not_understood")
        message = _no_such(request, error)
        return answer(Problem(status=error.status_code, code=code, message=message), error.headers)

    return app


def _caller(lines: Lines) -> Caller:
    slots = anyio.CapacityLimiter(lines.connections)

    def carry_out(operation: str, arguments: Mapping[str, Any], token: str) -> dict[str, Any]:
        with lines.lend() as line:
            answer: dict[str, Any] = line.call(operation, arguments, token, lambda point: None)
            return answer

    async def call(operation: str, arguments: Mapping[str, Any], token: str) -> dict[str, Any]:
        return await anyio.to_thread.run_sync(carry_out, operation, arguments, token, limiter=slots)

    return call


def explain(error: Exception) -> Problem:
    """Return what an error means to the client; what nobody thought of goes to the log."""
    problem = problem_of(error)
    if problem.status == 500:
        LOG.error("%s: %s", type(error).__name__, str(error).split("\n", maxsplit=1)[0], exc_info=error)
    return problem


def answer_to(error: Exception) -> Response:
    """Return the answer that an error means."""
    problem = explain(error)
    return answer(problem, {"Retry-After": "0"} if problem.status == 503 else None)


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem as an answer."""
    return JSONResponse(problem.document, problem.status, headers=headers, media_type=MEDIA_TYPE)


def _add_operation(app: FastAPI, variant: Variant, operation: str, call: Caller) -> None:
    needed = operation not in getattr(variant.implementation, "without_key", frozenset())

    async def endpoint(request: Request) -> Response:
        try:
            arguments = await read_arguments(request)
            return JSONResponse(await call(operation, arguments, read_key(request, needed=needed)))
        except Exception as e:  # noqa: BLE001 - every error has an answer
            return answer_to(e)

    told = inspect.getdoc(getattr(variant.implementation, operation, None)) or operation.replace("_", " ")
    app.add_api_route(
        f"/{operation}",
        endpoint,
        methods=["POST"],
        name=operation,
        operation_id=operation,
        summary=told.split("\n", maxsplit=1)[0],
        response_model=None,
        responses={200: {"description": "it happened", "content": {"application/json": {"schema": {"type": "object"}}}}},
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema_of(operation)}}},
            "parameters": [
                {
                    "name": KEY,
                    "in": "header",
                    "required": needed,
                    "description": "the client's token: the same intent carries the same one however often it is sent",
                    "schema": {"type": "string", "pattern": KEY_PATTERN},
                }
            ],
        },
    )


def _no_such(request: Request, error: HTTPException) -> str:
    """Say whether it is the path that is not known, or the method that does not go with it."""
    path = request.url.path
    shown = path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}..."
    if error.status_code == 404:
        return f"There is nothing at {shown}; each operation is a POST to a path of its own, see /openapi.json."
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return f"{shown} takes {allowed}, and this was {request.method}; see /openapi.json."
    return f"{error.detail}; see /openapi.json."


def _add_health(app: FastAPI, variant: Variant, lines: Lines) -> None:
    @app.get("/health", response_model=None, summary="Tell whether the service is up and its store answers")
    async def health() -> Response:
        try:
            await asyncio.to_thread(lines.ping)
        except NoLine as e:
            return answer_to(e)
        return JSONResponse({"status": "ok", "variant": variant.name})

    # A route of its own: two methods of one would share their operation's name in the document. Load balancers use this one.
    app.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)
