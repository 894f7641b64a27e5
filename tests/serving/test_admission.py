"""A route needs the key and counts as load unless it is declared public."""

import http.client
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.routing import iter_route_contexts
from prometheus_client import REGISTRY
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, Router
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from eurosat.serving.admission import is_public, public
from tests.serving.conftest import KEY, Front

WITH_KEY = {"X-API-Key": KEY}

PUBLIC = {
    "/",
    "/docs",
    "/docs/static",
    "/examples",
    "/examples/{name}",
    "/health",
    "/metrics",
    "/openapi.json",
    "/page",
    "/v1/endpoints/1",  # AIP_HEALTH_ROUTE
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/eurosat",
    "/v2/models/eurosat/ready",
}
PROTECTED = {
    "/explain",
    "/info",
    "/predict",
    "/v1/endpoints/1:predict",  # AIP_PREDICT_ROUTE
    "/v2/models/eurosat/infer",
}


@pytest.fixture
def app(front: Front) -> Iterator[FastAPI]:
    """The front's application; routes that a test adds are taken away again."""
    before = list(front.app.router.routes)
    yield front.app
    front.app.router.routes[:] = before


def raw(front: Front, target: str, method: str = "GET", key: bool = False) -> tuple[int, bytes]:
    """Status and body of a request whose target is sent as it is written here."""
    address = urlsplit(front.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    connection.request(method, target, headers=WITH_KEY if key else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_the_public_routes_are_these_and_documented(front: Front) -> None:
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for route in iter_route_contexts(front.app.routes):
        endpoint = route.app if isinstance(route.original_route, Mount) else route.endpoint
        found[is_public(endpoint)].add(str(route.path))
    assert found == {True: PUBLIC, False: PROTECTED}
    manual = (Path(__file__).parents[2] / "docs/howto/serve.md").read_text()
    for path in PUBLIC - {"/v1/endpoints/1"}:
        assert f"`{path}`" in manual


@pytest.mark.parametrize("path", sorted(PROTECTED))
def test_a_protected_route_tells_nothing_without_the_key(front: Front, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS", "DELETE", "PATCH"):
        assert raw(front, path, method)[0] == 401
    # With the key the router looks at the method, and the route at the body.
    assert raw(front, path, "DELETE", key=True)[0] == 405


def test_a_new_route_needs_the_key_and_counts_as_load(front: Front, app: FastAPI) -> None:
    started, finish = threading.Event(), threading.Event()

    @app.get("/new")
    def new() -> str:
        started.set()
        assert finish.wait(30)
        return "new"

    assert front.get("/new").status_code == 401
    assert front.get("/new", headers={"X-API-Key": "wrong"}).status_code == 401
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(front.get, "/new", headers=WITH_KEY)
        assert started.wait(30)
        second = front.get("/new", headers=WITH_KEY)
        assert front.get("/examples").status_code == 200  # a public route is not load
        finish.set()
        assert first.result().text == '"new"'
    assert second.status_code == 503
    assert second.headers["Retry-After"] == "1"
    assert REGISTRY.get_sample_value("eurosat_requests_total", {"route": "/new", "status": "503"})


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def hello_app(scope: object, receive: object, send: object) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


def test_a_route_of_any_kind_is_protected_unless_public(front: Front, app: FastAPI) -> None:
    router = APIRouter(prefix="/kinds")
    outer = APIRouter(prefix="/outer")

    @router.get("/{number}/protected")
    async def protected(number: int) -> str:
        return "hello"

    @router.get("/{number}/public")
    @public
    async def open_(number: int) -> str:
        return "hello"

    @app.get("/both")
    @public
    async def read() -> str:
        return "hello"

    @app.post("/both")
    async def write() -> str:
        return "hello"

    outer.include_router(router)
    app.include_router(outer)
    app.add_route("/plain", hello)
    app.mount("/mounted", Router([Route("/a/b", hello)]))
    app.mount("/open", public(Router([Route("/a/b", hello)])))
    app.router.routes.append(Mount("/asgi", hello_app))
    for path in ("/outer/kinds/1/protected", "/plain", "/mounted/a/b", "/asgi/", "/mounted/none"):
        assert raw(front, path)[0] == 401, path
    for path in ("/outer/kinds/1/protected", "/plain", "/mounted/a/b", "/asgi/"):
        status, body = raw(front, path, key=True)
        assert (status, body.strip(b'"')) == (200, b"hello")
    for path in ("/outer/kinds/1/public", "/open/a/b", "/both"):
        assert raw(front, path)[0] == 200
    assert raw(front, "/both", "POST")[0] == 401  # by method, as the router chooses
    assert raw(front, "/both", "POST", key=True)[0] == 200
    assert raw(front, "/outer/kinds/1/public", "POST")[0] == 405
    assert REGISTRY.get_sample_value(
        "eurosat_requests_total", {"route": "/outer/kinds/{number}/public", "status": "200"}
    )


def test_the_marked_route_is_the_one_that_answers(front: Front, app: FastAPI) -> None:
    """A public route does not open a protected one before it with the same path."""

    @app.get("/twice/{name}")
    async def protected(name: str) -> str:
        return "protected"

    @app.get("/twice/open")
    @public
    async def never_reached() -> str:
        return "open"

    assert raw(front, "/twice/open")[0] == 401
    assert raw(front, "/twice/open", key=True) == (200, b'"protected"')


@pytest.mark.parametrize(
    "target",
    [
        *("//predict", "/predict/", "/predict//", "/./predict", "/%2e/predict", "/%70redict"),
        *("/health/../predict", "/page/../predict", "/page/..%2fpredict", "/page/%2e%2e/predict"),
        *("/predict;/health", "/predict%00", "/predict%2f", "/predict?/health", "/predict#/health"),
        *("/PREDICT", "/health/predict", "/page%2f..%2fpredict", "/health%3f/../predict"),
    ],
)
def test_no_way_of_writing_a_path_reaches_a_protected_route(front: Front, target: str) -> None:
    for method in ("GET", "POST"):
        status, body = raw(front, target, method)
        # Below a public mount there are only the mount's files.
        assert status in ((401,) if not target.startswith("/page") else (404, 405)), body


def test_a_full_address_as_target_is_protected_too(front: Front) -> None:
    address = urlsplit(front.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(f"POST {front.url}/predict HTTP/1.0\r\n\r\n".encode())
        assert b" 401 " in connection.makefile("rb").readline()


def test_an_unknown_path_looks_like_a_protected_one(front: Front) -> None:
    unknown, known = front.get("/nothing"), front.get("/info")
    assert unknown.status_code == known.status_code == 401
    assert unknown.json()["error"] == known.json()["error"]
    assert set(unknown.headers) == set(known.headers)
    assert front.get("/nothing", headers=WITH_KEY).status_code == 404
    slash = front.get("/info/", headers=WITH_KEY, allow_redirects=False)
    assert slash.status_code == 307


def test_a_websocket_is_refused_unless_public(front: Front, app: FastAPI) -> None:
    @app.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        raise AssertionError("a refused websocket reached its route")

    @app.websocket("/open-talk")
    @public
    async def open_talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    url = front.url.replace("http", "ws")
    for path in ("/talk", "/nothing", "/predict"):
        for headers in ({}, WITH_KEY):
            with pytest.raises(InvalidStatus, match="403"):
                connect(url + path, additional_headers=headers)
    with connect(f"{url}/open-talk") as opened:
        assert opened.recv() == "hello"


def test_a_public_route_takes_no_larger_body(front: Front, app: FastAPI) -> None:
    @app.post("/echo")
    @public
    async def echo(request: Request) -> Response:
        return PlainTextResponse(await request.body())

    def parts() -> Iterator[bytes]:  # sent in chunks, without a Content-Length
        yield from [b"a" * 600] * 2

    assert requests.post(f"{front.url}/echo", data=b"a" * 1000, timeout=30).status_code == 200
    assert requests.post(f"{front.url}/echo", data=b"a" * 1001, timeout=30).status_code == 413
    assert requests.post(f"{front.url}/echo", data=parts(), timeout=30).status_code == 413


def test_the_labels_of_metrics_are_routes_and_not_paths(front: Front) -> None:
    for i in range(5):
        front.get(f"/nothing/{i}")
        front.get(f"/examples/{i}.jpg")
        front.get("/examples/a.jpg")
        front.get(f"/page/{i}")
    labels = {
        sample.labels["route"]
        for metric in REGISTRY.collect()
        if metric.name in ("eurosat_requests", "eurosat_request_duration_seconds")
        for sample in metric.samples
    }
    assert {"other", "/examples/{name}", "/page"} <= labels
    assert not {label for label in labels if any(digit in label for digit in "023456789")} - {
        "/v2",
        *(path for path in PUBLIC | PROTECTED if path.startswith("/v2")),
    }


def test_a_failure_of_a_route_is_counted(front: Front, app: FastAPI) -> None:
    @app.get("/broken")
    @public
    async def broken() -> None:
        raise RuntimeError("broken on purpose")

    answer = front.get("/broken")
    assert answer.status_code == 500
    assert answer.json()["error"] == (
        "an internal error occurred: look up the request's id in the service's log"
    )
    assert REGISTRY.get_sample_value(
        "eurosat_requests_total", {"route": "/broken", "status": "500"}
    )


def test_openapi_asks_for_the_key_where_admission_does(front: Front, app: FastAPI) -> None:
    description = front.get("/openapi.json").json()
    asked = {
        path: any("security" in operation for operation in operations.values())
        for path, operations in description["paths"].items()
    }
    assert asked == {path: path in PROTECTED for path in asked}
    assert {path for path in asked if asked[path]} == PROTECTED
