"""Hostile image files."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from tests.serving.attacks import Attack

LARGE = (4096, 4096)
"""The largest image that is not refused by its size."""


def sparse(count: int, size: tuple[int, int] = LARGE, **options: Any) -> bytes:
    """A GeoTIFF without pixels, which reads as zeros."""
    shape = {"width": size[0], "height": size[1], "count": count, "dtype": "uint16"}
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", **shape, SPARSE_OK="TRUE", **options):
            pass
        return bytes(memory.read())


def picture(kind: str, size: tuple[int, int] = LARGE, **options: Any) -> bytes:
    """An image of one colour, which compresses to a thousandth."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (40, 90, 60)).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg_of_scans(count: int, size: tuple[int, int] = LARGE) -> bytes:
    """A progressive JPEG whose last scan is there many times."""
    data = picture("JPEG", size, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (count - data.count(b"\xff\xda") + 1) + b"\xff\xd9"


def png_with_text() -> bytes:
    """A small PNG whose compressed texts inflate to 60 MB."""
    data = picture("PNG", (64, 64))
    text = b"zTXt" + b"a\0\0" + zlib.compress(b"a" * 1_000_000, 9)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return data[:33] + chunk * 60 + data[33:]


def png_of_chunks(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks, each a name and its content."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def png_header(size: tuple[int, int], bits: int = 8) -> tuple[bytes, bytes]:
    """The first chunk of a PNG of RGB pixels."""
    return b"IHDR", struct.pack(">IIBBBBB", *size, bits, 2, 0, 0, 0)


def png_of_two_sizes(first: tuple[bytes, bytes]) -> bytes:
    """A small PNG file of the largest size, whose first chunk declares 64x64 pixels."""
    width, height = LARGE
    pixels = b"IDAT", zlib.compress(bytes(height * (1 + 3 * width)), 9)
    return png_of_chunks([first, png_header(LARGE), pixels, (b"IEND", b"")])


def jpeg_of_directory(name: bytes) -> bytes:
    """A JPEG whose segment has 5,000 entries that all name the same 60,000 bytes."""
    count = 5000
    entries = b"".join(struct.pack("<HHII", i + 1, 7, 60_000, 8) for i in range(count))
    content = name + struct.pack("<2sHIH", b"II", 42, 8, count) + entries + bytes(4)
    marker = 0xE2 if name.startswith(b"MPF") else 0xE1
    data = picture("JPEG", (64, 64))
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + data[2:]


def tiff(entries: list[tuple[int, int, int, int]], rest: bytes = b"", pages: int = 1) -> bytes:
    """A TIFF of one directory, or of many directories without pixels."""
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *entry) for entry in entries
    )
    length = len(directory) + 4
    body = b"".join(
        directory + struct.pack("<I", 8 + (i + 1) * length if i < pages - 1 else 0)
        for i in range(pages)
    )
    return struct.pack("<2sHI", b"II", 42, 8) + body + rest


def tiff_of_overlapping_tags() -> bytes:
    """A TIFF whose 60,000 tags all name the same 8 MiB."""
    tags = [(256, 3, 1, 64), (257, 3, 1, 64), (277, 3, 1, 3)]
    tags += [(40_000 + i % 20_000, 1, 2**23, 8) for i in range(60_000)]
    return tiff(tags, bytes(2**23))


def many_bands(count: int) -> bytes:
    """A TIFF of 64x64 pixels and very many bands, whose pixels are missing."""
    return tiff(
        [(256, 3, 1, 64), (257, 3, 1, 64), (258, 3, 1, 16), (262, 3, 1, 1), (277, 3, 1, count)]
    )


def georeferenced(path: str) -> bytes:
    """A GeoTIFF whose coordinate reference system names a file of a datum shift."""
    system = (
        f'GEOGCS["x",DATUM["y",SPHEROID["s",6378137,298.257],EXTENSION["PROJ4_GRIDS","{path}"]],'
        'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433],'
        f'EXTENSION["PROJ4","+proj=longlat +ellps=WGS84 +nadgrids={path} +no_defs"]]'
    )
    shape = {"width": 64, "height": 64, "count": 13, "dtype": "uint16"}
    options = {"crs": system, "transform": from_origin(5, 50, 0.001, 0.001)}
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", **shape, **options, GEOTIFF_KEYS_FLAVOR="ESRI_PE") as file:
            file.write(np.full((13, 64, 64), 2000, np.uint16))
        return bytes(memory.read())


def pipe(folder: Path) -> bytes:
    """A GeoTIFF that names a pipe, into which nobody writes."""
    data = georeferenced(str(folder / "pipe"))  # GDAL reads the path as well
    os.mkfifo(folder / "pipe")
    return data


FILES: dict[str, Callable[[], Attack]] = {
    "13 bands, sparse": lambda: Attack((422,), [sparse(13)]),
    "64 bands, sparse": lambda: Attack((422,), [sparse(64)]),
    "15,000 bands": lambda: Attack((422,), [many_bands(15_000)]),
    "13 bands of the largest size": lambda: Attack((200,), [sparse(13, (1391, 1391))]),
    "13 bands, one huge block": lambda: Attack(
        (422,), [sparse(13, (64, 64), TILED=True, BLOCKXSIZE=16384, BLOCKYSIZE=16384)]
    ),
    "JPEG of the largest size": lambda: Attack((200,), [picture("JPEG")]),
    "JPEG of 32 scans": lambda: Attack((200,), [jpeg_of_scans(32)]),
    "JPEG of 1,639 scans": lambda: Attack((422,), [jpeg_of_scans(1639)]),
    "PNG of the largest size": lambda: Attack((200,), [picture("PNG")]),
    "TIFF of the largest size": lambda: Attack(
        (200,), [picture("TIFF", compression="tiff_adobe_deflate")]
    ),
    "50 large images": lambda: Attack((413,), [picture("PNG")] * 50),
    "2 large images": lambda: Attack((200,), [picture("PNG")] * 2),
    "128 PNGs of compressed texts": lambda: Attack((422,), [png_with_text()] * 128),
    "128 PNGs of two headers": lambda: Attack(
        (422,), [png_of_two_sizes(png_header((64, 64)))] * 128
    ),
    "128 PNGs of a header in a text": lambda: Attack(
        (422,), [png_of_two_sizes((b"tEXt", png_header((64, 64))[1] + b"a\0b"))] * 128
    ),
    "60 JPEGs of overlapping entries": lambda: Attack(
        (200,), [jpeg_of_directory(b"Exif\0\0")] * 60
    ),
    "300,000 pages": lambda: Attack(
        (422,), [tiff([(256, 3, 1, 64), (257, 3, 1, 64)], pages=300_000)]
    ),
    "overlapping tags": lambda: Attack((422,), [tiff_of_overlapping_tags()]),
}
"""Requests with hostile files, by name."""
