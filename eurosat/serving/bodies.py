"""The bodies of requests: the size of each, the memory for all, and callers that leave.

A request to a protected route waits for its whole body before the request counts as load, so that
callers who send slowly take no place from others. The memory for bodies is limited: when it is
used up, the body that has been arriving for the longest time makes room.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Iterator

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from starlette.types import Message, Receive

from eurosat.serving.limits import Limits

MultiPartParser.spool_max_size = sys.maxsize
"""Keep uploads in memory, which `Bodies` limits, and never on a disk, which may be full."""


_PIECE = 16 * 1024
"""Bytes of a body that a route gets at once; a form of this size is parsed within 10 ms."""


class Bodies:
    """The memory for the bodies of all requests of a process."""

    def __init__(self, limits: Limits) -> None:
        """Reserve nothing; `limits` has the largest size of a body and of all bodies."""
        self.limits = limits
        self.free = limits.max_bodies_bytes
        self.arriving: dict[Body, None] = {}
        """The bodies of which parts are missing, in the order of their start."""

    def take(self, body: "Body", size: int) -> None:
        """Reserve bytes for a part of a body.

        Raises:
            HTTPException: The requests that are being answered have used up the memory (503).
        """
        while size > self.free:
            slowest = next((other for other in self.arriving if other is not body), None)
            if slowest is None:
                raise HTTPException(
                    503,
                    "the requests that are being answered have used up the memory for bodies: try "
                    "again in 1 s",
                    {"Retry-After": "1"},
                )
            slowest.make_room()
        self.free -= size


class Body:
    """The body of one request."""

    made_room = False
    """Whether the memory of the body was given to other bodies."""

    complete = False
    """Whether all parts were received."""

    _gone = False

    def __init__(self, receive: Receive, bodies: Bodies) -> None:
        """Wrap the function that receives the parts of the body."""
        self._receive = receive
        self._bodies = bodies
        self._parts: deque[Message] = deque()
        self._size = 0
        self._reserved = 0

    async def read(self, time_limit: asyncio.Timeout) -> None:
        """Wait for the whole body.

        Args:
            time_limit: The time limit of the request, which ends early if the body makes room.

        Raises:
            HTTPException: The body arrives too slowly (408) or is too large (413), the caller has
                closed the connection (499), or there is no memory for the body (503).
        """
        self._time_limit = time_limit
        try:
            while not self.complete and not self.made_room:
                part = await self._next()
                if self._gone:
                    raise HTTPException(
                        499, "the connection was closed before the body was complete: send it again"
                    )
                self._bodies.take(self, len(part["body"]))
                self._reserved += len(part["body"])
                self._parts.extend(_pieces(part))
                if self._reserved and not self.complete:
                    self._bodies.arriving[self] = None
        except asyncio.CancelledError:
            if not time_limit.expired():
                raise
        finally:
            self._bodies.arriving.pop(self, None)
        if self.made_room or not self.complete:
            raise HTTPException(
                408,
                "the body arrived too slowly: send fewer or smaller images, or try again",
                {"Connection": "close"},
            )

    def make_room(self) -> None:
        """Forget the body, and end its request."""
        self.made_room = True
        self.release()
        if not self._time_limit.expired():
            self._time_limit.reschedule(asyncio.get_running_loop().time())

    def release(self) -> None:
        """Give the memory of the body back."""
        self._parts.clear()
        self._bodies.arriving.pop(self, None)
        self._bodies.free += self._reserved
        self._reserved = 0

    async def receive(self) -> Message:
        """Receive the next part of the body, or the message that the caller has gone.

        Raises:
            HTTPException: The body is too large (413).
        """
        if not self._parts:
            return await self._next()
        part = self._parts.popleft()
        if self._parts:
            await asyncio.sleep(0)  # the route's work on a large body must not stop others
        return part

    async def _next(self) -> Message:
        message = await self._receive()
        self._gone |= message["type"] == "http.disconnect"
        self.complete |= not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        self.check_size(self._size)
        return message

    def check_size(self, size: int) -> None:
        """Check a size of the body in bytes, which the body has or will have.

        Raises:
            HTTPException: The size is too large (413).
        """
        if size > (limit := self._bodies.limits.max_body_bytes):
            raise HTTPException(
                413,
                f"the body is larger than the limit of {limit / 2**20:g} MiB: send fewer or "
                "smaller images",
            )

    async def caller_has_gone(self) -> bool:
        """Return whether the caller has closed the connection; known once the body is complete.

        Before, the question would take a part of the body from the route.
        """
        if self.complete and not self._gone:
            self._gone = await Request({"type": "http"}, self._receive).is_disconnected()
        return self._gone


def _pieces(part: Message) -> Iterator[Message]:
    """Cut a part of a body into pieces, so that the route's work on each is short."""
    body = part["body"]
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE]
        more = part.get("more_body", False) or start + _PIECE < len(body)
        yield {"type": "http.request", "body": piece, "more_body": more}
    if not body:
        yield part
