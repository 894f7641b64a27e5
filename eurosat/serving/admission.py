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
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eurosat.api_key import carries_key
from eurosat.errors import EuroSATError
from eurosat.serving import metrics
from eurosat.serving.bodies import Bodies, Body
from eurosat.serving.limits import Limits
from eurosat.serving.problems import SAFE_HEADERS, problem

_log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[ !#-;=?-~]{1,128}")
"""Printable ASCII without quotes and brackets of HTML."""

_PREFIX = re.compile(r"(/([A-Za-z0-9._~!$&'()*+;=:@-]|%[0-9A-Fa-f]{2})+)+")
"""One path of RFC 3986 without commas, with which proxies separate several values."""

_MARK = "_eurosat_public"

_SAFE_HEADERS = {name.encode(): value.encode() for name, value in SAFE_HEADERS.items()}

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

    The middleware answers 401 to a request without the API key, 408 to a body that arrives too
    slowly, 413 to a body that is too large, 503 with ``Retry-After`` when too many requests are in
    flight or memory is short, and 504 to a request that takes too long. A request is in flight from
    the end of its body. The middleware answers 500 to a request whose route raises an error, and
    counts and times every request.

    ``request.state`` has the request's ``id``, the path of its ``route`` and its start
    (``started``, by `time.perf_counter`). The id is the service's own: an id that the caller sends
    goes back in the header, and is in no log. HEAD is answered wherever GET is. A path prefix that
    a proxy removes and names in ``X-Forwarded-Prefix`` is ASGI's ``root_path``.
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
        self.bodies = Bodies(limits)
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        match scope["type"]:
            case "http":
                await self._answer(scope, receive, send)
            case "lifespan":
                await self.app(scope, receive, send)
            case other:  # the service answers a request for a websocket as any other request
                raise NotImplementedError(f"there are no routes for {other}")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = dict(scope["headers"])
        if scope["method"] == "HEAD":  # uvicorn leaves out the body
            scope = {**scope, "method": "GET"}
        if not scope.get("root_path") and (prefix := _prefix(headers)):
            scope = {**scope, "path": prefix + scope["path"], "root_path": prefix}
        route = _chosen_route(scope)
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {}).update(id=request_id, route=route.path, started=started)
        echoed = (_caller_id(headers) or request_id).encode()
        body = Body(receive, self.bodies)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                gone = await body.caller_has_gone()
                status = metrics.CALLER_HAS_GONE if gone else message["status"]
                given = {name.lower() for name, _ in message["headers"]}
                added = {**_SAFE_HEADERS, b"x-request-id": echoed}
                message["headers"] = [
                    *((name, _without_host(name, value)) for name, value in message["headers"]),
                    *((name, value) for name, value in added.items() if name not in given),
                ]
            await send(message)

        time_limit = asyncio.timeout(self.limits.timeout)
        try:
            async with time_limit:
                self._check(route.public, headers, body)
                if route.public:
                    await self.app(scope, body.receive, send_with_id)
                else:
                    await body.read(time_limit)
                    await self._admit(scope, body, send_with_id)
                if not status:
                    raise RuntimeError("the route gave no answer")
        except (Exception, asyncio.CancelledError) as error:
            failure = self._failure(error, request_id, time_limit.expired())
            if status:  # uvicorn closes the connection of an answer that breaks off
                status = failure.status_code
            else:
                answer = problem(failure.status_code, failure.detail, request_id, failure.headers)
                await answer(scope, body.receive, send_with_id)
        finally:
            body.release()
            if status == metrics.CALLER_HAS_GONE:
                _log.info(
                    "request %s to %s: the caller closed the connection before the answer",
                    request_id,
                    route.path,
                )
            metrics.REQUESTS.labels(route.path, status or 500).inc()
            metrics.DURATION.labels(route.path).observe(time.perf_counter() - started)

    def _check(self, public: bool, headers: dict[bytes, bytes], body: Body) -> None:
        """Check what can be said before the body arrives.

        Raises:
            HTTPException: The request is refused.
        """
        if not public and not carries_key(
            self.api_key, headers.get(b"x-api-key", b""), headers.get(b"authorization", b"")
        ):
            raise HTTPException(
                401,
                "the API key is missing or wrong: send the right key as the header X-API-Key",
                {"WWW-Authenticate": "Bearer"},
            )
        body.check_size(_length(headers))
        if not public:
            self._check_load()

    def _check_load(self) -> None:
        if self.in_flight >= self.limits.max_in_flight:
            raise HTTPException(
                503,
                f"{self.in_flight} requests are being answered, which is the limit: try again in "
                "1 s",
                {"Retry-After": "1"},
            )

    async def _admit(self, scope: Scope, body: Body, send: Send) -> None:
        """Run the route and count it as load."""
        self._check_load()  # again, because the body took its time
        self.in_flight += 1
        metrics.IN_FLIGHT.inc()
        try:
            await self.app(scope, body.receive, send)
        finally:
            self.in_flight -= 1
            metrics.IN_FLIGHT.dec()

    def _failure(self, error: BaseException, request_id: str, too_slow: bool) -> HTTPException:
        """Describe the error that ended a request, and log an error that nobody expects."""
        match error:
            case HTTPException():
                return error
            case ClientDisconnect():
                return HTTPException(metrics.CALLER_HAS_GONE, "the connection was closed")
            case TimeoutError() if too_slow:
                return HTTPException(
                    504,
                    f"the answer took longer than the limit of {self.limits.timeout:g} s: send "
                    "fewer images, or try again",
                )
            case asyncio.CancelledError():
                return HTTPException(
                    503, "the service stops: send the request again", {"Retry-After": "5"}
                )
            case MemoryError():
                _log.error("request %s failed for lack of memory", request_id, exc_info=error)
                return HTTPException(
                    503,
                    "the service has too little memory for the request: try again in 5 s, or send "
                    "fewer or smaller images",
                    {"Retry-After": "5"},
                )
        _log.error("request %s failed", request_id, exc_info=error)
        return HTTPException(
            500, "an internal error occurred: look up the request's id in the service's log"
        )


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
    """Return the ``Content-Length``; 0 without the header, because `Body` counts the bytes."""
    given = headers.get(b"content-length", b"0")
    return int(given) if given.isdigit() else 0


def _caller_id(headers: dict[bytes, bytes]) -> str | None:
    """Return the caller's own id of the request, which goes back to the caller and nowhere else."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else None


def _prefix(headers: dict[bytes, bytes]) -> str:
    """Return the path prefix that a proxy removed from the path; empty without a prefix."""
    given = headers.get(b"x-forwarded-prefix", b"").decode("latin-1").rstrip("/")
    return given if _PREFIX.fullmatch(given) else ""


def _without_host(name: bytes, value: bytes) -> bytes:
    """Keep the path of a redirect only: a proxy may have another host and scheme."""
    if name != b"location":
        return value
    return urlsplit(value)._replace(scheme=b"", netloc=b"").geturl()
