"""The routes of the Open Inference Protocol, version 2, as KServe and Triton's clients use them."""

from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from eurosat.inference.backend import Patches
from eurosat.inference.card import ModelCard
from eurosat.inference.pictures import Picture
from eurosat.serving.admission import public
from eurosat.serving.decoder import Upload
from eurosat.serving.infer import (
    INPUT,
    JSON_LENGTH,
    OutputTensor,
    raw_datatype,
    read_request,
    write_answer,
)
from eurosat.serving.json_body import media_type, read_body
from eurosat.serving.routes import ERRORS
from eurosat.serving.service import Service, join_reasons

MODEL_NAME = "eurosat"
"""The model's name in Open Inference paths."""

_BYTES = {"schema": {"type": "string", "format": "binary"}}


def open_inference_routes(service: Service) -> APIRouter:
    """Build the routes of the Open Inference Protocol, version 2, under ``/v2``."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    card = service.card
    outputs = _outputs(service)
    names = [output["name"] for output in outputs]

    async def known_model(name: Annotated[str, _path("The model's name.", MODEL_NAME)]) -> None:
        if name != MODEL_NAME:
            raise HTTPException(
                404, f"the service has no model {name!r:.100}: the model's name is {MODEL_NAME!r}"
            )

    async def known_version(
        version: Annotated[str, _path("The model's version.", card.version)],
    ) -> None:
        if version != card.version:
            raise HTTPException(
                404,
                f"the model has no version {version!r:.100}: its version is {card.version!r}",
            )

    @router.get("", summary="The server's name and version")
    @public
    async def server() -> dict[str, Any]:
        return {"name": "eurosat", "version": card.version, "extensions": ["binary_tensor_data"]}

    @router.get("/health/live", summary="The server is up")
    @public
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="A worker can answer", responses={503: {}})
    @public
    async def ready() -> Response:
        is_ready = service.ready
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @public
    async def metadata() -> dict[str, Any]:
        return {
            "name": MODEL_NAME,
            "versions": [card.version],
            "platform": card.format,
            "inputs": [{"name": INPUT, "datatype": raw_datatype(card), "shape": [-1, *card.shape]}],
            "outputs": outputs,
        }

    async def infer(request: Request) -> Response:
        """Classify raw patches (UINT8 or UINT16), or image files (BYTES).

        An image file is base64 in JSON, and the file itself in binary data.
        """
        if media_type(request) not in ("", "application/json", "application/octet-stream"):
            raise HTTPException(
                415,
                "the body is neither application/json nor application/octet-stream: send JSON, or "
                "JSON and binary data",
            )
        read = partial(
            read_request,
            json_length=request.headers.get(JSON_LENGTH),
            card=card,
            max_images=service.limits.max_images,
            outputs=names,
        )
        wanted = await read_body(request, read)
        if isinstance(wanted.images, list):
            images = await _decode(service, wanted.images)
        else:
            images = list(wanted.images[:, np.newaxis])
        observations = await service.predict(request, images)
        found = np.concatenate([observation.probabilities for observation in observations])
        scores = [service.ood(observation.ood_score) for observation in observations]
        data = {
            "probabilities": found.ravel().tolist(),
            "label": [card.classes[index] for index in found.argmax(axis=1)],
            "ood_score": [score["score"] for score in scores if score],
            "ood_flag": [score["flag"] for score in scores if score],
        }
        head = {
            "model_name": MODEL_NAME,
            "model_version": card.version,
            "id": wanted.id or request.state.id,
        }
        tensors = [
            OutputTensor(
                output["name"],
                output["datatype"],
                [len(found), *output["shape"][1:]],
                data[output["name"]],
            )
            for output in outputs
        ]
        return write_answer(head, tensors, wanted.outputs)

    unknown: dict[int | str, dict[str, Any]] = {
        404: ERRORS[400] | {"description": "The service has no such model or version."}
    }
    for path, checks in (
        ("/models/{name}", [Depends(known_model)]),
        ("/models/{name}/versions/{version}", [Depends(known_model), Depends(known_version)]),
    ):
        add = partial(router.add_api_route, dependencies=checks)
        add(path, metadata, summary="The model's inputs and outputs", responses=unknown)
        add(
            f"{path}/ready",
            ready,
            summary="The model can answer",
            responses=unknown | {503: {}},
        )
        add(
            f"{path}/infer",
            infer,
            methods=["POST"],
            summary="Classify patches or image files",
            responses={200: {"content": {"application/octet-stream": _BYTES}}, **unknown, **ERRORS},
            openapi_extra=_infer_body(card),
        )
    return router


def _path(description: str, value: str) -> Any:
    """Describe a part of a path that has one right value."""
    return Path(description=description, json_schema_extra={"enum": [value]})


def _outputs(service: Service) -> list[dict[str, Any]]:
    """Describe the outputs; a model without a reference has no scores."""
    outputs: list[dict[str, Any]] = [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(service.card.classes)]},
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
    ]
    if service.reference is not None:
        outputs += [
            {"name": "ood_score", "datatype": "FP32", "shape": [-1]},
            {"name": "ood_flag", "datatype": "BOOL", "shape": [-1]},
        ]
    return outputs


async def _decode(service: Service, uploads: list[Upload | str]) -> list[Patches]:
    """Decode image files.

    Raises:
        HTTPException: A file cannot be read (422), because a tensor cannot hold an image's error.
    """
    pictures = await service.read(uploads, tiles=False)
    unreadable = [picture for picture in pictures if isinstance(picture, str)]
    if unreadable:
        raise HTTPException(422, join_reasons(unreadable))
    return [picture.patches for picture in pictures if isinstance(picture, Picture)]


def _infer_body(card: ModelCard) -> dict[str, Any]:
    """Describe the body of ``infer`` for OpenAPI."""

    def parameters(name: str, kind: str) -> dict[str, Any]:
        properties = {name: {"type": kind}}
        return {"type": "object", "properties": properties, "additionalProperties": False}

    tensor = {
        "type": "object",
        "properties": {
            "name": {"enum": [INPUT]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
            "datatype": {"enum": [raw_datatype(card), "BYTES"]},
            "data": {
                "type": "array",
                "minItems": 1,
                "description": "Whole numbers, flat or nested like the shape; or image files in "
                "base64.",
            },
            "parameters": parameters("binary_data_size", "integer"),
        },
        "required": ["name", "shape", "datatype"],
    }
    output = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "parameters": parameters("binary_data", "boolean"),
        },
        "required": ["name"],
    }
    request = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "maxLength": 1000},
            "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1},
            "outputs": {"type": "array", "items": output},
            "parameters": parameters("binary_data_output", "boolean"),
        },
        "required": ["inputs"],
    }
    length = {
        "name": JSON_LENGTH,
        "in": "header",
        "description": "Length of the JSON in bytes, if binary data follow the JSON.",
        "schema": {"type": "integer", "minimum": 0},
    }
    content = {"application/json": {"schema": request}, "application/octet-stream": _BYTES}
    return {"parameters": [length], "requestBody": {"required": True, "content": content}}
