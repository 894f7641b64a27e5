"""JSON bodies: read beside the event loop, and bounded before objects are built from them.

Python's own reader builds every object that the text names: 16 MiB of ``{},{},...`` become
gigabytes, and the event loop waits. Here the number of values is bounded first, by a count of the
commas; then msgspec builds only what the route's type names, and refuses what is nested deeper than
Python's recursion limit. Strings need no limit of their own: a text, and the bytes that base64 in
the text encodes, are smaller than the body.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

import msgspec
import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request

from eurosat.serving.decoder import Upload
from eurosat.serving.service import from_base64

INLINE_BYTES = 64 * 1024
"""Largest size of a body that is read in the event loop, which takes a fraction of a millisecond.

A thread would cost more time.
"""

_READER = ThreadPoolExecutor(1, thread_name_prefix="json")
"""The thread that reads larger bodies, one at a time, so that only one body is text and objects."""

T = TypeVar("T")

Text = bytes | memoryview | msgspec.Raw
"""JSON in UTF-8."""


def media_type(request: Request) -> str:
    """Return the type of a request's body in lower case; empty without a ``Content-Type``.

    Raises:
        HTTPException: The body is compressed (415).
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise HTTPException(
            415,
            f"the body is compressed (Content-Encoding {coding:.40}): send the body uncompressed",
            {"Accept-Encoding": "identity"},
        )
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, read: Callable[[bytes], T]) -> T:
    """Receive the body of a request, and read it without a delay of the event loop.

    Args:
        request: The request.
        read: Turns the body into what the route needs. The function runs in a thread if the body is
            large; each of its steps in C has to be short, because a step holds the interpreter's
            lock.
    """
    chunks = [chunk async for chunk in request.stream()]
    size = sum(map(len, chunks))

    def join_and_read() -> T:
        body = b"".join(chunks)
        chunks.clear()
        return read(body)

    if size <= INLINE_BYTES:
        return join_and_read()
    return await asyncio.get_running_loop().run_in_executor(_READER, join_and_read)


def count_values(text: Text) -> int:
    """Return how many values the lists and objects of a JSON text have at most, by its commas.

    A list of numbers has exactly as many, nested or not. Commas in strings count, too; lists around
    lists do not, and the recursion limit bounds them. NumPy counts without the interpreter's lock.
    """
    return 1 + int(np.count_nonzero(np.frombuffer(text, np.uint8) == ord(",")))


def decode(text: Text, kind: type[T], *, values: int, remedy: str) -> T:
    """Decode JSON into a type of msgspec.

    Args:
        text: The JSON.
        kind: The type.
        values: Largest number of values, as `count_values` counts them.
        remedy: What the caller should send.

    Raises:
        HTTPException: The text is not JSON (400), has more values (413), or has other fields than
            the type (422).
    """
    if count_values(text) > values:
        raise HTTPException(413, f"the body holds more than {values} values: {remedy}")
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise HTTPException(
            422, f"the body has other fields than expected ({error!s:.200}): {remedy}"
        ) from error
    except RecursionError as error:
        raise HTTPException(400, f"the body is nested too deeply: {remedy}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HTTPException(400, f"the body is not JSON in UTF-8 ({error}): {remedy}") from error


class Images(Protocol):
    """A body with image files."""

    def texts(self) -> Iterable[str]:
        """Return the image files in base64."""


async def read_images(
    request: Request, kind: type[Images], *, name: str, max_images: int, example: str
) -> list[Upload | str]:
    """Read the image files in base64 in the JSON body of a request.

    Args:
        request: The request.
        kind: The type of the body.
        name: What an answer calls an image, before the image's number.
        max_images: Largest number of images in one request.
        example: A body, for errors.

    Returns:
        The image files; a string is the reason why an image file is missing.

    Raises:
        HTTPException: As `decode`.
    """
    values = 1000 + 16 * max_images  # fields that the route does not know are skipped
    read = partial(_uploads, kind=kind, name=name, values=values, remedy=f"send {example}")
    return await read_body(request, read)


def _uploads(
    body: bytes, kind: type[Images], name: str, values: int, remedy: str
) -> list[Upload | str]:
    texts = decode(body, kind, values=values, remedy=remedy).texts()
    return [from_base64(text, f"{name} {i}") for i, text in enumerate(texts)]
