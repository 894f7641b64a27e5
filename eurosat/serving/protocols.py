"""Routes of two standard protocols: Vertex AI prediction and Open Inference version 2."""

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from eurosat.inference.backend import Patches
from eurosat.inference.pictures import Picture
from eurosat.serving.admission import public
from eurosat.serving.routes import ERRORS, answer_json
from eurosat.serving.service import Service, from_base64

MODEL_NAME = "eurosat"
"""The model's name in Open Inference paths."""


class VertexInstance(BaseModel):
    """One image."""

    b64: str = Field(description="An image file in base64.", min_length=4)


class VertexRequest(BaseModel):
    """Vertex AI's prediction request."""

    instances: Annotated[list[VertexInstance], Field(min_length=1)]
    parameters: dict[str, Any] | None = None


def vertex_routes(service: Service, path: str) -> APIRouter:
    """Build the route of Vertex AI's prediction protocol.

    Args:
        service: The service.
        path: The route's path, such as Vertex AI's ``AIP_PREDICT_ROUTE``.
    """
    router = APIRouter(tags=["Vertex AI"])

    @router.post(path, summary="Vertex AI prediction", responses=ERRORS)
    async def vertex(body: VertexRequest, request: Request) -> Response:
        """Classify the images in `instances`; `predictions` has the same order.

        The entry of an image that cannot be read has an `error` instead of a prediction.
        """
        uploads = [
            from_base64(instance.b64, f"instance {i}") for i, instance in enumerate(body.instances)
        ]
        answers = await service.classify(request, uploads)
        return answer_json({"predictions": answers, "model_version": service.card.version})

    return router


class Tensor(BaseModel):
    """A tensor of the Open Inference Protocol."""

    name: str
    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    datatype: Literal["BYTES", "UINT8", "UINT16"]
    data: Annotated[list[Any], Field(min_length=1)]
    parameters: dict[str, Any] | None = None


class RequestedOutput(BaseModel):
    """An output that the caller asks for."""

    name: str


class InferRequest(BaseModel):
    """Inference request of the Open Inference Protocol."""

    id: str | None = None
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=1)]
    outputs: list[RequestedOutput] | None = None
    parameters: dict[str, Any] | None = None


def open_inference_routes(service: Service) -> APIRouter:
    """Build the routes of the Open Inference Protocol, version 2, under ``/v2``."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    card = service.card
    raw_type = "UINT8" if card.rgb else "UINT16"
    scores = (
        []
        if service.reference is None
        else [
            {"name": "ood_score", "datatype": "FP32", "shape": [-1]},
            {"name": "ood_flag", "datatype": "BOOL", "shape": [-1]},
        ]
    )

    @router.get("", summary="The server's name and version")
    @public
    async def server() -> dict[str, Any]:
        return {"name": "eurosat", "version": card.version, "extensions": []}

    @router.get("/health/live", summary="The server is up")
    @public
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="A worker can answer", responses={503: {}})
    @router.get(f"/models/{MODEL_NAME}/ready", summary="The model can answer", responses={503: {}})
    @public
    async def ready() -> Response:
        is_ready = service.ready
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @router.get(f"/models/{MODEL_NAME}", summary="The model's inputs and outputs")
    @public
    async def metadata() -> dict[str, Any]:
        return {
            "name": MODEL_NAME,
            "versions": [card.version],
            "platform": card.format,
            "inputs": [{"name": "patches", "datatype": raw_type, "shape": [-1, *card.shape]}],
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(card.classes)]},
                {"name": "label", "datatype": "BYTES", "shape": [-1]},
                *scores,
            ],
        }

    @router.post(
        f"/models/{MODEL_NAME}/infer", summary="Classify patches or image files", responses=ERRORS
    )
    async def infer(body: InferRequest, request: Request) -> Response:
        """Classify raw patches (UINT8 or UINT16), or image files in base64 (BYTES)."""
        tensor = body.inputs[0]
        if tensor.datatype == "BYTES":
            images = await read_files(tensor)
        else:
            images = list(raw_patches(tensor)[:, np.newaxis])
        observations = await service.predict(request, images)
        found = np.concatenate([observation.probabilities for observation in observations])
        labels = [card.classes[index] for index in found.argmax(axis=1)]
        outputs = [
            {
                "name": "probabilities",
                "datatype": "FP32",
                "shape": list(found.shape),
                "data": found.ravel().tolist(),
            },
            {"name": "label", "datatype": "BYTES", "shape": [len(labels)], "data": labels},
        ]
        answers = [service.ood(observation.ood_score) for observation in observations]
        scored = [answer for answer in answers if answer is not None]
        if scored:
            shape = [len(scored)]
            scores = [answer["score"] for answer in scored]
            flags = [answer["flag"] for answer in scored]
            outputs += [
                {"name": "ood_score", "datatype": "FP32", "shape": shape, "data": scores},
                {"name": "ood_flag", "datatype": "BOOL", "shape": shape, "data": flags},
            ]
        if body.outputs:
            names = {output.name for output in body.outputs}
            outputs = [output for output in outputs if output["name"] in names]
        return answer_json(
            {
                "model_name": MODEL_NAME,
                "model_version": card.version,
                "id": body.id or request.state.id,
                "outputs": outputs,
            }
        )

    async def read_files(tensor: Tensor) -> list[Patches]:
        if not all(isinstance(text, str) for text in tensor.data):
            raise HTTPException(
                422, "the BYTES tensor holds values other than strings: send image files in base64"
            )
        uploads = [from_base64(text, f"image {i}") for i, text in enumerate(tensor.data)]
        pictures = await service.read(uploads, tiles=False)
        unreadable = [picture for picture in pictures if isinstance(picture, str)]
        if unreadable:  # a tensor cannot hold an error of one image
            raise HTTPException(422, "; ".join(unreadable))
        return [picture.patches for picture in pictures if isinstance(picture, Picture)]

    def raw_patches(tensor: Tensor) -> Patches:
        wanted = f"{raw_type} of shape [n, {', '.join(map(str, card.shape))}]"
        if tensor.datatype != raw_type or tuple(tensor.shape[1:]) != card.shape:
            raise HTTPException(
                422, f"the input is {tensor.datatype} of shape {tensor.shape}: send {wanted}"
            )
        if tensor.shape[0] > service.limits.max_images:
            raise HTTPException(
                413,
                f"the input has {tensor.shape[0]} patches, and at most "
                f"{service.limits.max_images} are accepted: send the patches in several requests",
            )
        try:
            values = np.asarray(tensor.data)
            if values.dtype.kind not in "iu":
                raise ValueError("some values are not whole numbers")
            if values.min() < 0 or values.max() > np.iinfo(card.dtype).max:
                raise ValueError(f"some values are outside 0 to {np.iinfo(card.dtype).max}")
            return values.astype(card.dtype).reshape(tensor.shape)
        except (ValueError, TypeError, OverflowError) as error:
            raise HTTPException(
                422,
                f"the data are not {wanted} ({error}): send whole numbers from 0 to "
                f"{np.iinfo(card.dtype).max}, as many as the shape has",
            ) from error

    return router
