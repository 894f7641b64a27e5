"""A bucket that refuses whatever the account asks for."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ACCOUNT = "service@project.iam.gserviceaccount.com"


class _Handler(BaseHTTPRequestHandler):
    """Answers as Google Cloud Storage does to an account without rights."""

    protocol_version = "HTTP/1.1"
    right_to_upload = "create"

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == "GET":
            right = "list" if self.path.partition("?")[0].endswith("/o") else "get"
        else:
            right = "delete" if self.command == "DELETE" else self.right_to_upload
        message = (
            f"{ACCOUNT} does not have storage.objects.{right} access to the Google Cloud "
            f"Storage object. Permission 'storage.objects.{right}' denied on resource (or it may "
            "not exist)."
        )
        body = json.dumps({"error": {"code": 403, "message": message}}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _refuse  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def forbidden_bucket(right_to_upload: str = "create") -> Iterator[str]:
    """Run the bucket, and yield the value of STORAGE_EMULATOR_HOST.

    Google Cloud Storage needs the right to delete for the upload of an object that exists.
    """
    handler = type("Handler", (_Handler,), {"right_to_upload": right_to_upload})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
