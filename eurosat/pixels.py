"""Image files: finding files, decoding JPEG, PNG and 13-band GeoTIFF, resizing pixels."""

import io
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from eurosat.bands import BANDS, GEOTIFF_ORDER, render_rgb, resolve_channels, select_bands
from eurosat.errors import DataSourceError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
"""File name endings of images, in lower case."""

MAX_PIXELS = 4096 * 4096
"""Pixels of the largest image; a larger image is refused before it is decoded.

A file of a few bytes can declare an image of gigabytes.
"""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_gdal = threading.local()


@dataclass(frozen=True)
class Patch:
    """A decoded image.

    Attributes:
        pixels: uint8 (height, width, 3) or uint16 (height, width, 13), bands in the order of
            :data:`eurosat.bands.BANDS`.
        longitude: Longitude of the patch's centre in degrees east, where the file carries it.
    """

    pixels: npt.NDArray[Any]
    longitude: float | None = None


def find_images(paths: Sequence[str]) -> list[Path]:
    """Find image files.

    Args:
        paths: Image files, and folders to search through.

    Returns:
        The files, those of a folder in sorted order.

    Raises:
        DataSourceError: A path does not exist, or a folder holds no images.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)
            if not found:
                raise DataSourceError(
                    f"{path} holds no .jpg, .png or .tif images: give a folder that holds some"
                )
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise DataSourceError(
                f"{path} does not exist: give an image file or a folder of images"
            )
    return files


def decode(data: bytes, name: str, *, rgb: bool) -> Patch:
    """Decode an image file.

    Args:
        data: The file's bytes.
        name: The file's name, for error messages.
        rgb: Return the 8-bit rendition instead of the 13 bands; a 13-band file is rendered.

    Returns:
        The patch, uint8 with 3 channels if ``rgb``, else uint16 with 13 bands.

    Raises:
        DataSourceError: The file is damaged, too large, or lacks the requested bands.
    """
    try:
        if not data:
            raise ValueError("the file is empty")
        patch = _read_tiff(data) if data[:4] in _TIFF_MAGIC else None
        if patch is None:
            patch = _read_picture(data)
    except UnidentifiedImageError as error:
        raise DataSourceError(
            f"{name} cannot be decoded: the file is not a JPEG, PNG or TIFF image"
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataSourceError(
            f"{name} cannot be decoded ({error}): the file is damaged or not a picture of 8-bit "
            "RGB or of bands; fetch it again or remove it"
        ) from error
    return as_channels(patch, name, rgb=rgb)


def resize(pixels: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Resize an image to a square patch, bilinearly and with antialiasing.

    Args:
        pixels: uint8 or uint16, shape (height, width, channels).
        size: Height and width of the result in pixels.

    Returns:
        Same type, shape (size, size, channels).
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    channels = [
        np.asarray(
            Image.fromarray(channel.astype(np.float32)).resize(
                (size, size), Image.Resampling.BILINEAR
            )
        )
        for channel in np.moveaxis(pixels, -1, 0)
    ]
    limit = np.iinfo(pixels.dtype).max
    return np.stack(channels, axis=-1).round().clip(0, limit).astype(pixels.dtype)


def as_channels(patch: Patch, name: str, *, rgb: bool) -> Patch:
    """Convert a decoded patch to the 8-bit rendition or to the 13 bands.

    Raises:
        DataSourceError: The patch lacks the requested bands.
    """
    count = patch.pixels.shape[-1]
    if count == len(BANDS) and rgb:
        return Patch(render_rgb(patch.pixels.astype(np.uint16)), patch.longitude)
    if count == (3 if rgb else len(BANDS)):
        return Patch(patch.pixels.astype(np.uint8 if rgb else np.uint16), patch.longitude)
    if rgb:
        raise DataSourceError(f"{name} has {count} channels: expected an RGB image or 13 bands")
    raise DataSourceError(
        f"{name} has {count} channels, but Sentinel-2 bands are needed: use 13-band GeoTIFFs such "
        "as those of EuroSAT_MS.zip, or a model of RGB images (--data.bands rgb)"
    )


def _read_picture(data: bytes) -> Patch:
    """Read a picture with Pillow: any 8-bit mode, without an alpha channel."""
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF")) as image:
        _check_size(image.width, image.height)
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels are not 8-bit (mode {image.mode})")
        return Patch(np.asarray(image.convert("RGB")))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels exceed the limit of {MAX_PIXELS} pixels")


def _read_tiff(data: bytes) -> Patch | None:
    """Read a TIFF with rasterio; None for an ordinary picture, which Pillow reads."""
    import rasterio
    from rasterio.io import MemoryFile
    from rasterio.warp import transform

    if not hasattr(
        _gdal, "environment"
    ):  # one GDAL environment per thread, because creating one is slow
        _gdal.environment = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR")
        _gdal.environment.__enter__()
    with warnings.catch_warnings(), MemoryFile(data) as memory:
        # A TIFF without georeference has no longitude, and is valid otherwise.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with memory.open(driver="GTiff") as file:
            if file.count <= 4:
                return None
            _check_size(file.width, file.height)
            if file.dtypes[0] not in ("uint8", "uint16", "int16"):
                raise ValueError(f"its pixels are {file.dtypes[0]}, not 16-bit digital numbers")
            pixels = np.moveaxis(file.read(), 0, -1).clip(0)
            longitude = None
            if file.crs is not None:
                x, y = file.xy(file.height // 2, file.width // 2, offset="ul")
                longitude = transform(file.crs, "EPSG:4326", [x], [y])[0][0]
            described = [name for name in file.descriptions if name]
    names = described if set(described) == set(GEOTIFF_ORDER) else list(GEOTIFF_ORDER)
    if pixels.shape[-1] == len(names):
        pixels = select_bands(pixels, BANDS, resolve_channels(names))
    return Patch(pixels, longitude)
