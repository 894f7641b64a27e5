"""Decode one image file into a patch: JPEG, PNG, or GeoTIFF with thirteen bands."""

import io
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from eurosat.bands import BANDS, GEOTIFF_ORDER, render_rgb
from eurosat.errors import DataSourceError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
"""File name endings that are read as images, in lower case."""

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


def decode(data: bytes, name: str, *, rgb: bool) -> Patch:
    """Decode an image file.

    Args:
        data: The file's bytes.
        name: The file's name, for error messages.
        rgb: Give the 8-bit rendition (13-band files are rendered) rather than the 13 bands.

    Returns:
        The patch, uint8 with 3 channels if ``rgb``, else uint16 with 13 bands.

    Raises:
        DataSourceError: The file is damaged, or lacks the bands asked for.
    """
    try:
        tiff = _read_tiff(data) if data[:4] in _TIFF_MAGIC else None
        if tiff is None:
            with Image.open(io.BytesIO(data)) as image:
                tiff = Patch(np.asarray(image.convert("RGB")))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataSourceError(
            f"{name} cannot be decoded ({error}): the file is damaged or not an image; "
            "fetch it again or remove it"
        ) from error
    return as_channels(tiff, name, rgb=rgb)


def as_channels(patch: Patch, name: str, *, rgb: bool) -> Patch:
    """Bring a decoded patch to the representation asked for: 8-bit rendition or 13 bands.

    Raises:
        DataSourceError: The patch lacks the bands asked for.
    """
    count = patch.pixels.shape[-1]
    if count == len(BANDS) and rgb:
        return Patch(render_rgb(patch.pixels.astype(np.uint16)), patch.longitude)
    if count == (3 if rgb else len(BANDS)):
        return Patch(patch.pixels.astype(np.uint8 if rgb else np.uint16), patch.longitude)
    if rgb:
        raise DataSourceError(f"{name} has {count} channels: expected an RGB image or 13 bands")
    raise DataSourceError(
        f"{name} has {count} channels, but Sentinel-2 bands were asked for: use a 13-band source "
        "such as EuroSAT_MS.zip, or choose --data.bands rgb"
    )


def _read_tiff(data: bytes) -> Patch | None:
    """Read a TIFF with rasterio; None for an ordinary picture, which Pillow reads better."""
    import rasterio
    from rasterio.io import MemoryFile
    from rasterio.warp import transform

    if not hasattr(_gdal, "environment"):  # one GDAL environment a thread: making one is slow
        _gdal.environment = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR")
        _gdal.environment.__enter__()
    with warnings.catch_warnings(), MemoryFile(data) as memory:
        # A TIFF without georeference is fine: it only cannot be split by longitude.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with memory.open() as file:
            if file.count <= 4:
                return None
            pixels = np.moveaxis(file.read(), 0, -1)
            longitude = None
            if file.crs is not None:
                x, y = file.xy(file.height // 2, file.width // 2, offset="ul")
                longitude = transform(file.crs, "EPSG:4326", [x], [y])[0][0]
            described = [name for name in file.descriptions if name]
    names = described if set(described) == set(GEOTIFF_ORDER) else list(GEOTIFF_ORDER)
    if pixels.shape[-1] == len(names):
        pixels = pixels[..., [names.index(band.name) for band in BANDS]]
    return Patch(pixels, longitude)
