"""The service's own routes: /predict, /explain, /info, /health, /metrics."""

import asyncio
import base64
import io
import json
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from PIL import Image
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from eurosat.inference.backend import Patches
from eurosat.serving import metrics
from eurosat.serving.admission import public
from eurosat.serving.decoder import Upload
from eurosat.serving.json_body import media_type, read_images
from eurosat.serving.service import Service

_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "id": {"type": "string"}},
    "required": ["error", "id"],
}
_MEANINGS = {
    400: "The body is malformed.",
    401: "The API key is missing or wrong.",
    408: "The body arrives too slowly.",
    413: "The body is too large, or holds too many images or values.",
    415: "The body is of another type, or is compressed.",
    422: "No image in the body can be read.",
    503: "Too many requests are being answered, or workers exited; Retry-After has the wait.",
    504: "The answer took longer than the time limit.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": {"application/json": {"schema": _ERROR}}}
    for status, meaning in _MEANINGS.items()
}
"""The errors of every route that uses the model, for OpenAPI."""

_PREDICTION = {
    "type": "object",
    "properties": {
        "label": {"type": "string"},
        "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
        "ood": {
            "type": ["object", "null"],
            "description": "How unlike the validation images of the model the image is; null if "
            "the model has no reference.",
            "properties": {
                "score": {
                    "type": "number",
                    "description": "Fraction of the validation images that are less unusual.",
                },
                "flag": {
                    "type": "boolean",
                    "description": "The image is as unusual as the most unusual 1 %.",
                },
            },
        },
        "model_version": {"type": "string"},
        "id": {"type": "string"},
    },
}


def _body(**size: int) -> dict[str, Any]:
    """Describe a body with images for OpenAPI."""
    form = {"type": "array", "minItems": 1} | size
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "file": form | {"items": {"type": "string", "format": "binary"}}
                        },
                        "required": ["file"],
                    }
                },
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "images": form
                            | {
                                "items": {"type": "string", "format": "byte", "minLength": 4},
                                "description": "Image files in base64.",
                            }
                        },
                        "required": ["images"],
                    }
                },
            },
        }
    }


_COUNTED_FILES = 1000
"""Number of files up to which a form is read to its end, so that an error can name their number.

Reading 1,000 small files takes about 30 ms.
"""

_CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1"})
"""Charsets of a form's names; Python also has codecs that raise any error, or take long."""

_Tiles = Annotated[
    bool, Query(description="Cut an image that is larger than the model's patches into tiles.")
]


def routes(service: Service, health_route: str | None, *, with_metrics: bool) -> APIRouter:
    """Build the service's own routes.

    Args:
        service: The service.
        health_route: A second path of ``/health``.
        with_metrics: Have the route ``/metrics``.
    """
    router = APIRouter(tags=["Service"])

    @router.post(
        "/predict",
        summary="Classify images",
        responses={
            200: {
                "description": "One image gets its prediction. Several images get a list of "
                "`predictions` in the order of the images; an image that cannot be read gets an "
                "`error` instead of a prediction.",
                "content": {"application/json": {"schema": _PREDICTION}},
            },
            **ERRORS,
        },
        openapi_extra=_body(),
    )
    async def predict(request: Request, tiles: _Tiles = False) -> Response:
        """Classify one or several image files: the form field `file`, or base64 in JSON.

        The service reads JPEG, PNG, TIFF, and GeoTIFF with Sentinel-2's 13 bands. The service
        resizes an image whose size differs from the model's patches. With `tiles=true` the service
        cuts a larger image into tiles instead, and the image's prediction is the mean over the
        tiles.
        """
        uploads = await read_uploads(request, service.limits.max_images)
        answers = await service.classify(request, uploads, tiles=tiles)
        known = {"model_version": service.card.version, "id": request.state.id}
        if len(uploads) == 1:
            return answer_json(answers[0] | known)
        named = [
            {"file": upload.name} | answer if isinstance(upload, Upload) else answer
            for upload, answer in zip(uploads, answers, strict=True)
        ]
        return answer_json({"predictions": named} | known)

    @router.post(
        "/explain",
        summary="Classify one image and compute its saliency map",
        responses={
            200: {
                "description": "The prediction; `saliency` is the saliency map, rows from the top, "
                "and `picture` is the model's input patch, a PNG data URL.",
                "content": {"application/json": {"schema": _PREDICTION}},
            },
            **ERRORS,
        },
        openapi_extra=_body(maxItems=1),
    )
    async def explain(request: Request) -> Response:
        """Classify one image, and measure how hiding each region changes the prediction."""
        uploads = await read_uploads(request, service.limits.max_images)
        if len(uploads) != 1:
            raise HTTPException(
                422, f"the request holds {len(uploads)} images: send one image in each request"
            )
        (picture,) = await service.read(uploads, tiles=False)
        if isinstance(picture, str):
            raise HTTPException(422, picture)
        answer, found = await service.explain(request, picture)
        answer |= {
            "saliency": [[round(value, 4) for value in row] for row in found.tolist()],
            "picture": await _picture(service, uploads[0], picture.patches[0]),
            "model_version": service.card.version,
            "id": request.state.id,
        }
        return answer_json(answer)

    @public
    async def health() -> Response:
        """Answer 200 if a worker can classify images, and 503 if no worker can."""
        if service.ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "no worker can answer"}, 503, {"Retry-After": "1"})

    for path in dict.fromkeys(["/health", health_route or "/health"]):
        router.add_api_route(
            path,
            health,
            methods=["GET"],
            summary="Whether a worker can answer",
            responses={503: {"description": "No worker can answer."}},
        )

    @router.get("/info", summary="The model's card", responses={401: ERRORS[401]})
    async def info() -> dict[str, Any]:
        """Return the model card, with training data and test metrics, and the service's limits."""
        return {"model": service.card.summary(), "limits": vars(service.limits)}

    @public
    async def metrics_page() -> Response:
        """Return the metrics of all processes in Prometheus' text format."""
        text = await asyncio.to_thread(metrics.render)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    if with_metrics:
        router.add_api_route(
            "/metrics",
            metrics_page,
            methods=["GET"],
            summary="Metrics for Prometheus",
            response_class=Response,
        )

    return router


