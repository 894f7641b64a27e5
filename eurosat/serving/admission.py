"""Admission: the checks of API key, body size, load and time around every route.

A route needs the API key and counts as load unless its endpoint is declared `public`:

    @router.get("/health")
    @public
    async def health() -> Response: ...

    app.mount("/page", public(StaticFiles(...)))

A path that no route has is protected too, so that a caller without the key cannot find out which
paths exist.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eurosat.api_key import carries_key
from eurosat.errors import EuroSATError
from eurosat.serving import metrics
from eurosat.serving.limits import Limits
from eurosat.serving.problems import problem

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_MARK = "_eurosat_public"

_SAFE_HEADERS = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
}
"""Headers of every answer that does not have its own: a browser takes no answer for a page."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def public(endpoint: Endpoint) -> Endpoint:
    """Declare an endpoint, or a mounted application, open to callers without the API key.

    Requests to a public endpoint do not count as load, and a public endpoint also answers when
    the limit of requests in flight is reached.
    """
    setattr(endpoint, _MARK, True)
    return endpoint


def protected_paths(routes: Sequence[BaseRoute]) -> list[str]:
    """List the paths of an application's protected routes."""
    return [
        str(route.path)
        for route in iter_route_contexts(routes)
        if route.endpoint is not None and not is_public(route.endpoint)
    ]


def check_path(routes: Sequence[BaseRoute], method: str, path: str, variable: str) -> None:
    """Check that only one route has a path that the platform chose.

    Args:
        routes: All routes of the application, the route of the path among them.
        method: Method of the platform's requests.
        path: The path.
        variable: The environment variable that holds the path.

    Raises:
        EuroSATError: Another route has the path, too.
    """
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    matches = (route.matches(scope)[0] for route in iter_route_contexts(routes))
    if sum(match is Match.FULL for match in matches) > 1:
        raise EuroSATError(
            f"{variable} is {path}, and the service has another route of this path: set {variable} "
            "to another path, or unset the variable"
        )


def is_public(endpoint: object) -> bool:
    """Return whether an endpoint is declared `public`."""
    return getattr(endpoint, _MARK, False) is True


