"""Example images in a model's card, which the service's page shows."""

import base64
import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image

from eurosat.bands import BANDS
from eurosat.data.opened import OpenedData


def draw_examples(data: OpenedData) -> dict[str, str]:
    """Encode the first validation patch of every class as a lossless image file.

    Args:
        data: The run's data.

    Returns:
        Base64 by file name: PNG files of RGB patches, GeoTIFF files of 13-band patches.
    """
    encode, ending = (_png, ".png") if data.store.card.rgb else (_geotiff, ".tif")
    files = {}
    for label, true in enumerate(data.store.card.classes):
        found = data.splits.val[data.store.labels[data.splits.val] == label]
        if len(found):
            stem = Path(data.store.names[found[0]]).stem
            name = (stem if stem.startswith(true) else f"{true}_{stem}") + ending
            files[name] = base64.b64encode(encode(data.store.images[found[0]])).decode()
    return files


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _geotiff(pixels: npt.NDArray[np.uint16]) -> bytes:
    height, width, count = pixels.shape
    with warnings.catch_warnings(), rasterio.MemoryFile() as memory:
        # A store keeps no coordinates, so the GeoTIFF has none.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with memory.open(
            driver="GTiff",
            height=height,
            width=width,
            count=count,
            dtype="uint16",
            compress="deflate",
            predictor=2,
        ) as file:
            file.write(np.moveaxis(pixels, -1, 0))
            file.descriptions = [band.name for band in BANDS]
        return bytes(memory.read())
