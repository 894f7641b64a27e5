"""Connections to callers: the size of a request's head, times, and the number of connections.

uvicorn has no such limits for httptools, its faster parser. uvicorn's setting ``http`` takes a
class of one's own, which here derives from uvicorn's class.
"""

import functools
import logging
import time
import uuid
from typing import Any

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from eurosat.serving import metrics
from eurosat.serving.limits import Limits
from eurosat.serving.problems import SAFE_HEADERS, problem

_log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 32 * 1024
"""Largest size of a request's head, its target and headers; nginx has this limit."""

MAX_HEADERS = 100
"""Largest number of headers of a request; Apache has this limit."""

HEAD_SECONDS = 10.0
"""Longest time in which a connection brings no whole head of a request."""

_READ_SECONDS = 5.0
"""Time in which a caller must read an answer, after the time limit of the request."""

_LOG_SECONDS = 10.0
"""Time between two messages about the number of connections."""


def connections(limits: Limits) -> functools.partial["Connection"]:
    """Build uvicorn's setting ``http``.

    Half of the file descriptors that the process may open are for connections.

    Args:
        limits: The limits of the service.
    """
    import resource  # not on Windows

    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(1024, 4 * limits.max_in_flight)
    if descriptors != resource.RLIM_INFINITY:
        most = min(most, descriptors // 2)
    return functools.partial(Connection, most=most, answer_seconds=limits.timeout + _READ_SECONDS)


_COUNTED_CHUNKS = 1000
"""Chunks of a body after which the size of the chunks is checked."""

_MIN_CHUNK = 64
"""Smallest mean size of a body's chunks in bytes; every chunk costs as long as a large one."""


class _Parser(HttpRequestParser):
    """httptools' parser, which drops the body of a request that offers another protocol."""

    def __init__(self, connection: "Connection") -> None:
        """Parse for a connection."""
        super().__init__(connection)
        self._connection = connection

    def feed_data(self, data: Any) -> None:
        """Parse data."""
        try:
            super().feed_data(data)
        except HttpParserUpgrade as upgrade:
            if self.get_method() != b"CONNECT":
                self._connection.ignore_upgrade(data[upgrade.args[0] :])


class Connection(HttpToolsProtocol):
    """A connection to a caller.

    If there are too many connections, the connection which has waited longest for a head or a body
    is closed, so that callers who send nothing, or send slowly, take no place from others.
    """

    _in_head = False
    """Whether a part of a head has arrived."""

    _head_too_large = False
    _unparsed = 0
    """Bytes since the end of the last head or part of a body; the parser keeps them in memory."""

    _chunks = 0
    _chunk_bytes = 0

    _answered: RequestResponseCycle | None = None
    """The request that is being answered, or was answered last; `cycle` is the last to arrive."""

    _last_log = -_LOG_SECONDS

    def __init__(self, *arguments: Any, most: int, answer_seconds: float, **options: Any) -> None:
        """Store the limits.

        Args:
            arguments: Arguments of uvicorn's class.
            most: Largest number of connections of the process.
            answer_seconds: Longest time from a head to the end of the answer.
            options: Arguments of uvicorn's class.
        """
        super().__init__(*arguments, **options)
        self.parser = _Parser(self)
        self._most = most
        self._answer_seconds = answer_seconds

    def connection_made(self, transport: Any) -> None:
        """Start the watch over the connection."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._watch()
        if len(self.connections) > self._most:
            self._close_longest()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the watch and the request that is being answered, and count those that wait for it.

        uvicorn ends the last request of a pipeline instead, so that the first would go on to write.
        """
        self._timer.cancel()
        if self._answered is not None:
            self._answered.disconnected = not self._answered.response_complete
            self._answered.message_event.set()
        if self.pipeline:
            lost = len(self.pipeline)
            _log.info("%d pipelined requests were not answered: the connection is closed", lost)
            metrics.REQUESTS.labels("other", metrics.CALLER_HAS_GONE).inc(lost)
            self.pipeline.clear()
        super().connection_lost(exc)

    def ignore_upgrade(self, rest: bytes) -> None:
        """Parse a head again without its offer of another protocol, which a server may ignore.

        Java's client offers HTTP/2 with every request.
        """
        version = self.parser.get_http_version().encode()
        head = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        head += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = _Parser(self)
        self.parser.feed_data(b"\r\n".join([*head, b"", rest]))

    def data_received(self, data: bytes) -> None:
        """Parse data; a head that never ends, or headers after the body, are refused."""
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header without white space after its value, as RFC 9110, section 5.5, asks."""
        super().on_header(name, value.rstrip(b" \t"))

    @property
    def _offers_upgrade(self) -> bool:
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def on_headers_complete(self) -> None:
        """Start a request, unless its head is too large."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        self._head_too_large = size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS
        if self._head_too_large:
            raise ValueError  # the parser stops, and uvicorn calls send_400_response
        if self._offers_upgrade:
            return  # ignore_upgrade has the head parsed again
        self._chunks = self._chunk_bytes = 0
        self._in_head = False
        self._unparsed = 0
        self._since = self.loop.time()
        super().on_headers_complete()
        if not self.pipeline:
            self._answered = self.cycle

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, which is a chunk or a part of a chunk."""
        self._unparsed = 0
        self._chunks += 1
        self._chunk_bytes += len(body)
        if self._chunks > _COUNTED_CHUNKS and self._chunk_bytes < _MIN_CHUNK * self._chunks:
            raise ValueError  # the parser stops, and uvicorn calls send_400_response
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self._offers_upgrade:
            return
        self._unparsed = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Answer the next request of the pipeline, or wait for the next head."""
        self._since = self.loop.time()
        if self.pipeline:
            self._answered = self.pipeline[-1][0]
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer data which the parser refuses."""
        if self._head_too_large:
            self._refuse_head()
        else:
            self._refuse(400, "the data are no HTTP request: send HTTP/1.1")

    def _refuse_head(self) -> None:
        self._refuse(
            431,
            f"the head of the request is larger than {MAX_HEAD_BYTES // 1024} KiB or has more than "
            f"{MAX_HEADERS} headers: send fewer or shorter headers",
        )

    def _refuse(self, status: int, message: str) -> None:
        """Answer what does not reach the application, and close the connection."""
        request_id = uuid.uuid4().hex
        _log.info("request %s got status %d: %s", request_id, status, message)
        metrics.REQUESTS.labels("other", status).inc()
        if self._waits_for_head:
            given = {"X-Request-ID": request_id, **SAFE_HEADERS}  # `Admission` adds nothing here
            answer = problem(status, message, request_id, given)
            headers = [*answer.raw_headers, (b"connection", b"close")]
            lines = [name + b": " + value + b"\r\n" for name, value in headers]
            self.transport.write(
                b"".join([STATUS_LINE[status], *lines, b"\r\n", bytes(answer.body)])
            )
        self.transport.close()

    @property
    def _waits_for_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        """Close the connection if it has been in its state for too long."""
        longest = HEAD_SECONDS if self._waits_for_head else self._answer_seconds
        if self.loop.time() - self._since > longest:
            if not self._in_head or self.transport.is_closing():
                self.transport.abort()
                return
            self._refuse(408, "the head of the request arrived too slowly: send the request again")
        self._timer = self.loop.call_later(HEAD_SECONDS / 4, self._watch)

    def _close_longest(self) -> None:
        """Close the connection which has waited longest for a head or a body."""
        waiting = (
            other
            for other in self.connections
            if isinstance(other, Connection)
            and (other._waits_for_head or other.cycle.more_body)
            and not other.transport.is_closing()
        )
        longest = min(waiting, key=lambda other: other._since)  # this connection waits, too
        now = time.monotonic()
        if now - Connection._last_log > _LOG_SECONDS:
            Connection._last_log = now
            _log.warning(
                "%d connections are open, which is the limit: connections that have waited longest "
                "for a request are closed",
                self._most,
            )
        if longest is self:
            self._refuse(503, "too many connections are open: try again")
        else:
            longest.transport.close()
