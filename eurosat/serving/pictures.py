"""From an uploaded image file to patches as the model takes them."""

import math
from dataclasses import dataclass

import numpy as np

from eurosat.bands import BANDS
from eurosat.data.decode import decode, resize
from eurosat.errors import DataSourceError
from eurosat.export.card import ModelCard
from eurosat.export.runtime import Patches

MAX_TILES = 256
"""Tiles of one image; larger images belong into `eurosat predict`, or to be cut by the caller."""


@dataclass(frozen=True)
class Picture:
    """An uploaded image, ready for the model.

    Attributes:
        patches: Raw pixels of the model's channels, shape (N, C, size, size): one patch, or the
            tiles of a larger image row by row.
        corners: Left upper corner (x, y) of every tile in the image; None if it was not tiled.
    """

    patches: Patches
    corners: list[tuple[int, int]] | None = None


def read_picture(data: bytes, name: str, card: ModelCard, *, tiles: bool) -> Picture:
    """Decode an image and bring it to the model's size.

    Args:
        data: The file's bytes: JPEG, PNG, TIFF, or GeoTIFF with 13 bands.
        name: The file's name, for error messages.
        card: The model's card.
        tiles: Cut an image larger than a patch into tiles rather than resize it. The tiles cover
            all of it: where its size is no multiple of a patch's, neighbours overlap.

    Raises:
        DataSourceError: The image cannot be read, lacks the model's bands, or has too many tiles.
    """
    pixels = decode(data, name, rgb=card.rgb).pixels
    if not card.rgb:
        names = [band.name for band in BANDS]
        pixels = pixels[..., [names.index(band) for band in card.bands]]
    size = card.patch_size
    height, width = pixels.shape[:2]
    if not tiles or (height <= size and width <= size):
        return Picture(_channels_first(resize(pixels, size)[None]))
    if min(height, width) < size:
        raise DataSourceError(
            f"{name} is {width}x{height} pixels and cannot be tiled: both sides must be at least "
            f"{size} pixels; leave 'tiles' out to have it resized"
        )
    rows, columns = _offsets(height, size), _offsets(width, size)
    if len(rows) * len(columns) > MAX_TILES:
        raise DataSourceError(
            f"{name} has {len(rows) * len(columns)} tiles, at most {MAX_TILES} are taken: cut it "
            "into smaller images"
        )
    corners = [(x, y) for y in rows for x in columns]
    cut = np.stack([pixels[y : y + size, x : x + size] for x, y in corners])
    return Picture(_channels_first(cut), corners)


def _offsets(length: int, size: int) -> list[int]:
    count = math.ceil(length / size)
    return [round(i * (length - size) / max(count - 1, 1)) for i in range(count)]


def _channels_first(patches: Patches) -> Patches:
    return np.ascontiguousarray(patches.transpose(0, 3, 1, 2))
