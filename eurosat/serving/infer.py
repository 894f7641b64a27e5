"""Requests and answers of the Open Inference Protocol's route ``infer``."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from msgspec import Meta, Raw, Struct
from starlette.exceptions import HTTPException
from starlette.responses import Response

from eurosat.inference.backend import Patches
from eurosat.inference.card import ModelCard
from eurosat.serving.decoder import Upload
from eurosat.serving.json_body import decode
from eurosat.serving.tensors import (
    Datatype,
    files_of_binary,
    files_of_json,
    patches_of_binary,
    patches_of_json,
    to_binary,
)

INPUT = "patches"
"""Name of the only input."""

JSON_LENGTH = "Inference-Header-Content-Length"
"""The header with the length of the JSON in bytes, if binary data follow the JSON."""

_REMEDY = (
    'send {"inputs": [{"name": "patches", "shape": [...], "datatype": "...", "data": [...]}]}, as '
    "/docs describes"
)

_FURTHER_VALUES = 1000
"""Largest number of a request's values that are no data, such as names and parameters."""

T = TypeVar("T")


class _InputParameters(Struct, forbid_unknown_fields=True):
    binary_data_size: int | None = None


class _OutputParameters(Struct, forbid_unknown_fields=True):
    binary_data: bool | None = None


class _RequestParameters(Struct, forbid_unknown_fields=True):
    binary_data_output: bool | None = None


class _Tensor(Struct):
    """An input. Lists stay text until their length is checked."""

    name: str
    shape: Raw
    datatype: str
    data: Raw = Raw()
    parameters: _InputParameters | None = None


class _RequestedOutput(Struct):
    name: str
    parameters: _OutputParameters | None = None


class _Request(Struct):
    inputs: tuple[_Tensor]
    id: Annotated[str, Meta(max_length=1000)] | None = None
    outputs: Raw = Raw(b"null")
    parameters: _RequestParameters | None = None


@dataclass(frozen=True)
class InferRequest:
    """A request for predictions.

    Attributes:
        id: The caller's own id of the request.
        images: Patches, uint8 or uint16, shape (N, C, size, size); or N image files, where a string
            is the reason why an image file is missing.
        outputs: Whether the caller wants an output in binary, by the names of the wanted outputs.
    """

    id: str | None
    images: Patches | list[Upload | str]
    outputs: dict[str, bool]


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of an answer; ``data`` is flat."""

    name: str
    datatype: Datatype
    shape: list[int]
    data: list[Any]


def raw_datatype(card: ModelCard) -> str:
    """Return the datatype of a model's patches."""
    return "UINT8" if card.rgb else "UINT16"


def read_request(
    body: bytes, json_length: str | None, card: ModelCard, max_images: int, outputs: Sequence[str]
) -> InferRequest:
    """Read a request.

    Args:
        body: JSON, or JSON and binary data.
        json_length: The header `JSON_LENGTH`; None if the body is JSON only.
        card: The model's card.
        max_images: Largest number of images in one request.
        outputs: Names of all outputs.

    Raises:
        HTTPException: The request is malformed (400), has too many images or values (413), or does
            not fit the model (422).
    """
    text, binary = _split(body, json_length)
    values = _FURTHER_VALUES + max_images * math.prod(card.shape)
    request = decode(text, _Request, values=values, remedy=_REMEDY)
    wanted = _wanted_outputs(request, outputs)
    return InferRequest(request.id, _images(request.inputs[0], binary, card, max_images), wanted)


def write_answer(
    head: dict[str, Any], outputs: Sequence[OutputTensor], wanted: dict[str, bool]
) -> Response:
    """Build the answer.

    Args:
        head: The answer without its outputs.
        outputs: All outputs.
        wanted: As `InferRequest.outputs`.
    """
    known = {output.name: output for output in outputs}
    tensors, parts = [], []
    for name, in_binary in wanted.items():
        output = known[name]
        tensor: dict[str, Any] = {"name": name, "datatype": output.datatype, "shape": output.shape}
        if in_binary:
            parts.append(to_binary(output.data, output.datatype))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = output.data
        tensors.append(tensor)
    text = json.dumps(head | {"outputs": tensors}, allow_nan=False).encode()
    if not parts:
        return Response(text, media_type="application/json")
    return Response(
        b"".join([text, *parts]),
        headers={JSON_LENGTH: str(len(text))},
        media_type="application/octet-stream",
    )


