"""Decoding one image file."""

import io

import numpy as np
import pytest
from PIL import Image

from eurosat.errors import DataSourceError
from eurosat.pixels import decode, resize


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "not a JPEG, PNG or TIFF"),
        (png(Image.new("1", (5000, 5000))), "5000x5000 pixels exceed the limit"),
        (png(Image.fromarray(np.ones((8, 8), np.uint16))), "not 8-bit"),
    ],
)
def test_what_is_no_picture_of_ours_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DataSourceError, match=f"^a.png cannot be decoded.*{reason}"):
        decode(data, "a.png", rgb=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resizing_averages_and_keeps_the_type(dtype: type) -> None:
    limit = np.iinfo(dtype).max
    pixels = np.zeros((128, 128, 13), dtype)
    pixels[:, 64:] = limit
    resized = resize(pixels, 64)
    assert resized.dtype == dtype
    assert resized.shape == (64, 64, 13)
    assert (resized[:, :31] == 0).all()
    assert (resized[:, 33:] == limit).all()
    assert resize(resized, 64) is resized
