"""What every request passes before it is looked at: key, size, load, time."""

import asyncio
import hmac
import re
import time
import uuid
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eurosat.serving import metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True)
class Limits:
    """What the service takes on.

    Attributes:
        max_in_flight: Requests that one API process answers at the same time.
        max_body_bytes: Size of a request's body.
        max_images: Images in one request.
        timeout: Seconds from a request's first byte to its answer.
    """

    max_in_flight: int
    max_body_bytes: int
    max_images: int
    timeout: float


def problem(status: int, message: str, request_id: str, headers: dict[str, str]) -> JSONResponse:
    """An error as the service answers it: one sentence, and the id to ask about it."""
    return JSONResponse({"error": message, "id": request_id}, status, headers)


class Guard:
    """ASGI middleware around the whole application.

    Answers 401 without the API key, 413 to a body too large, 503 with ``Retry-After`` when too
    many requests are in flight, and 504 to one that took too long; counts and times them all.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        api_key: str | None,
        guarded: frozenset[str],
    ) -> None:
        """Wrap an application.

        Args:
            app: The application.
            limits: What it takes on.
            api_key: Key that guarded paths ask for; None asks for none.
            guarded: Paths that need the key and count as load; all others are always open.
        """
        self.app = app
        self.limits = limits
        self.api_key = api_key.encode() if api_key else None
        self.guarded = guarded
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        path: str = scope["path"]
        headers = dict(scope["headers"])
        scope.setdefault("state", {})["id"] = request_id = _request_id(headers)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        async def refuse(code: int, sentence: str, **extra: str) -> None:
            await problem(code, sentence, request_id, extra)(scope, receive, send_with_id)

        if path not in self.guarded:
            await self.app(scope, receive, send_with_id)
        elif self.api_key is not None and not self._has_key(headers):
            await refuse(
                401,
                "the API key is missing or wrong: send it as the header X-API-Key",
                **{"WWW-Authenticate": "Bearer"},
            )
        elif _length(headers) > self.limits.max_body_bytes:
            await refuse(413, self._too_large())
        elif self.in_flight >= self.limits.max_in_flight:
            await refuse(
                503,
                f"{self.in_flight} requests are being answered already: try again in a second",
                **{"Retry-After": "1"},
            )
        else:
            self.in_flight += 1
            metrics.IN_FLIGHT.inc()
            try:
                async with asyncio.timeout(self.limits.timeout):
                    await self.app(scope, self._limited(receive), send_with_id)
            except TimeoutError:
                if not status:
                    await refuse(504, f"no answer within {self.limits.timeout:g} s")
            finally:
                self.in_flight -= 1
                metrics.IN_FLIGHT.dec()
        route = path if path in self.guarded or status < 400 else "other"
        metrics.REQUESTS.labels(route, status).inc()
        metrics.LATENCY.labels(route).observe(time.perf_counter() - started)

    def _has_key(self, headers: dict[bytes, bytes]) -> bool:
        assert self.api_key is not None
        given = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(
            b"Bearer "
        )
        return hmac.compare_digest(given, self.api_key)

    def _too_large(self) -> str:
        return f"the body is larger than {self.limits.max_body_bytes / 2**20:g} MiB"

    def _limited(self, receive: Receive) -> Receive:
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.limits.max_body_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return limited


def _length(headers: dict[bytes, bytes]) -> int:
    """The length a body claims; a body that claims none is measured as it comes."""
    given = headers.get(b"content-length", b"0")
    return int(given) if given.isdigit() else 0


def _request_id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