class Admission:
    """ASGI middleware around the whole application.

    The middleware answers 401 to a request without the API key, 413 to a body that is too large,
    503 with ``Retry-After`` when too many requests are in flight, and 504 to a request that takes
    too long. The middleware counts and times every request, and stores the request's ``id``, the
    path of its ``route`` and its start (``started``, by `time.perf_counter`) in ``request.state``.
    The id is the service's own: an id that the caller sends goes back in the header, and is in no
    log. HEAD is answered wherever GET is.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, api_key: str | None) -> None:
        """Wrap an application.

        Args:
            app: The application.
            limits: The limits of the service.
            api_key: The key that callers must send; None opens all routes.
        """
        self.app = app
        self.limits = limits
        self.api_key = api_key
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        match scope["type"]:
            case "http":
                await self._answer(scope, receive, send)
            case "websocket" if not _chosen_route(scope).public:
                await send({"type": "websocket.close", "code": 1008})  # policy violation
            case _:
                await self.app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        if scope["method"] == "HEAD":  # uvicorn leaves out the body
            scope = {**scope, "method": "GET"}
        route = _chosen_route(scope)
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {}).update(id=request_id, route=route.path, started=started)
        echoed = (_caller_id(dict(scope["headers"])) or request_id).encode()
        status: int | str = 0
        body = _Body(receive, self.limits.max_body_bytes, self._too_large())

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                gone = await body.caller_has_gone()
                status = metrics.DISCONNECTED if gone else message["status"]
                given = {name.lower() for name, _ in message["headers"]}
                added = {**_SAFE_HEADERS, b"x-request-id": echoed}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in added.items() if name not in given),
                ]
            await send(message)

        async def refuse(code: int, message: str, headers: dict[str, str]) -> None:
            await problem(code, message, request_id, headers)(scope, body.receive, send_with_id)

        try:
            refusal = self._refusal(route.public, dict(scope["headers"]))
            if refusal is not None:
                await refuse(*refusal)
            elif route.public:
                await self.app(scope, body.receive, send_with_id)
            elif not await self._admit(scope, body.receive, send_with_id) and not status:
                await refuse(504, self._too_slow(), {})
        finally:  # a request without an answer failed
            metrics.REQUESTS.labels(route.path, status or 500).inc()
            metrics.DURATION.labels(route.path).observe(time.perf_counter() - started)

    def _refusal(
        self, public: bool, headers: dict[bytes, bytes]
    ) -> tuple[int, str, dict[str, str]] | None:
        """Return the status, message and headers of a refusal, or None to admit the request."""
        if not public and not carries_key(
            self.api_key, headers.get(b"x-api-key", b""), headers.get(b"authorization", b"")
        ):
            message = "the API key is missing or wrong: send the right key as the header X-API-Key"
            return 401, message, {"WWW-Authenticate": "Bearer"}
        if _length(headers) > self.limits.max_body_bytes:
            return 413, self._too_large(), {}
        if not public and self.in_flight >= self.limits.max_in_flight:
            count = self.in_flight
            message = f"{count} requests are being answered, which is the limit: try again in 1 s"
            return 503, message, {"Retry-After": "1"}
        return None

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Run the route and count it as load; return False if the route exceeded the time limit."""
        self.in_flight += 1
        metrics.IN_FLIGHT.inc()
        try:
            async with asyncio.timeout(self.limits.timeout):
                await self.app(scope, receive, send)
        except TimeoutError:
            return False
        finally:
            self.in_flight -= 1
            metrics.IN_FLIGHT.dec()
        return True

    def _too_large(self) -> str:
        limit = f"{self.limits.max_body_bytes / 2**20:g} MiB"
        return f"the body is larger than the limit of {limit}: send fewer or smaller images"

    def _too_slow(self) -> str:
        limit = f"{self.limits.timeout:g} s"
        return f"the answer took longer than the limit of {limit}: send fewer images, or try again"


class _Body:
    """The body of a request, up to the limit of its size, and whether the caller has gone."""

    def __init__(self, receive: Receive, limit: int, too_large: str) -> None:
        self._receive = receive
        self._limit = limit
        self._too_large = too_large
        self._received = 0
        self._complete = False
        self._gone = False

    async def receive(self) -> Message:
        """Receive the next part of the body, or the message that the caller has gone."""
        message = await self._receive()
        self._gone |= message["type"] == "http.disconnect"
        self._complete |= not message.get("more_body", False)
        self._received += len(message.get("body", b""))
        if self._received > self._limit:
            raise HTTPException(413, self._too_large)
        return message

    async def caller_has_gone(self) -> bool:
        """Return whether the caller has closed the connection; known once the body is complete.

        Before, the question would take a part of the body from the route.
        """
        if self._complete and not self._gone:
            self._gone = await Request({"type": "http"}, self._receive).is_disconnected()
        return self._gone


class _Chosen(NamedTuple):
    """The route that answers a request."""

    path: str
    """The route's own path, such as ``/examples/{name}``; "other" if no route has the path."""

    public: bool


def _chosen_route(scope: Scope) -> _Chosen:
    """Find the route that the router will choose, by the router's own order and rules."""
    wrong_method = None
    for route in iter_route_contexts(scope["app"].routes):
        match, found = route.matches(scope)
        if match is Match.NONE:
            continue
        chosen = _Chosen(route.path or "other", is_public(found.get("endpoint")))
        if match is Match.FULL:
            return chosen
        wrong_method = wrong_method or chosen  # the router answers 405 unless a later route fits
    return wrong_method or _Chosen("other", public=False)


def _length(headers: dict[bytes, bytes]) -> int:
    """Return the ``Content-Length``; 0 without the header, because `_limited` counts the bytes."""
    given = headers.get(b"content-length", b"0")
    return int(given) if given.isdigit() else 0


def _caller_id(headers: dict[bytes, bytes]) -> str | None:
    """Return the caller's own id of the request, which goes back to the caller and nowhere else."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else None
