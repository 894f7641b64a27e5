"""Decoding one image file."""

import io
import struct
import zlib

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from eurosat.errors import DataSourceError
from eurosat.pixels import _open_tiff, decode, resize
from tests.serving.attack_files import png_of_chunks


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def png_header(width: int, height: int, bits: int, colours: int) -> bytes:
    return struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)


def png_of(chunks: list[tuple[bytes, bytes]], colours: int) -> bytes:
    """A PNG of 64x64 pixels with further chunks between its header and its pixels."""
    pixels = (b"IDAT", zlib.compress(bytes(64 * 700)))
    every = [(b"IHDR", png_header(64, 64, 8, colours)), *chunks, pixels, (b"IEND", b"")]
    return png_of_chunks(every)


def geotiff_of(dtype: str) -> bytes:
    """A GeoTIFF of 13 bands without pixels."""
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", width=64, height=64, count=13, dtype=dtype):
            pass
        return bytes(memory.read())


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


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (geotiff_of("complex_int16"), "the file is damaged or not a picture"),
        (png_of([(b"IHDR", png_header(70, 64, 8, 2))], 2), "declares two sizes"),
        (png_of([(b"IHDR", png_header(64, 64, 16, 2))], 2), "not 8-bit .16 bits"),
    ],
    ids=["complex bands", "two sizes", "16 bits in a second header"],
)
def test_an_error_of_any_class_is_a_refusal(data: bytes, reason: str) -> None:
    with pytest.raises(DataSourceError, match=f"^a cannot be decoded.*{reason}"):
        decode(data, "a", rgb=True)


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


UNUSABLE_SYSTEMS = {
    "engineering": 'LOCAL_CS["site",LOCAL_DATUM["x",0],UNIT["metre",1],AXIS["X",EAST]]',
    "vertical": "EPSG:5773",
    "geocentric": "EPSG:4978",
    "out of the domain of Mollweide": "ESRI:54009",
    "out of the domain of UTM": "EPSG:32632",
}


def georeferenced(system: str, x: float = 1e9, y: float = 1e9) -> bytes:
    with rasterio.MemoryFile() as memory:
        size = {"width": 64, "height": 64, "count": 13, "dtype": "uint16"}
        with memory.open(
            driver="GTiff", **size, crs=system, transform=from_origin(x, y, 10, 10)
        ) as file:
            file.write(np.full((13, 64, 64), 2000, np.uint16))
        return bytes(memory.read())


@pytest.mark.parametrize("case", UNUSABLE_SYSTEMS)
def test_an_image_of_an_odd_coordinate_system_has_no_longitude(case: str) -> None:
    data = georeferenced(UNUSABLE_SYSTEMS[case])
    patch = decode(data, "a.tif", rgb=False, longitude=True)
    assert (patch.longitude, patch.pixels.shape) == (None, (64, 64, 13))


def test_an_unknown_code_of_a_coordinate_system_gives_no_longitude() -> None:
    data = georeferenced("EPSG:32632", 5e5, 5e6)
    key = struct.pack("<HHHH", 3072, 0, 1, 32632)  # GeoTIFF's ProjectedCSTypeGeoKey
    assert key in data
    data = data.replace(key, struct.pack("<HHHH", 3072, 0, 1, 9))
    assert decode(data, "a.tif", rgb=False, longitude=True).longitude is None


def test_the_coordinate_system_is_only_read_for_the_longitude() -> None:
    data = georeferenced("EPSG:32632", 5e5, 5e6)
    found = decode(data, "a.tif", rgb=False, longitude=True).longitude
    assert found == pytest.approx(9.004, abs=0.001)
    assert decode(data, "a.tif", rgb=False).longitude is None
    with MemoryFile(data) as memory, _open_tiff(memory, georeference=False) as file:
        assert file.crs is None


def test_a_file_over_a_limit_is_refused_before_it_is_decoded() -> None:
    sparse = {"width": 4096, "height": 4096, "dtype": "uint16", "SPARSE_OK": "TRUE"}
    for count in (13, 64):
        with rasterio.MemoryFile() as memory:
            with memory.open(driver="GTiff", count=count, **sparse):
                pass
            data = bytes(memory.read())
        assert len(data) < 400_000
        with pytest.raises(DataSourceError, match=f"4096x4096 pixels of {count} bands"):
            decode(data, "a.tif", rgb=False)
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    scans = buffer.getvalue() + b"\xff\xda" * 100
    with pytest.raises(DataSourceError, match="101 scans exceed the limit of 32 scans"):
        decode(scans, "a.jpg", rgb=True)
