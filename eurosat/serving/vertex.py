"""The route of Vertex AI's prediction protocol."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from eurosat.serving.json_body import media_type, read_images
from eurosat.serving.routes import ERRORS, answer_json
from eurosat.serving.service import Service

_BODY = {
    "type": "object",
    "properties": {
        "instances": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "b64": {
                        "type": "string",
                        "format": "byte",
                        "minLength": 4,
                        "description": "An image file in base64.",
                    }
                },
                "required": ["b64"],
            },
        },
        "parameters": {"description": "Ignored."},
    },
    "required": ["instances"],
}


class _Instance(msgspec.Struct):
    """One image file, in base64."""

    b64: str


class _Request(msgspec.Struct):
    """A request; Vertex AI's ``parameters`` are ignored."""

    instances: list[_Instance]

    def texts(self) -> list[str]:
        """Return the image files in base64."""
        return [instance.b64 for instance in self.instances]


def vertex_routes(service: Service, path: str) -> APIRouter:
    """Build the route of Vertex AI's prediction protocol.

    Args:
        service: The service.
        path: The route's path, such as Vertex AI's ``AIP_PREDICT_ROUTE``.
    """
    router = APIRouter(tags=["Vertex AI"])
    body: dict[str, Any] = {"required": True, "content": {"application/json": {"schema": _BODY}}}

    @router.post(
        path,
        summary="Vertex AI prediction",
        responses=ERRORS,
        openapi_extra={"requestBody": body},
    )
    async def vertex(request: Request) -> Response:
        """Classify the images in `instances`; `predictions` has the same order.

        The entry of an image that cannot be read has an `error` instead of a prediction.
        """
        if media_type(request) not in ("", "application/json"):
            raise HTTPException(415, "the body is not application/json: send JSON")
        uploads = await read_images(
            request,
            _Request,
            name="instance",
            max_images=service.limits.max_images,
            example='{"instances": [{"b64": "<base64>"}]}',
        )
        answers = await service.classify(request, uploads)
        return answer_json({"predictions": answers, "model_version": service.card.version})

    return router
