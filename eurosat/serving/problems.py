"""Error answers of the service: one message, and the id of the request."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

SAFE_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
"""Headers of every answer that does not have its own: a browser takes no answer for a page."""


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
    """Make an application answer what its routes refuse with a `problem`.

    `Admission` answers all other exceptions.
    """
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _validation_problem)


async def _http_problem(request: Request, error: Any) -> Response:
    if isinstance(error.__cause__, MemoryError):  # FastAPI takes any failure for a malformed body
        raise error.__cause__
    return problem(error.status_code, str(error.detail), request.state.id, error.headers)


async def _validation_problem(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    status = 400 if first["type"] == "json_invalid" else 422
    return problem(status, f"{where or 'the body'}: {first['msg']}", request.state.id)