class _Images(msgspec.Struct):
    """The body of the service's own routes in JSON."""

    images: list[str]

    def texts(self) -> list[str]:
        """Return the image files in base64."""
        return self.images


async def read_uploads(request: Request, max_images: int) -> list[Upload | str]:
    """Read the image files in the body of a request.

    Args:
        request: The request.
        max_images: Largest number of images in a request.

    Returns:
        The image files; a string is the reason why an image file is missing.

    Raises:
        HTTPException: The body is neither a form nor JSON, or is compressed (415), is malformed
            (400), holds too many files or values (413), or holds no images (422).
    """
    kind = media_type(request)
    if kind == "multipart/form-data":
        _, options = parse_options_header(request.headers["content-type"])
        if options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
            raise HTTPException(415, "the form has an unknown charset: send the form in UTF-8")
        most = max(max_images, _COUNTED_FILES)
        try:
            form = await request.form(max_files=most, max_fields=100)
        except HTTPException as error:
            if not error.detail.startswith("Too many files"):  # Starlette's own words
                raise
            raise HTTPException(
                413,
                f"the request holds more than {most} images, and at most {max_images} are "
                "accepted: send the images in several requests",
            ) from error
        files = form.getlist("file")
        if not files:
            found = ", ".join(sorted(set(form))) or "none"
            raise HTTPException(
                422,
                f"the form has no field 'file' (fields: {found[:200]}): send the images as the "
                "field 'file'",
            )
        return [
            Upload(file.filename or "upload", await file.read())
            if isinstance(file, UploadFile)
            else "the form's field 'file' holds text: send an image file"
            for file in files
        ]
    if kind == "application/json":
        return await read_images(
            request,
            _Images,
            name="image",
            max_images=max_images,
            example='{"images": ["<base64>"]}',
        )
    raise HTTPException(
        415,
        "the body is neither multipart/form-data nor application/json: send images as the form "
        "field 'file', or as base64 in JSON",
    )


def answer_json(content: Any) -> Response:
    """Build a JSON answer from plain values, without FastAPI's slower general encoder."""
    return Response(json.dumps(content, allow_nan=False).encode(), media_type="application/json")


async def _picture(service: Service, upload: Upload | str, patch: Patches) -> str:
    """Render the model's input patch in red, green and blue, as a PNG data URL."""
    if service.card.rgb:
        pixels = patch.transpose(1, 2, 0)
    else:  # the model's bands may lack red, green or blue; the file has all bands
        assert isinstance(upload, Upload)
        pixels = await service.render(upload)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
