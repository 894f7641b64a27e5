"""Callers that send too much, too slowly or nothing, and folders without space."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.serving.conftest import Service, StartService

HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n"


@contextlib.contextmanager
def connected(service: Service, data: bytes = b"") -> Iterator[socket.socket]:
    address = urlsplit(service.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), 30) as caller:
        caller.sendall(data)
        yield caller


def answer(caller: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer before the service closes the connection."""
    text = b""
    with contextlib.suppress(ConnectionError):
        while part := caller.recv(65536):
            text += part
    head, _, body = text.partition(b"\r\n\r\n")
    if not head:
        return 0, {}, b""
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


def count(service: Service, route: str, status: int) -> float:
    return service.metric(f'eurosat_requests_total{{route="{route}",status="{status}"}}')


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /health HTTP/1.1\r\nA: " + b"a" * 33_000 + b"\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\nA: " + b"a" * 300_000, 431),
        (b"GET /health HTTP/1.1\r\n" + b"A: a\r\n" * 101 + b"\r\n", 431),
        (b"GET /health HTTP/1.1\r\n" + b"A: a\r\n" * 90_000, 431),
        (b"GET /health?" + b"a" * 33_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /" + b"a" * 300_000, 431),
        (b"\0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: a\r\n\r\n", 400),
    ],
    ids=[
        *("header", "endless", "headers", "endless-headers", "target", "endless-target"),
        *("no-http", "bad-length"),
    ],
)
def test_a_head_that_is_too_large_or_malformed_is_refused_and_counted(
    service: Service, data: bytes, status: int
) -> None:
    before = count(service, "other", status)
    with connected(service) as caller:
        with contextlib.suppress(ConnectionError):
            caller.sendall(data)
        found, headers, body = answer(caller)
    if found:  # the kernel throws the answer away if the service has not read all that was sent
        assert found == status
        assert json.loads(body)["id"] == headers["x-request-id"]
        assert headers["connection"] == "close"
    assert count(service, "other", status) == before + 1
    assert service.get("/health").status_code == 200


def test_headers_after_a_body_are_limited(service: Service) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: "
    with connected(service, HEAD + chunked) as caller, contextlib.suppress(ConnectionError):
        for _ in range(1000):
            caller.sendall(b"a" * 10_000)
        raise AssertionError("the service accepted 10 MB of headers after a body")


def test_the_usual_heads_are_accepted(service: Service) -> None:
    headers = {f"X-{i}": "a" * 300 for i in range(90)}
    assert service.get("/health", headers=headers).status_code == 200


def test_connections_without_a_request_are_closed(service: Service) -> None:
    """Idle, in the middle of a head, byte for byte, and with line ends before a head."""
    with (
        connected(service) as idle,
        connected(service, b"GET /health HTTP/1.1\r\nA: a") as half,
        connected(service, b"GET /health HTTP/1.1\r\nA: a") as dripping,
        connected(service, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n") as later,
    ):
        deadline = time.monotonic() + 20
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                dripping.sendall(b"a")
                later.sendall(b"\r\n")
                time.sleep(0.5)
        assert time.monotonic() < deadline
        assert answer(idle)[0] == 0
        assert answer(half)[0] == 408
        assert answer(later)[0] == 200
    assert count(service, "other", 408) >= 1


def test_slow_bodies_take_no_place_from_others(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service("--max_in_flight=2", "--timeout=3")
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(connected(service, HEAD + b"Content-Length: 9000\r\n\r\n--x"))
            for _ in range(20)
        ]
        assert service.metric("eurosat_requests_in_flight") == 0
        assert service.predict(pictures["Forest.jpg"]).status_code == 200
        for caller in slow:
            assert answer(caller)[0] == 408  # after the time limit
    assert count(service, "/predict", 408) == 20


def test_the_memory_for_bodies_is_limited_and_the_slowest_makes_room(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service("--max_body_mib=1", "--timeout=60")
    part = HEAD + b"Content-Length: 1048576\r\n\r\n" + b"a" * (2**20 - 1000)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connected(service, part)) for _ in range(20)]
        assert service.predict(pictures["Forest.jpg"]).status_code == 200
        statuses = [answer(caller)[0] for caller in slow[:4]]
        assert statuses == [408] * 4
        assert count(service, "/predict", 408) == 4
    wait = time.monotonic() + 30
    while count(service, "/predict", 499) < 16:
        assert time.monotonic() < wait
        time.sleep(0.05)


