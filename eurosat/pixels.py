"""Image files: finding files, decoding JPEG, PNG and 13-band GeoTIFF, resizing pixels."""

import contextlib
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

from eurosat.bands import BANDS, render_rgb, resolve_channels, select_bands
from eurosat.errors import DataSourceError
from eurosat.folders import check_reachable, user_path, walk
from eurosat.image_checks import (
    BandOrder,
    UnsuitableImageError,
    check_picture,
    check_transparency,
    check_values,
    digital_numbers,
    name_bands,
    not_8_bit,
)
from eurosat.image_header import ImageHeader, check_header, check_scans, is_tiff, read_header

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
"""File name endings of images, in lower case."""

UNREAD_SUFFIXES = frozenset({".bmp", ".gif", ".heic", ".jp2", ".webp"})
"""File name endings of images of formats that are not read, in lower case."""

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
        The files, those of a folder in sorted order and without hidden files. Images of formats
        that are not read are among them, so that their rows say why they have no class.

    Raises:
        DataSourceError: A path is blank or does not exist, or a folder cannot be read or holds no
            images.
    """
    files: list[Path] = []
    suffixes = IMAGE_SUFFIXES | UNREAD_SUFFIXES
    for text in paths:
        path = user_path(text)
        if not text.strip():  # Path("") is the current folder
            raise DataSourceError(
                "the path of an image is blank, perhaps because a variable of the shell is not "
                "set: give an image file or a folder of images"
            )
        check_reachable(path)
        if path.is_dir():
            found = [file for file in walk(path) if file.suffix.lower() in suffixes]
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


def decode(
    data: bytes,
    name: str,
    *,
    rgb: bool,
    band_order: BandOrder = None,
    longitude: bool = False,
) -> Patch:
    """Decode an image file.

    The limits of `eurosat.image_header` are checked before the file is decoded.

    Args:
        data: The file's bytes.
        name: The file's name, for error messages.
        rgb: Return the 8-bit rendition instead of the 13 bands; a 13-band file is rendered.
        band_order: The names of the 13 bands of a file that does not name its bands. If not given,
            a file in the order of EuroSAT's GeoTIFFs is recognised by its cirrus band, and another
            file is refused; an empty sequence refuses every file that does not name its bands.
            ``"published"`` takes a file for one of EuroSAT's, which its name suggests, unless the
            bands are evidently in spectral order.
        longitude: Read the longitude as well, from files of the user's own. The coordinate
            reference system of a hostile file can make PROJ open any file of this machine.

    Returns:
        The patch, uint8 with 3 channels if ``rgb``, else uint16 with 13 bands.

    Raises:
        DataSourceError: The file is damaged or too large, its pixels are neither 8-bit RGB nor
            digital numbers, the order of its bands is unknown, or it lacks the requested bands.
    """
    try:
        if not data:
            raise ValueError("the file is empty")
        if header := read_header(data):
            check_header(header)
        patch = _read_tiff(data, band_order, longitude) if is_tiff(data) else None
        if patch is None:
            patch = _read_picture(data, header)
    except UnsuitableImageError as error:
        raise DataSourceError(f"{name} cannot be decoded: {error}") from error
    except UnidentifiedImageError as error:
        reason = (
            "the TIFF is stored in a way that is not read; save it as RGB (photometric "
            "interpretation) with 8 bits per channel, without compression"
            if is_tiff(data)
            else "the file is not a JPEG, PNG or TIFF image, the formats that are read"
        )
        raise DataSourceError(f"{name} cannot be decoded: {reason}") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow and GDAL have no common class of errors
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
        DataSourceError: The patch lacks the requested bands, or its pixels are neither 8-bit RGB
            nor digital numbers.
    """
    count = patch.pixels.shape[-1]
    if count == len(BANDS):
        try:
            numbers = digital_numbers(patch.pixels)
        except UnsuitableImageError as error:
            raise DataSourceError(f"{name} cannot be decoded: {error}") from error
        return Patch(render_rgb(numbers) if rgb else numbers, patch.longitude)
    if count == 3 and rgb:
        if patch.pixels.dtype != np.uint8:
            raise DataSourceError(
                f"{name} has RGB pixels of the type {patch.pixels.dtype}, not 8-bit pixels: save "
                "the image with 8 bits per channel, rendered as EuroSAT's RGB images"
            )
        return patch
    if rgb:
        raise DataSourceError(f"{name} has {count} channels: expected an RGB image or 13 bands")
    raise DataSourceError(
        f"{name} has {count} channels, but Sentinel-2 bands are needed: use 13-band GeoTIFFs such "
        "as those of EuroSAT_MS.zip, or a model of RGB images (--data.bands rgb)"
    )


