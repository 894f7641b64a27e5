"""A stand-in for the Hugging Face hub on loopback, and a process that uses it as its hub.

The stand-in answers the documented routes that reading needs: the information of a repository, its
tree, the information of paths, and the contents of files, with ranges and ETags. Repositories and
faults are set by the test. Xet headers are absent, so files come by plain HTTP.
"""

import contextlib
import hashlib
import io
import json
import re
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit

_API = re.compile(r"/api/(\w+/[^/]+/[^/]+)(?:/(revision|tree|paths-info)/(\w+)(?:/(.*))?)?")
_RESOLVE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/(\w+)/(.+)")
_MISSING = {"Repo": 401, "Revision": 404, "Entry": 404}
"""Statuses of what is missing; the hub does not tell strangers which private names exist."""


@dataclass
class Repository:
    """A repository of one commit.

    Attributes:
        commit: The commit.
        files: Contents by path.
    """

    commit: str
    files: dict[str, bytes]


@dataclass
class Fault:
    """What goes wrong with the requests of a route.

    Attributes:
        route: Pattern that is searched in method and path, such as ``"GET .*/resolve/"``.
        status: Status of the answer; None for the file.
        headers: Headers of the answer.
        times: Number of requests that fail.
        kept: Number of bytes of the file that are sent before the answer breaks off.
        flipped: Position of a byte of the file that is changed on its way.
    """

    route: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1_000_000
    kept: int | None = None
    flipped: int | None = None


class StandInHub(ThreadingHTTPServer):
    """The stand-in hub; a context manager that serves in a thread.

    Attributes:
        repositories: Repositories by kind and name, such as ``"datasets/owner/name"``.
        faults: What goes wrong; the first fault that fits a request counts.
        requests: Method, path and range of every request.
    """

    def __init__(self, port: int) -> None:
        """Listen on loopback."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, str | None]] = []

    def __enter__(self) -> "StandInHub":
        """Start to serve."""
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving, so that later connections are refused."""
        self.shutdown()
        self.server_close()

    def fault(self, request: str) -> Fault | None:
        """Find the fault of a request, and count the request."""
        for fault in self.faults:
            if fault.times and re.search(fault.route, request):
                fault.times -= 1
                return fault
        return None

    def downloads(self, file: str) -> list[str | None]:
        """Ranges of the downloads of a file."""
        return [
            part
            for method, path, part in self.requests
            if method == "GET" and path.endswith(f"/{file}") and "/resolve/" in path
        ]


class _Handler(BaseHTTPRequestHandler):
    server: StandInHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._body = self.rfile.read(length).decode()
        part = self.headers.get("Range")
        self.server.requests.append((self.command, self.path, part))
        fault = self.server.fault(f"{self.command} {self.path}")
        if fault and fault.status:
            self._send(fault.status, b"{}", fault.headers)
            return
        url = urlsplit(self.path)
        path = unquote(url.path)
        if found := _RESOLVE.fullmatch(path):
            kind, name, revision, file = found.groups()
            self._file(f"{kind or 'models'}/{name}", revision, file, fault)
        elif found := _API.fullmatch(path):
            self._information(*found.groups(), recursive="rue" in str(parse_qs(url.query)))
        else:
            self._send(404, b"{}")

    def _file(self, name: str, revision: str, file: str, fault: Fault | None) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        if file not in repository.files:
            self._missing("Entry")
            return
        data, start = repository.files[file], 0
        headers = {
            "X-Repo-Commit": repository.commit,
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Linked-Size": str(len(data)),
            "Accept-Ranges": "bytes",
        }
        if part := self.headers.get("Range"):
            start = int(part.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if fault and fault.flipped is not None:
            changed = bytes([data[fault.flipped] ^ 0xFF])
            data = data[: fault.flipped] + changed + data[fault.flipped + 1 :]
        self._send(206 if part else 200, data[start:], headers, fault and fault.kept)

    def _information(
        self,
        name: str,
        route: str | None,
        revision: str | None,
        folder: str | None,
        recursive: bool,
    ) -> None:
        repository = self._repository(name, revision)
        if repository is None:
            return
        entries = [
            {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for path, data in repository.files.items()
        ] + [
            {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
            for path in sorted({p.rpartition("/")[0] for p in repository.files if "/" in p})
        ]
        content: Any
        if route == "tree":
            prefix = f"{folder}/" if folder else ""
            content = [
                entry
                for entry in entries
                if (path := str(entry["path"])).startswith(prefix)
                and (recursive or "/" not in path.removeprefix(prefix))
            ]
            if not content:
                self._missing("Entry")
                return
        elif route == "paths-info":
            asked = parse_qs(self._body).get("paths") or json.loads(self._body)["paths"]
            content = [entry for entry in entries if entry["path"] in asked]
        else:
            siblings = [{"rfilename": path} for path in repository.files]
            content = {"id": name.partition("/")[2], "sha": repository.commit, "siblings": siblings}
            content |= {"tags": [], "private": False, "downloads": 0, "likes": 0}
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _repository(self, name: str, revision: str | None) -> Repository | None:
        repository = self.server.repositories.get(name)
        if repository is None:
            self._missing("Repo")
        elif revision not in (None, "main", repository.commit):
            self._missing("Revision")
        else:
            return repository
        return None

    def _missing(self, what: str) -> None:
        self._send(_MISSING[what], b"{}", {"X-Error-Code": f"{what}NotFound"})

    def _send(
        self,
        status: int,
        data: bytes,
        headers: Mapping[str, str] | None = None,
        kept: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(data)),
            "Connection": "close",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data if kept is None else data[:kept])
        self.close_connection = True  # The next test's hub must get the next request.


@dataclass(frozen=True)
class Answer:
    """How a command of the command line ended.

    Attributes:
        code: The exit code; None if the command ended with a traceback.
        error: The lines of standard error.
        waited: Seconds that the command would have slept.
    """

    code: int | None
    error: str
    waited: float


def run_command(arguments: list[str], archives: Mapping[bool, Any]) -> Answer:
    """Run the command line in a process whose hub is the stand-in, without sleeping.

    Args:
        arguments: The arguments.
        archives: Descriptions that replace those of the published archives.
    """
    from huggingface_hub import HfFileSystem

    from eurosat.cli import main
    from eurosat.data import published

    HfFileSystem.clear_instance_cache()  # remembers answers of earlier hubs
    waited: list[float] = []
    error = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(published.HUB_FILES, archives))
        stack.enter_context(mock.patch.object(time, "sleep", waited.append))
        stack.enter_context(contextlib.redirect_stderr(error))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        code: int | None = None
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            error.write(traceback.format_exc())
    return Answer(code, error.getvalue(), sum(waited))


def recipe_tensors(path: str) -> dict[str, str]:
    """Build the model of a recipe, and give the SHA-256 of each tensor of its backbone."""
    import yaml

    from eurosat.models.classifier import EuroSATClassifier

    model = yaml.safe_load(Path(path).read_text("utf-8"))["model"]
    names = ("backbone", "pretrained", "backbone_args")
    classifier = EuroSATClassifier(**{name: model[name] for name in names if name in model})
    tensors = classifier.backbone.state_dict()
    return {
        name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for name, tensor in tensors.items()
    }