def _split(body: bytes, json_length: str | None) -> tuple[memoryview, memoryview]:
    """Split a body into its JSON and its binary data."""
    view = memoryview(body)
    if json_length is None:
        return view, view[len(body) :]
    if not re.fullmatch("[0-9]{1,12}", json_length) or int(json_length) > len(body):
        raise HTTPException(
            400,
            f"{JSON_LENGTH} is {json_length!r:.40}, and the body has {len(body)} bytes: send the "
            "length of the JSON with which the body starts",
        )
    return view[: int(json_length)], view[int(json_length) :]


def _short(text: Raw, kind: type[T], name: str) -> T:
    """Decode a short part of a request."""
    return decode(text, kind, values=_FURTHER_VALUES, remedy=f"correct the request's {name}")


def _wanted_outputs(request: _Request, known: Sequence[str]) -> dict[str, bool]:
    """Return whether the caller wants an output in binary, by the names of the wanted outputs."""
    requested: list[_RequestedOutput] | None = _short(
        request.outputs,
        list[_RequestedOutput] | None,  # type: ignore[arg-type]
        "outputs",
    )
    binary = bool(request.parameters and request.parameters.binary_data_output)
    wanted: dict[str, bool] = {}
    for output in requested or [_RequestedOutput(name) for name in known]:
        if output.name not in known or output.name in wanted:
            reason = "named twice" if output.name in wanted else "unknown"
            raise HTTPException(
                422, f"the output {output.name[:80]!r} is {reason}: choose from {', '.join(known)}"
            )
        chosen = output.parameters.binary_data if output.parameters else None
        wanted[output.name] = binary if chosen is None else chosen
    return wanted


def _images(
    tensor: _Tensor, binary: memoryview, card: ModelCard, max_images: int
) -> Patches | list[Upload | str]:
    """Read the input: image files (BYTES), or patches."""
    shape = _checked_shape(tensor, card, max_images)
    size = tensor.parameters and tensor.parameters.binary_data_size
    in_json = bool(len(tensor.data))
    if in_json == (size is not None) or len(binary) != (size or 0):
        raise HTTPException(
            422,
            f"the input has {'data' if in_json else 'no data'} in the JSON, {len(binary)} bytes "
            f"after the JSON, and {size} as binary_data_size: send the data in the JSON, or after "
            f"the JSON with the header {JSON_LENGTH} and the parameter binary_data_size",
        )
    try:
        if tensor.datatype == "BYTES":
            count = shape[0]
            return files_of_json(tensor.data, count) if in_json else files_of_binary(binary, count)
        dtype = np.dtype(card.dtype)
        if in_json:
            return patches_of_json(tensor.data, shape, dtype)
        return patches_of_binary(binary, shape, dtype)
    except ValueError as error:
        raise HTTPException(
            422,
            f"the data are not {_wanted_input(card)} ({error}): send as many values of this "
            "datatype as the shape has",
        ) from error


def _checked_shape(tensor: _Tensor, card: ModelCard, max_images: int) -> tuple[int, ...]:
    """Return the shape of an input whose name, datatype and shape fit the model."""
    shape = tuple(_short(tensor.shape, list[Annotated[int, Meta(ge=1)]], "shape"))
    if tensor.name != INPUT:
        raise HTTPException(
            422, f"the input {tensor.name[:80]!r} is unknown: give the input the name {INPUT!r}"
        )
    files, patches = tensor.datatype == "BYTES", tensor.datatype == raw_datatype(card)
    if not ((files and len(shape) == 1) or (patches and shape[1:] == card.shape)):
        raise HTTPException(
            422,
            f"the input is {tensor.datatype[:40]!r} of shape {list(shape)!s:.100}: send "
            f"{_wanted_input(card)}",
        )
    if shape[0] > max_images:
        raise HTTPException(
            413,
            f"the input has {shape[0]} images, and at most {max_images} are accepted: send the "
            "images in several requests",
        )
    return shape


def _wanted_input(card: ModelCard) -> str:
    sizes = ", ".join(map(str, card.shape))
    return f"{raw_datatype(card)} of shape [n, {sizes}] or BYTES of shape [n]"
