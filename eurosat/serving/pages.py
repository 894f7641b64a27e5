"""The web page, and the API's documentation."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from eurosat.errors import EuroSATError
from eurosat.serving.admission import is_public, public

_POLICY = (
    "default-src 'none'; base-uri 'none'; connect-src 'self'; form-action 'none'; "
    "frame-ancestors 'none'; img-src 'self' blob: data:; script-src 'self'; style-src 'self'"
)
"""What a browser may load for the pages (Content Security Policy): nothing from other hosts, and no
script within a page."""

_PAGE_HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
"""Headers that make a browser check for newer files; `Admission` adds the other headers."""

_SIGNATURES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "image/tiff"),
}
"""Media types by the first bytes of a file."""


def add_pages(app: FastAPI, examples: Mapping[str, bytes], key_needed: bool) -> None:
    """Add the web page, its example images and the API's documentation to an application.

    The application serves every file of the page and of the documentation by itself, so that
    browsers need no other host.

    Args:
        app: The application.
        examples: Example image files by name.
        key_needed: Whether callers must send an API key.

    Raises:
        EuroSATError: An example is no image, because a browser would run the scripts of an HTML
            file; or its name is no text.
    """
    kinds = {name: _media_type(name, content) for name, content in examples.items()}
    page = str(resources.files("eurosat.serving") / "page")

    @app.get("/", include_in_schema=False)
    @public
    async def index() -> Response:
        return FileResponse(f"{page}/index.html", headers=_PAGE_HEADERS)

    @app.get("/examples", include_in_schema=False)
    @public
    async def example_list() -> list[str]:
        return list(examples)

    @app.get("/examples/{name}", include_in_schema=False)
    @public
    async def example(name: str) -> Response:
        if name not in examples:
            raise HTTPException(404, "no example has this name: GET /examples lists the names")
        return Response(examples[name], media_type=kinds[name])

    @app.get("/openapi.json", include_in_schema=False)
    @public
    async def openapi(request: Request) -> Response:
        description = _with_key(app) if key_needed else app.openapi()
        if prefix := request.scope["root_path"]:
            description = description | {"servers": [{"url": prefix}]}
        return JSONResponse(description)

    @app.get("/docs", include_in_schema=False)
    @public
    async def docs() -> Response:
        return FileResponse(f"{page}/docs.html", headers=_PAGE_HEADERS)

    app.mount("/docs/static", public(StaticFiles(packages=[("fastapi_offline", "static")])))
    app.mount("/page", public(_PageFiles(directory=page)))


def _media_type(name: str, content: bytes) -> str:
    if not name.isprintable():  # such as the name of a file that is not UTF-8
        raise EuroSATError(
            f"the example image {name!r} has a name with characters that cannot be shown: rename it"
        )
    for signature, kind in _SIGNATURES.items():
        if content.startswith(signature):
            return kind
    raise EuroSATError(
        f"the example image {name!r} is no JPEG, PNG or TIFF file: export the model again, or give "
        "a folder of images with --examples"
    )


def _with_key(app: FastAPI) -> dict[str, Any]:
    """Describe the application for OpenAPI; every route needs the key unless it is public."""
    description = app.openapi()
    description["components"]["securitySchemes"] = {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    }
    for route in iter_route_contexts(app.routes):
        if route.methods and not is_public(route.endpoint):
            operations = description["paths"].get(route.path_format, {})
            for method in route.methods & {name.upper() for name in operations}:
                operations[method.lower()]["security"] = [{"ApiKey": []}]
    return description


class _PageFiles(StaticFiles):
    """The page's scripts and styles."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(_PAGE_HEADERS)
        return response
