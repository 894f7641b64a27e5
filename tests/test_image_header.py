"""Reading what an image file declares, without decoding it."""

import io
import struct
import time

import numpy as np
import pytest
import rasterio
from PIL import Image

from eurosat.image_header import (
    MAX_BYTES,
    MAX_PAGES,
    MAX_SCANS,
    ImageHeader,
    check_header,
    check_scans,
    read_header,
)


def encoded(mode: str, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (70, 64)).save(buffer, kind, **options)
    return buffer.getvalue()


def geotiff(count: int, dtype: str = "uint16", **options: object) -> bytes:
    with rasterio.MemoryFile() as memory:
        size = {"width": 70, "height": 64, "count": count, "dtype": dtype}
        with memory.open(driver="GTiff", **size, **options) as file:
            file.write(np.ones((count, 64, 70), dtype))
        return bytes(memory.read())


@pytest.mark.parametrize(
    ("data", "kind", "channels", "sample_bytes"),
    [
        (encoded("RGB", "JPEG", progressive=True), "JPEG", 3, 1),
        (encoded("CMYK", "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"), "JPEG", 4, 1),
        (encoded("L", "JPEG"), "JPEG", 1, 1),
        (encoded("RGBA", "PNG"), "PNG", 4, 1),
        (encoded("1", "PNG"), "PNG", 1, 1),
        (encoded("I;16", "PNG"), "PNG", 1, 2),
        (encoded("RGB", "TIFF", compression="tiff_lzw"), "TIFF", 3, 1),
        (encoded("RGB", "TIFF", big_tiff=True), "TIFF", 3, 1),
        (geotiff(13), "TIFF", 13, 2),
        (geotiff(13, "float64", BIGTIFF="YES"), "TIFF", 13, 8),
        (geotiff(2, ENDIANNESS="BIG"), "TIFF", 2, 2),
    ],
)
def test_the_header_says_what_the_file_holds(
    data: bytes, kind: str, channels: int, sample_bytes: int
) -> None:
    assert read_header(data) == ImageHeader(kind, 70, 64, channels, sample_bytes)
    for length in range(0, min(len(data), 400)):  # a file that ends too early
        header = read_header(data[:length])
        assert header is None or header.width in (70, 0)


def tiff_of_pages(count: int) -> bytes:
    """A TIFF whose pages have a width and a height, and nothing else."""
    page = struct.pack("<HHHII HHII", 2, 256, 3, 1, 70, 257, 3, 1, 64)
    return struct.pack("<2sHI", b"II", 42, 8) + b"".join(
        page + struct.pack("<I", 8 + (i + 1) * (len(page) + 4) if i < count - 1 else 0)
        for i in range(count)
    )


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (ImageHeader("PNG", 4097, 4096, 1), "4097x4096 pixels exceed the limit"),
        (ImageHeader("TIFF", 4096, 4096, 13, 2), f"and the limit is {MAX_BYTES} bytes"),
        (ImageHeader("TIFF", 64, 64, 65_535), f"and the limit is {MAX_BYTES} bytes"),
        (read_header(tiff_of_pages(MAX_PAGES + 1)), f"more pages than the limit of {MAX_PAGES}"),
    ],
)
def test_what_exceeds_a_limit_is_refused(header: ImageHeader, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_header(header)


def test_what_is_within_the_limits_is_accepted() -> None:
    for header in (
        ImageHeader("JPEG", 4096, 4096, 4),
        ImageHeader("TIFF", 1391, 1391, 13, 2),
        read_header(tiff_of_pages(MAX_PAGES)),
    ):
        assert header is not None
        check_header(header)
    check_scans(encoded("RGB", "JPEG", progressive=True))


def test_scans_are_counted() -> None:
    check_scans(b"\xff\xda" * MAX_SCANS)
    with pytest.raises(ValueError, match=f"{MAX_SCANS + 1} scans exceed the limit"):
        check_scans(b"\xff\xda" * (MAX_SCANS + 1))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff" + b"\xff" * 2**24,
        b"\xff\xd8" + b"\xff\xe0\0\2" * 2**22,
        b"II+\0\x08\0\0\0\x10" + b"\0" * 7 + b"\xff" * 8 + b"\0" * 2**24,
        b"II*\0\x08\0\0\0" + (b"\xff\xff" + b"\0\1\3\0\1\0\0\0\1\0\0\0" * 65_535) * 20,
    ],
    ids=["fill bytes", "segments", "entries of a BigTIFF", "entries"],
)
def test_a_header_without_end_is_given_up(data: bytes) -> None:
    start = time.process_time()
    assert read_header(data) is None
    assert time.process_time() - start < 0.5  # without a limit, seconds
