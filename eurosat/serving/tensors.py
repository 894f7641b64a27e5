"""The data of tensors of the Open Inference Protocol, in JSON and in binary.

Binary data come after the JSON of a request (extension ``binary_tensor_data``). Numbers are
little-endian, and an element of BYTES follows its length in four bytes.

If the data do not fit, a function raises a `ValueError` whose text is the reason. Data in JSON
become objects in pieces: all numbers of a large body would take 40 bytes each, and would hold the
interpreter's lock for tenths of a second.
"""

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Raw

from eurosat.inference.backend import Patches
from eurosat.serving.decoder import Upload
from eurosat.serving.json_body import count_values
from eurosat.serving.service import from_base64

_PIECE = 32 * 1024
"""Length of the pieces in which a list of numbers becomes objects, in bytes."""

Datatype = Literal["BOOL", "BYTES", "FP32"]
"""Datatypes of outputs."""


def files_of_json(data: Raw, count: int) -> list[Upload | str]:
    """Read image files from a list of texts in base64."""
    found = count_values(data)
    if found <= 2 * count:  # commas in texts count, too; a data URL has one
        texts = msgspec.json.decode(data, type=list[str])
        found = len(texts)
    _check_count(found, count)
    return [from_base64(text, f"image {i}") for i, text in enumerate(texts)]


def files_of_binary(data: memoryview, count: int) -> list[Upload | str]:
    """Read image files, each after its length."""
    files: list[Upload | str] = []
    start = 0
    while start < len(data) and len(files) < count:
        stop = start + 4 + int.from_bytes(data[start : start + 4], "little")
        files.append(Upload(f"image {len(files)}", bytes(data[start + 4 : stop])))
        start = stop
    if len(files) != count or start != len(data):
        raise ValueError(
            f"{len(data)} bytes are not {count} files, each after its length in four bytes"
        )
    return files


def patches_of_json(data: Raw, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Patches:
    """Read patches from a list of whole numbers, or from lists that are nested like the shape.

    Args:
        data: The list.
        shape: Shape of the patches, (N, C, size, size).
        dtype: Type of the pixels, uint8 or uint16.
    """
    _check_count(count_values(data), math.prod(shape))
    number = Annotated[int, Meta(ge=0, le=int(np.iinfo(dtype).max))]
    text = bytes(data)
    patches = np.empty(shape, dtype)
    if re.match(rb"\[\s*\[", text):
        rows = msgspec.json.Decoder(list[list[list[number]]])
        # msgspec refuses a tuple of a fixed length at the first surplus entry.
        entries = msgspec.json.decode(text, type=tuple[(Raw,) * shape[0]])  # type: ignore[misc]
        for position, (patch, entry) in enumerate(zip(patches, entries, strict=True)):
            _check_count(count_values(entry), patch.size)
            try:
                nested = np.asarray(rows.decode(entry), dtype)
            except msgspec.ValidationError as error:
                raise ValueError(str(error).replace("$", f"$[{position}]", 1)) from error
            if nested.shape != patch.shape:
                raise ValueError("the lists are not nested like the shape")
            patch[:] = nested
    else:
        numbers = msgspec.json.Decoder(list[number])
        flat, start = patches.reshape(-1), 0
        for piece in _pieces(text):
            try:
                values = numbers.decode(piece)
            except msgspec.ValidationError as error:
                raise _moved(error, start) from error
            flat[start : start + len(values)] = values
            start += len(values)
    return patches


def patches_of_binary(data: memoryview, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Patches:
    """Read patches from their pixels, row by row."""
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes are not {math.prod(shape)} numbers")
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def to_binary(values: list[Any], datatype: Datatype) -> bytes:
    """Write the data of an output."""
    match datatype:
        case "BOOL":
            return np.asarray(values, "?").tobytes()
        case "FP32":
            return np.asarray(values, "<f4").tobytes()
        case "BYTES":
            texts = [text.encode() for text in values]
            return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _moved(error: Exception, start: int) -> ValueError:
    """Build the error of a piece of a list that begins at an index of the list."""
    return ValueError(
        re.sub(r"(?<=\$\[)[0-9]+", lambda index: str(start + int(index[0])), str(error), count=1)
    )


def _check_count(found: int, count: int) -> None:
    """Check the number of values in JSON before objects are built from them."""
    if found != count:
        raise ValueError(f"the data have {found} values, and the shape has {count}")


def _pieces(text: bytes) -> Iterator[bytes]:
    """Cut a list of numbers into short lists."""
    if not text.startswith(b"["):
        raise ValueError("the data are no list")
    start, end = 1, len(text) - 1
    while start < end:
        stop = text.find(b",", start + _PIECE, end)
        stop = end if stop < 0 else stop
        yield b"[" + text[start:stop] + b"]"
        start = stop + 1
