"""What the pixels of an image must be: 8-bit RGB, or 13 named bands of digital numbers.

A file of other pixels is refused with the reason, because a conversion by guess would give wrong
pixels without a word.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from eurosat.bands import GEOTIFF_ORDER, band_name, complete_band_names


class UnsuitableImageError(ValueError):
    """A file is a valid image whose pixels are not those of a patch."""


def not_8_bit(found: str) -> str:
    """Say that pixels have another type than 8 bits, and what to do."""
    return (
        f"its pixels are not 8-bit ({found}), and the file does not say which value is white: save "
        "the image with 8 bits per channel, rendered as EuroSAT's RGB images, or give the 13 bands"
    )


def digital_numbers(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Convert the values of 13 bands to uint16 without a change of any value.

    Args:
        pixels: Any type, shape (height, width, 13).

    Raises:
        UnsuitableImageError: The values are not digital numbers.
    """
    if pixels.dtype.kind not in "iu":
        raise UnsuitableImageError(
            f"its bands are of the type {pixels.dtype}, not of 16-bit digital numbers: multiply "
            "reflectance by 10,000, and save the bands as uint16"
        )
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise UnsuitableImageError(
            f"its bands have values from {low} to {high}, and digital numbers (reflectance x "
            "10,000) lie between 0 and 65,535: replace values for missing data by 0, and save the "
            "bands as uint16"
        )
    if 0 < high <= np.iinfo(np.uint8).max:
        raise UnsuitableImageError(
            f"its bands have no value above {high}, so the values are not digital numbers "
            "(reflectance x 10,000): save the bands as the product has them, before any scaling "
            "to 8 bits"
        )
    return pixels.astype(np.uint16, copy=False)


_COLOURS = {"red": "B04", "green": "B03", "blue": "B02"}


def check_picture(file: Any) -> None:
    """Refuse a TIFF of at most four bands that is not a grey or RGB picture of 8 bits."""
    if set(file.dtypes) != {"uint8"}:
        raise UnsuitableImageError(not_8_bit(file.dtypes[0]))
    if file.count == 2 and file.colorinterp[1].name != "alpha":
        raise UnsuitableImageError("it has 2 bands: give an RGB image or the 13 bands")
    words = [(text or "").strip() for text in file.descriptions]
    names = [_COLOURS.get(word.lower()) or band_name(word) for word in words]
    if any(names) and names[:3] != list(_COLOURS.values()):
        raise UnsuitableImageError(
            f"its bands are {', '.join(words)}, not red, green, blue: give an RGB image or the 13 "
            "bands"
        )


def check_values(file: Any, pixels: npt.NDArray[Any]) -> None:
    """Refuse bands whose file says that the values are not digital numbers."""
    if any(file.offsets) or not set(file.scales) <= {1.0, 1e-4}:
        raise UnsuitableImageError(
            f"its values are not digital numbers but have the scale {file.scales[0]:g} and the "
            f"offset {file.offsets[0]:g}: convert the values to reflectance x 10,000"
        )
    if file.nodata and (pixels == file.nodata).any():
        raise UnsuitableImageError(
            f"some of its pixels have the value for missing data, {file.nodata:g}: give images "
            "without missing pixels, or set the missing pixels to 0"
        )


def name_bands(
    descriptions: Sequence[str | None],
    pixels: npt.NDArray[Any],
    band_order: Sequence[str] | None,
) -> tuple[str, ...]:
    """Name the thirteen bands of a file by their descriptions, or by the given order."""
    order = None if band_order is None else tuple(band_order)
    reason = "its bands have no names"
    if any(descriptions):
        try:
            names = complete_band_names(descriptions)
        except ValueError as error:
            reason = str(error)
        else:
            if order and order != names:
                raise UnsuitableImageError(
                    f"its bands are named {', '.join(names)}, and the given order of the bands is "
                    f"{', '.join(order)}: leave out the order, or correct the names in the file"
                )
            return names
    elif order is None and _has_order_of_eurosat(pixels):
        return GEOTIFF_ORDER
    if not order:
        raise UnsuitableImageError(
            f"{reason}, so the order of the bands is unknown: name the bands in the file (B01, "
            "B02, ..., B8A, ...), or, for the images of --data.source and --data.images, give the "
            "order with --data.band_order (eurosat, spectral or 13 names)"
        )
    return order


def _has_order_of_eurosat(pixels: npt.NDArray[Any]) -> bool:
    """Whether the cirrus band is at the place where EuroSAT's GeoTIFFs have it.

    The cirrus band is darker than all other bands, because the atmosphere absorbs its light: by a
    factor of 1.5 to 140 in the means of the 100 patches of EuroSAT100. In spectral order, B09 is
    at its place.
    """
    means = pixels.mean(axis=(0, 1))
    position = GEOTIFF_ORDER.index("B10")
    return bool(means[position] <= 2 * np.delete(means, position).min())
