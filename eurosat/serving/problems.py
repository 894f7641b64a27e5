"""Error answers of the service: one message, and the id of the request."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

_log = logging.getLogger(__name__)


def problem(
    status: int, message: str, request_id: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Build the answer to a request that failed.

    Args:
        status: HTTP status.
        message: One sentence for the caller: the cause, then the remedy.
        request_id: Id of the request, as in the service's log.
        headers: Further headers, such as ``Retry-After``.
    """
    return JSONResponse({"error": message, "id": request_id}, status, headers)


def add_problem_handlers(app: FastAPI) -> None:
    """Make an application answer every exception with a `problem`."""
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _validation_problem)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    app.add_exception_handler(Exception, _unexpected_problem)


async def _http_problem(request: Request, error: Any) -> Response:
    return problem(error.status_code, str(error.detail), request.state.id, error.headers)


async def _validation_problem(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    status = 400 if first["type"] == "json_invalid" else 422
    return problem(status, f"{where or 'the body'}: {first['msg']}", request.state.id)


async def _disconnected(request: Request, error: Any) -> Response:
    message = "the connection was closed before the body was complete: send the request again"
    return problem(400, message, request.state.id)


async def _unexpected_problem(request: Request, error: Any) -> Response:
    _log.exception("request %s failed", request.state.id, exc_info=error)
    message = "an internal error occurred: look up the request's id in the service's log"
    return problem(500, message, request.state.id)
