"""Requests that play with HTTP itself, sent byte by byte: each is answered once, or refused."""

import re
import socket
import time
from collections.abc import Sequence

import pytest

from tests.serving.conftest import Service


def talk(service: Service, *parts: bytes) -> bytes:
    """Send bytes on a connection of their own, and return all that comes back."""
    port = int(service.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        connection.settimeout(2)
        try:
            while part := connection.recv(65536):
                received += part
        except TimeoutError:
            pass  # the service keeps the connection open
        return received


def statuses(answer: bytes) -> list[int]:
    """Statuses of the answers on a connection, in their order."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


def request(lines: Sequence[str], body: bytes = b"", path: str = "/predict") -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json", *lines]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


CHUNKED = b"2\r\n{}\r\n0\r\n\r\n"

AMBIGUOUS = {
    "two lengths": request(["Content-Length: 2", "Content-Length: 50"], b"{}"),
    "length and chunks": request(["Content-Length: 4", "Transfer-Encoding: chunked"], CHUNKED),
    "chunks twice": request(["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], CHUNKED),
    "chunks and another coding": request(["Transfer-Encoding: chunked, identity"], CHUNKED),
    "a negative length": request(["Content-Length: -1"], b"{}"),
    "a huge length": request(["Content-Length: 99999999999999999999999999"], b"{}"),
    "a length of text": request(["Content-Length: 2a"], b"{}"),
    "a negative chunk": request(["Transfer-Encoding: chunked"], b"-2\r\n{}\r\n0\r\n\r\n"),
    "a huge chunk": request(["Transfer-Encoding: chunked"], b"f" * 20 + b"\r\n{}"),
    "a space before the colon": request(["Content-Length : 2"], b"{}"),
    "a folded line": request(["X-A: b\r\n c", "Content-Length: 2"], b"{}"),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_no_second_request_hides_in_a_body(service: Service, case: str) -> None:
    smuggled = b"GET /info HTTP/1.1\r\nHost: a\r\n\r\n"
    found = statuses(talk(service, AMBIGUOUS[case] + smuggled))
    # Either the whole connection is refused, or the body is read as the headers say, and the bytes
    # after it are the next request.
    assert found in ([], [400], [413], [422, 200], [422, 400], [501], [400, 400]), found
    assert service.get("/health").status_code == 200


def test_pipelined_requests_are_answered_in_order(service: Service) -> None:
    first = request(["Content-Length: 2"], b"{}")
    second = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    third = b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert statuses(talk(service, first + second + third)) == [422, 200, 404]


@pytest.mark.parametrize(
    "target", ["/predict?tiles=-1", "/predict?tiles=1e999", "/predict?tiles=%00", "/predict?tiles="]
)
def test_numbers_and_flags_of_a_query_are_checked(service: Service, target: str) -> None:
    assert statuses(talk(service, request(["Content-Length: 2"], b"{}", target))) == [422]


def test_a_line_break_in_a_header_reaches_neither_the_answer_nor_the_log(service: Service) -> None:
    for value in ("a\x0bb", 'a"b', "<b>", "x" * 129, "\x7f", "é"):
        lines = [f"X-Request-ID: {value}", "Connection: close"]
        answer = talk(
            service, "\r\n".join(["GET /health HTTP/1.1", "Host: a", *lines, "", ""]).encode()
        )
        assert value.encode() not in answer.partition(b"\r\n\r\n")[0]
    spaced = b"GET /health HTTP/1.1\r\nHost: a\r\nX-Request-ID: abc \t\r\nConnection: close\r\n\r\n"
    assert b"x-request-id: abc\r\n" in talk(service, spaced)
    forged = "a.jpg\r\n2026-01-01 CRITICAL the service was taken over"
    answer = service.post("/predict", files={"file": (forged, b"no image")})
    assert answer.status_code == 422
    assert "taken over" not in service.log.read_text("utf-8")


OFFERS = {
    "HTTP/2": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA"],
    "a websocket": [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ],
}


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_of_another_protocol_is_ignored(service: Service, offer: str) -> None:
    """Java's client offers HTTP/2 with every request."""
    body = b'{"instances": []}'
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    length = f"Content-Length: {len(body)}"
    whole = request([*OFFERS[offer], length], body, "/vertex/predict")
    chunked = request([*OFFERS[offer], "Transfer-Encoding: chunked"], chunks, "/vertex/predict")
    before = service.metric('eurosat_requests_total{route="/health"')
    last = "\r\n".join(["GET /health HTTP/1.1", "Host: a", *OFFERS[offer], "", ""]).encode()
    pieces = [whole[start : start + 50] for start in range(0, len(whole), 50)]
    answer = talk(service, *pieces, chunked, last)
    assert statuses(answer) == [422, 422, 200]
    assert answer.count(b"the request holds no image") == 2
    assert answer.count(b"x-request-id: ") == 3
    assert service.metric('eurosat_requests_total{route="/health"') == before + 1
    assert "ERROR" not in service.log.read_text("utf-8")


def test_a_body_of_tiny_chunks_is_refused(service: Service) -> None:
    head = request(["Transfer-Encoding: chunked"])
    try:
        answer = talk(service, head + b"1\r\n \r\n" * 20_000)
    except ConnectionError:  # the service has closed the connection before the end of the body
        answer = b""
    assert statuses(answer) == []
    assert service.get("/health").status_code == 200
    assert "the data are no HTTP request" in service.log.read_text("utf-8")


@pytest.mark.parametrize("path", ["/info", "/health", "/docs", "/nowhere"])
@pytest.mark.parametrize("count", [2, 100])
def test_who_leaves_before_the_answers_is_no_failure(
    path: str, count: int, service: Service
) -> None:
    def counted(*statuses: int) -> float:
        return sum(
            service.metric(f'eurosat_requests_total{{route="{route}",status="{status}"}}')
            for route in (path, "other")
            for status in statuses
        )

    port = int(service.url.rpartition(":")[2])
    answered, failed = counted(200, 404, 499), counted(500)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * count)
    deadline = time.monotonic() + 10
    while counted(200, 404, 499) < answered + 5 * count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert counted(200, 404, 499) == answered + 5 * count
    assert counted(500) == failed
    assert "Traceback" not in service.log.read_text("utf-8")
