"""Cutting an image that is larger than a patch into tiles that cover the whole image."""

import math

import numpy as np

from eurosat.inference.backend import Patches


def tile_corners(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """Find the smallest number of tiles that cover an image; neighbours may overlap.

    Args:
        height: Height of the image in pixels, at least ``size``.
        width: Width of the image in pixels, at least ``size``.
        size: Side of a tile in pixels.

    Returns:
        Upper left corner (x, y) of every tile, row by row.
    """
    rows, columns = _offsets(height, size), _offsets(width, size)
    return [(x, y) for y in rows for x in columns]


def cut_tiles(pixels: Patches, corners: list[tuple[int, int]], size: int) -> Patches:
    """Cut tiles out of an image.

    Args:
        pixels: Pixels of any dtype, shape (height, width, C).
        corners: Corners from `tile_corners`.
        size: Side of a tile in pixels.

    Returns:
        Tiles of the same dtype, shape (len(corners), size, size, C).
    """
    return np.stack([pixels[y : y + size, x : x + size] for x, y in corners])


def _offsets(length: int, size: int) -> list[int]:
    count = math.ceil(length / size)
    return [round(i * (length - size) / max(count - 1, 1)) for i in range(count)]
