"""The limits of a decoder process."""

import subprocess
import sys

import pytest

from eurosat.serving.decoder import MEMORY_BYTES, _is_small
from tests.serving.attack_files import (
    jpeg_of_directory,
    picture,
    png_header,
    png_of_two_sizes,
)

HELD = """
from functools import partial
from eurosat.errors import DataSourceError
from eurosat.serving.decoder import _run

size = {size}
held = []
_run(partial(held.append, bytearray()), "first.tif")  # limits this process
for _ in range({blocks}):
    held.append(_run(partial(bytearray, size), "held.tif"))
try:
    _run(partial(bytearray, size), "large.tif")
except DataSourceError as error:
    print(error)
else:
    print("decoded")
"""


@pytest.mark.service
@pytest.mark.parametrize(
    ("size", "blocks", "answer"),
    [
        (MEMORY_BYTES * 3 // 4, 0, "decoded"),
        (MEMORY_BYTES * 3 // 4, 1, "decoded"),
        (MEMORY_BYTES * 5 // 4, 0, "large.tif cannot be decoded: decoding the file takes more"),
        (MEMORY_BYTES * 3 // 4, 2, "large.tif cannot be decoded: decoding the file takes more"),
    ],
    ids=["an image", "after a large image", "a larger image", "memory that never comes back"],
)
def test_an_image_has_its_memory_whatever_the_last_image_left(
    size: int, blocks: int, answer: str
) -> None:
    """Freed memory of an image may stay in the address space, up to a bound."""
    program = HELD.format(size=size, blocks=blocks)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout.startswith(answer)


def test_only_what_is_decoded_quickly_is_decoded_in_the_api_process() -> None:
    assert _is_small(picture("JPEG", (64, 64)))
    assert not _is_small(jpeg_of_directory(b"Exif\0\0"))
    assert not _is_small(jpeg_of_directory(b"MPF\0"))
    assert not _is_small(png_of_two_sizes((b"tEXt", png_header((64, 64))[1] + b"a\0b")))