def _read_picture(data: bytes, header: ImageHeader | None) -> Patch:
    """Read a picture with Pillow: any 8-bit mode, without an alpha channel."""
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF")) as image:
        if header is None and image.format == "PNG":
            raise UnsuitableImageError("it does not begin with its header; save the image again")
        if header is not None and image.size != (header.width, header.height):
            raise UnsuitableImageError(
                f"it declares two sizes, {header.width}x{header.height} and "
                f"{image.width}x{image.height} pixels; save the image again"
            )
        check_header(ImageHeader(str(image.format), image.width, image.height, 3))
        if image.format in ("JPEG", "MPO"):  # MPO: a JPEG that several JPEGs follow
            check_scans(data)
        # Pillow reads 16-bit RGB as 8-bit RGB and drops the lower bits.
        if image.format == "PNG" and any(";16" in str(tile.args) for tile in image.tile):
            raise UnsuitableImageError(not_8_bit("16 bits"))
        if image.mode.startswith(("I", "F")):
            raise UnsuitableImageError(not_8_bit(f"mode {image.mode}"))
        check_transparency(image)
        # A conversion that changes nothing would copy the pixels once more.
        return Patch(np.asarray(image if image.mode == "RGB" else image.convert("RGB")))


def _read_tiff(data: bytes, band_order: BandOrder, longitude: bool) -> Patch | None:
    """Read a TIFF with rasterio; None for an ordinary picture, which Pillow reads."""
    import rasterio
    from rasterio.io import MemoryFile

    if not hasattr(
        _gdal, "environment"
    ):  # one GDAL environment per thread, because creating one is slow
        _gdal.environment = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR")
        _gdal.environment.__enter__()
    with warnings.catch_warnings(), MemoryFile(data) as memory:
        # A TIFF without georeference has no longitude, and is valid otherwise.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with _open_tiff(memory, georeference=longitude) as file:
            if file.subdatasets:
                raise UnsuitableImageError(
                    "it holds several images: save each image in its own file"
                )
            if file.count <= 4:
                check_picture(file)
                return None
            size = np.dtype(file.dtypes[0]).itemsize
            check_header(ImageHeader("TIFF", file.width, file.height, file.count, size))
            if file.count != len(BANDS):  # the caller refuses the file: its pixels are not needed
                return Patch(np.empty((0, 0, file.count), np.uint16))
            pixels = np.moveaxis(file.read(), 0, -1)
            check_values(file, pixels)
            names = name_bands(file.descriptions, digital_numbers(pixels), band_order)
            found = _longitude(file) if longitude else None
    return Patch(select_bands(pixels, BANDS, resolve_channels(names)), found)


def _open_tiff(memory: Any, *, georeference: bool) -> Any:
    """Open a TIFF; without the georeference, PROJ gets no coordinate reference system."""
    if georeference:
        # The pixels of a damaged georeference are sound. GDAL's errors lack a public base.
        with contextlib.suppress(Exception):
            return memory.open(driver="GTiff")
    return memory.open(driver="GTiff", GEOREF_SOURCES="NONE")


def _longitude(file: Any) -> float | None:
    """Read the longitude of a GeoTIFF's centre in degrees east.

    Returns:
        The longitude; None if the file has no coordinate reference system that PROJ can convert to
        WGS 84, or if the centre is outside of the system's domain.
    """
    from rasterio.warp import transform

    if file.crs is None or not (file.crs.is_geographic or file.crs.is_projected):
        return None
    x, y = file.xy(file.height // 2, file.width // 2, offset="ul")
    try:
        degrees = float(transform(file.crs, "EPSG:4326", [x], [y])[0][0])
    except Exception:  # GDAL's errors lack a public base
        return None
    return degrees if -180 <= degrees <= 180 else None
