"""The web page, and the API's documentation."""

import mimetypes
from collections.abc import Mapping
from importlib import resources
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from eurosat.serving.admission import is_public, public

_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def add_pages(app: FastAPI, examples: Mapping[str, bytes], key_needed: bool) -> None:
    """Add the web page, its example images and the API's documentation to an application.

    The application serves every file of the page and of the documentation by itself, so that
    browsers need no other host.

    Args:
        app: The application.
        examples: Example image files by name.
        key_needed: Whether callers must send an API key.
    """
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
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(examples[name], media_type=kind)

    @app.get("/openapi.json", include_in_schema=False)
    @public
    async def openapi() -> Response:
        return JSONResponse(_with_key(app) if key_needed else app.openapi())

    @app.get("/docs", include_in_schema=False)
    @public
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url="docs/static/swagger-ui-bundle.js",
            swagger_css_url="docs/static/swagger-ui.css",
            swagger_favicon_url="docs/static/favicon.png",
        )

    app.mount("/docs/static", public(StaticFiles(packages=[("fastapi_offline", "static")])))
    app.mount("/page", public(_PageFiles(directory=page)))


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
    """The page's scripts and styles, with headers that make a browser check for newer files."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(_PAGE_HEADERS)
        return response
