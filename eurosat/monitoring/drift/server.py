"""The HTTP server of the drift service."""

import json
import logging
import signal
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from eurosat.api_key import carries_key
from eurosat.errors import DriftError
from eurosat.monitoring.drift.metrics import render
from eurosat.monitoring.drift.page import render_assessment
from eurosat.monitoring.drift.watch import Watch

_log = logging.getLogger(__name__)

_TEXT = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """The answer to a request."""

    status: int
    kind: str
    body: bytes


def make_server(
    watch: Watch, host: str, port: int, *, api_key: str | None = None
) -> ThreadingHTTPServer:
    """Bind the server of a watch.

    Args:
        watch: The watch whose state is served.
        host: Address to listen on.
        port: Port to listen on; 0 for any free port.
        api_key: The key that ``/drift`` and ``/drift/report`` need, as the prediction service's
            routes do; None opens both.

    Raises:
        DriftError: The address cannot be bound.
    """
    routes: dict[str, Callable[[], Answer]] = {
        "/drift": lambda: _drift(watch),
        "/drift/report": lambda: _report(watch),
        "/metrics": lambda: Answer(
            200, "text/plain; version=0.0.4; charset=utf-8", render(lambda: watch.state)
        ),
        "/health": lambda: Answer(200, _TEXT, b"ok\n"),
    }
    public = {"/metrics", "/health"}

    class Handler(BaseHTTPRequestHandler):
        """Answers GET and HEAD."""

        timeout = 10  # seconds; a caller that sends nothing must not hold a thread
        server_version, sys_version = "eurosat-drift", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].rstrip("/") or "/drift/report"
            given = (self.headers.get(name, "") for name in ("X-API-Key", "Authorization"))
            # The headers' bytes, which http.server decodes as Latin-1.
            header, authorization = (value.encode("latin-1") for value in given)
            if path not in public and not carries_key(api_key, header, authorization):
                answer = _plain(401, "send the API key in the header X-API-Key")
            elif path not in routes:
                answer = _plain(404, f"there is no such route: use {', '.join(routes)}")
            else:
                answer = routes[path]()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, format: str, *arguments: Any) -> None:
            _log.debug(format, *arguments)

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise DriftError(f"cannot bind {host}:{port}: {error}; choose another --port") from error
    server.daemon_threads = True
    return server


def serve_until_stopped(watch: Watch, server: ThreadingHTTPServer, interval: float) -> None:
    """Read the log at an interval and answer requests, until SIGTERM or Ctrl-C.

    Args:
        watch: The watch.
        server: The server of `make_server`.
        interval: Seconds between two readings of the log.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    reading = threading.Thread(target=watch.run, args=(interval, stop), daemon=True)
    answering = threading.Thread(target=server.serve_forever, daemon=True)
    reading.start()
    answering.start()
    stop.wait()
    server.shutdown()
    server.server_close()


def _drift(watch: Watch) -> Answer:
    return Answer(200, "application/json", json.dumps(watch.state.to_json()).encode() + b"\n")


def _report(watch: Watch) -> Answer:
    assessment = watch.state.assessment
    if assessment is None:
        reason = watch.state.error or "the log has not been read yet: try again in some seconds"
        return _plain(503, reason)
    page = render_assessment(assessment, watch.reference)
    return Answer(200, "text/html; charset=utf-8", page.encode())


def _plain(status: int, text: str) -> Answer:
    return Answer(status, _TEXT, f"{text}\n".encode())