def test_more_connections_than_descriptors_are_survived_and_logged(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service(within="ulimit -n 160")
    with contextlib.ExitStack() as stack:
        for data in (b"", b"GET /health HTTP/1.1\r\n", HEAD + b"Content-Length: 9\r\n\r\n"):
            for _ in range(100):
                stack.enter_context(connected(service, data))
            assert service.predict(pictures["Forest.jpg"]).status_code == 200
    assert "80 connections are open, which is the limit" in service.log.read_text()
    assert "Traceback" not in service.log.read_text()


def test_more_files_than_images_are_refused_at_once(service: Service) -> None:
    files = [("file", (f"{i}.jpg", b"a")) for i in range(2000)]
    refused = service.post("/predict", files=files)
    assert refused.status_code == 413
    assert "more than 1000 images, and at most 128 are accepted" in refused.json()["error"]


def test_the_labels_of_a_running_service_are_routes(service: Service) -> None:
    def series() -> set[str]:
        lines = service.get("/metrics").text.splitlines()
        return {line.rpartition(" ")[0] for line in lines if "route=" in line}

    targets = ("/page/{}/../app.js", "/docs/static/{}/../x", "/examples/{}", "/v2/models/{}", "/{}")
    for target in targets:
        with connected(
            service, b"GET " + target.format(0).encode() + b" HTTP/1.0\r\n\r\n"
        ) as first:
            answer(first)
    series()  # the route of the metrics counts from the first answer on
    before = series()
    for i in range(1, 20):
        for target in targets:
            line = f"GET {target.format(i)} HTTP/1.0\r\n\r\n".encode()
            with connected(service, line) as caller:
                answer(caller)
    assert series() == before


def isolated(commands: str) -> str:
    """Run commands in a mount namespace of their own, and go on there."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, of util-linux")
    tried = subprocess.run(
        ["unshare", "-rm", "sh", "-ec", "mount -t tmpfs tmpfs /mnt"], capture_output=True
    )
    if tried.returncode:
        pytest.skip("needs to mount a file system in a user namespace")
    return f"""if [ -z "$INNER" ]; then INNER=1 exec unshare -rm sh -ec '{commands}
exec "$0" "$@"' "$0" "$@"; fi"""


def test_a_full_folder_for_temporary_files_costs_the_metrics_only(
    start_service: StartService, pictures: dict[str, bytes], request: pytest.FixtureRequest
) -> None:
    folder = tempfile.mkdtemp()  # pytest's own folders are too deep for sockets
    request.addfinalizer(lambda: os.rmdir(folder))
    service = start_service(
        within=isolated(f"mount -t tmpfs -o size=64k tmpfs {folder}"), env={"TMPDIR": folder}
    )
    large = pictures["Forest.jpg"] + bytes(2 * 2**20)  # more than Starlette keeps in memory
    for picture in (pictures["Forest.jpg"], large):
        assert service.predict(picture).status_code == 200
    assert service.get("/metrics").status_code == 200
    (worker,) = service.workers()
    subprocess.run(["kill", "-9", str(worker)], check=True)
    time.sleep(0.2)
    assert service.predict(pictures["Forest.jpg"]).status_code == 200
    assert "are missing in the service's metrics, because" in service.log.read_text()
    assert service.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/shm")
def test_without_a_folder_for_temporary_files_there_is_shared_memory(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    folders = {Path("/tmp").resolve(), Path("/var/tmp").resolve(), Path("/usr/tmp").resolve()}
    read_only = "".join(
        f"mount --bind {folder} {folder}; mount -o remount,ro,bind {folder}\n"
        for folder in sorted(folders)
        if folder.is_dir()
    )
    service = start_service(within=isolated(read_only), cwd="/proc")
    assert service.predict(pictures["Forest.jpg"]).status_code == 200
    assert service.metric("eurosat_predictions_total") == 1
    assert "temporary files lie in /dev/shm" in service.log.read_text()
    assert service.stop() == 0
