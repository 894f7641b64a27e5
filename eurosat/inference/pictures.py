"""Decoding an uploaded image file into the patches that the model takes."""

from dataclasses import dataclass

import numpy as np

from eurosat.bands import resolve_channels, select_bands
from eurosat.errors import DataSourceError
from eurosat.inference.backend import Patches
from eurosat.inference.card import ModelCard
from eurosat.inference.tiles import cut_tiles, tile_corners
from eurosat.pixels import decode, resize

MAX_TILES = 256
"""Largest number of tiles of one image; the caller has to cut larger images."""


@dataclass(frozen=True)
class Picture:
    """An uploaded image, ready for the model.

    Attributes:
        patches: Raw pixels of the model's channels, shape (N, C, size, size): one patch, or the
            tiles of a larger image row by row.
        corners: Upper left corner (x, y) of every tile in the image; None if the image was not
            tiled.
    """

    patches: Patches
    corners: list[tuple[int, int]] | None = None


def read_picture(data: bytes, name: str, card: ModelCard, *, tiles: bool) -> Picture:
    """Decode an image, and resize or tile it to the model's patch size.

    Args:
        data: The file's bytes: JPEG, PNG, TIFF, or GeoTIFF with 13 bands.
        name: The file's name, for error messages.
        card: The model's card.
        tiles: Cut an image larger than a patch into tiles instead of resizing the image. The tiles
            cover the whole image; neighbours overlap if the image's size is no multiple of a
            patch's size.

    Raises:
        DataSourceError: The image cannot be read, lacks the model's bands, or has too many tiles.
    """
    pixels = decode(data, name, rgb=card.rgb).pixels
    if not card.rgb:
        pixels = select_bands(pixels, resolve_channels(card.bands))
    size = card.patch_size
    height, width = pixels.shape[:2]
    if not tiles or (height <= size and width <= size):
        return Picture(_channels_first(resize(pixels, size)[None]))
    if min(height, width) < size:
        raise DataSourceError(
            f"{name} has {width}x{height} pixels and cannot be tiled, because both sides must have "
            f"at least {size} pixels: leave out 'tiles', and the image is resized"
        )
    corners = tile_corners(height, width, size)
    if len(corners) > MAX_TILES:
        raise DataSourceError(
            f"{name} has {len(corners)} tiles, and the limit is {MAX_TILES} tiles: cut the image "
            "into smaller images"
        )
    return Picture(_channels_first(cut_tiles(pixels, corners, size)), corners)


def _channels_first(patches: Patches) -> Patches:
    return np.ascontiguousarray(patches.transpose(0, 3, 1, 2))
