"""A route needs the key and counts as load unless it is declared public."""

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import uvicorn
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.routing import iter_route_contexts
from prometheus_client import REGISTRY
from pydantic import BaseModel, field_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.types import Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from eurosat.serving.admission import is_public, public
from tests.serving.conftest import KEY, Front, free_port

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
    "/v2/models/{name}",
    "/v2/models/{name}/ready",
    "/v2/models/{name}/versions/{version}",
    "/v2/models/{name}/versions/{version}/ready",
}
PROTECTED = {
    "/explain",
    "/info",
    "/predict",
    "/v1/endpoints/1:predict",  # AIP_PREDICT_ROUTE
    "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}/infer",
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


def test_a_server_with_websockets_opens_no_route(front: Front, app: FastAPI) -> None:
    @app.websocket("/talk")
    @public
    async def talk(socket: WebSocket) -> None:
        raise AssertionError("a websocket reached its route")

    for path in ("/talk", "/nothing", "/predict"):
        with pytest.raises(InvalidStatus, match="500"):
            connect(front.url.replace("http", "ws") + path, additional_headers=WITH_KEY)


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


def counted(route: str, status: int) -> float:
    labels = {"route": route, "status": str(status)}
    return REGISTRY.get_sample_value("eurosat_requests_total", labels) or 0


class Images(BaseModel):
    """A body that FastAPI reads."""

    images: list[str]

    @field_validator("images")
    @classmethod
    def too_many(cls, images: list[str]) -> list[str]:
        raise MemoryError


def test_a_lack_of_memory_is_503(front: Front, app: FastAPI) -> None:
    @app.get("/little-memory")
    @public
    async def little_memory() -> None:
        raise MemoryError

    @app.get("/little-memory/caused")
    @public
    async def caused() -> None:
        try:
            raise MemoryError
        except MemoryError as error:  # as FastAPI does while it reads a body
            raise HTTPException(400, "There was an error parsing the body") from error

    @app.post("/little-memory/body")
    @public
    async def validated(body: Images) -> None:
        raise AssertionError("the body was validated")

    for path, body in {
        "/little-memory": None,
        "/little-memory/caused": None,
        "/little-memory/body": {"images": ["a"]},
    }.items():
        method = "GET" if body is None else "POST"
        answer = requests.request(method, front.url + path, json=body, timeout=30)
        assert answer.status_code == 503, path
        assert answer.headers["Retry-After"] == "5"
        assert answer.json()["id"] == answer.headers["X-Request-ID"]
        assert "too little memory" in answer.json()["error"]
        assert counted(path, 503) == 1


def test_whatever_a_route_does_is_counted_and_answered_with_an_id(
    front: Front, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/raises")
    @public
    async def raises() -> None:
        raise RuntimeError("on purpose")

    @app.get("/stops")
    @public
    async def stops() -> None:
        raise asyncio.CancelledError  # as uvicorn does with the last requests at its end

    async def silent(scope: object, receive: object, send: object) -> None:
        pass

    async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise RuntimeError("on purpose")

    app.mount("/silent", public(silent))
    app.mount("/breaks-off", public(breaks_off))
    for path, route, status in (
        ("/raises", "/raises", 500),
        ("/silent/", "/silent", 500),
        ("/stops", "/stops", 503),
    ):
        caplog.clear()
        answer = front.get(path)
        assert answer.status_code == status, path
        assert answer.json()["id"] == answer.headers["X-Request-ID"]
        assert counted(route, status) == 1
        assert len([record for record in caplog.records if record.exc_info]) == (status == 500)
        if status == 500:
            assert answer.json()["id"] in caplog.text
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        front.get("/breaks-off/")
    assert counted("/breaks-off", 500) == 1
    assert counted("/breaks-off", 200) == 0


@pytest.mark.parametrize("prefix", ["", "/eurosat", "/a/b.c", "/team%20a", "/a:b@c"])
def test_redirects_and_openapi_have_the_prefix_that_a_proxy_removed(
    front: Front, prefix: str
) -> None:
    headers = {**WITH_KEY, "X-Forwarded-Prefix": prefix} if prefix else WITH_KEY
    redirect = front.get("/info/?a=1", headers=headers, allow_redirects=False)
    assert redirect.status_code == 307
    assert redirect.headers["Location"] == f"{prefix}/info?a=1"  # whatever the proxy's host
    servers = front.get("/openapi.json", headers=headers).json().get("servers")
    assert servers == ([{"url": prefix}] if prefix else None)
    for path in ("/info", "/page/app.js", "/examples/a.jpg"):
        assert front.get(path, headers=headers).status_code == 200, path
    assert front.get("/info", headers=headers | {"X-API-Key": "wrong"}).status_code == 401


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "https://evil.example", "/a b", "a", "/a//b", "/a, /b", "/a%2"]
)
def test_a_prefix_that_is_no_path_is_ignored(front: Front, prefix: str) -> None:
    headers = {**WITH_KEY, "X-Forwarded-Prefix": prefix}
    redirect = front.get("/info/", headers=headers, allow_redirects=False)
    assert redirect.headers["Location"] == "/info"
    assert "servers" not in front.get("/openapi.json", headers=headers).json()


def test_the_root_path_of_the_server_is_the_prefix(front: Front) -> None:
    config = uvicorn.Config(
        front.app, port=free_port(), lifespan="off", log_config=None, root_path="/eurosat"
    )
    listener = uvicorn.Server(config)
    thread = threading.Thread(target=listener.run)
    thread.start()
    while not listener.started:
        time.sleep(0.01)
    behind = Front(front.app, f"http://127.0.0.1:{config.port}")
    try:
        redirect = behind.get("/info/", headers=WITH_KEY, allow_redirects=False)
        assert redirect.headers["Location"] == "/eurosat/info"
        assert behind.get("/openapi.json").json()["servers"] == [{"url": "/eurosat"}]
    finally:
        listener.should_exit = True
        thread.join()


def test_openapi_asks_for_the_key_where_admission_does(front: Front, app: FastAPI) -> None:
    description = front.get("/openapi.json").json()
    asked = {
        path: any("security" in operation for operation in operations.values())
        for path, operations in description["paths"].items()
    }
    assert asked == {path: path in PROTECTED for path in asked}
    assert {path for path in asked if asked[path]} == PROTECTED
