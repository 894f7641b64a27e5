"""What the pixels of an image must be: 8-bit RGB, or 13 named bands of digital numbers.

A file of other pixels is refused with the reason, because a conversion by guess would give wrong
pixels without a word.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from eurosat.bands import GEOTIFF_ORDER, band_name, complete_band_names

BandOrder = Sequence[str] | Literal["published"] | None
"""How a file's bands are ordered if the file does not name its bands: the names of the 13 bands;
``"published"`` for the order of EuroSAT's files, which the file's name suggests; None if nothing is
known; an empty sequence if every such file is refused."""


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
    darkest = float(pixels.mean(axis=(0, 1)).min())
    if _OFFSET - 20 <= darkest <= _OFFSET + 100:
        raise UnsuitableImageError(
            f"the mean of its darkest band is {darkest:.0f}, as in products since processing "
            f"baseline 04.00 (January 2022), which add {_OFFSET:,} to every value: subtract "
            f"{_OFFSET:,} from the values of all bands"
        )
    return pixels.astype(np.uint16, copy=False)


_OFFSET = 1000
"""Offset of digital numbers since processing baseline 04.00 (RADIO_ADD_OFFSET in the metadata, with
the opposite sign). Without it, the cirrus band has a mean of 12 over EuroSAT."""

_COLOURS = {"red": "B04", "green": "B03", "blue": "B02"}


def check_picture(file: Any) -> None:
    """Refuse a TIFF of at most four bands that is not a grey or RGB picture of 8 bits."""
    if set(file.dtypes) != {"uint8"}:
        raise UnsuitableImageError(not_8_bit(file.dtypes[0]))
    if file.count == 2 and file.colorinterp[1].name != "alpha":
        raise UnsuitableImageError("it has 2 bands: give an RGB image or the 13 bands")
    words = [(text or "").strip() for text in file.descriptions]
    names = [_COLOURS.get(word.lower()) or band_name(word) for word in words]
    colours = [colour.name for colour in file.colorinterp]
    for found, expected, shown in (
        (names, list(_COLOURS.values()), words),
        ([colour if colour in _COLOURS else None for colour in colours], list(_COLOURS), colours),
    ):
        if any(found) and found[:3] != expected:
            raise UnsuitableImageError(
                f"its bands are {', '.join(shown)}, not red, green, blue: give an RGB image or the "
                "13 bands"
            )


def check_transparency(image: Any) -> None:
    """Refuse a picture of Pillow with transparent pixels, whose colours mean nothing."""
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        if alpha.getextrema()[0] == 0:
            raise UnsuitableImageError(
                "some of its pixels are transparent: give images without missing pixels, or set "
                "the missing pixels to black and save the image without transparency"
            )


def check_values(file: Any, pixels: npt.NDArray[Any]) -> None:
    """Refuse bands whose file says that values are missing or are not digital numbers."""
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
    if "per_dataset" in {flag.name for flag in file.mask_flag_enums[0]} and (
        pixels[file.dataset_mask() == 0].any()
    ):
        raise UnsuitableImageError(
            "its mask says that some pixels are missing, and these pixels are not 0: give images "
            "without missing pixels, or set the missing pixels to 0"
        )


def name_bands(
    descriptions: Sequence[str | None],
    pixels: npt.NDArray[Any],
    band_order: BandOrder,
) -> tuple[str, ...]:
    """Name the thirteen bands of a file by their descriptions, or by the given order."""
    order = None if band_order in (None, "published") else tuple(band_order or ())
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
        if order:
            _refuse_contradiction(descriptions, order)
    elif band_order == "published":
        return published_order(pixels)
    elif order is None and _has_order_of_eurosat(pixels):
        return GEOTIFF_ORDER
    if not order:
        raise UnsuitableImageError(
            f"{reason}, so the order of the bands is unknown: name the bands in the file (B01, "
            "B02, ..., B8A, ...), or, for the images of --data.source and --data.images, give the "
            "order with --data.band_order (eurosat, spectral or 13 names)"
        )
    return order


def published_order(pixels: npt.NDArray[Any]) -> tuple[str, ...]:
    """The order of EuroSAT's files, for bands without names in a file with a name of EuroSAT's.

    Args:
        pixels: Digital numbers, shape (height, width, 13).

    Raises:
        UnsuitableImageError: The band at the place of the cirrus band is evidently another band.
    """
    cirrus, darkest = _cirrus_and_darkest(pixels)
    # In EuroSAT100, the cirrus band has means up to 50, and at most 0.65 times the mean of the
    # darkest other band. The absolute limit lets a file with an empty band pass.
    if cirrus > max(50, 4 * darkest):
        raise UnsuitableImageError(
            "its bands have no names and are not in the order of EuroSAT's file of this name: for "
            "files of your own, give the order with --data.band_order (eurosat, spectral or 13 "
            "names)"
        )
    return GEOTIFF_ORDER


def _refuse_contradiction(descriptions: Sequence[str | None], order: Sequence[str]) -> None:
    """Refuse an order of the bands that differs from the names that are understood."""
    texts = [text or "" for text in descriptions]
    if all(re.fullmatch(rf"\D*0*{number}", text) for number, text in enumerate(texts, start=1)):
        return  # "Band 1" to "Band 13" are numbers of positions, not names.
    for position, (text, expected) in enumerate(zip(texts, order, strict=True), start=1):
        if band_name(text) not in (None, expected):
            raise UnsuitableImageError(
                f"its band {position} is named {text!r}, and the given order of the bands says "
                f"{expected}: correct the order, or the names in the file"
            )


def _has_order_of_eurosat(pixels: npt.NDArray[Any]) -> bool:
    """Whether the cirrus band is at the place where EuroSAT's GeoTIFFs have it.

    The cirrus band is darker than all other bands, because the atmosphere absorbs its light: by a
    factor of 1.5 to 140 in the means of the 100 patches of EuroSAT100. In spectral order, B09 is
    at its place.
    """
    cirrus, darkest = _cirrus_and_darkest(pixels)
    return cirrus <= 2 * darkest


def _cirrus_and_darkest(pixels: npt.NDArray[Any]) -> tuple[float, float]:
    """Means of the band at EuroSAT's place of the cirrus band, and of the darkest other band."""
    means = pixels.mean(axis=(0, 1))
    position = GEOTIFF_ORDER.index("B10")
    return float(means[position]), float(np.delete(means, position).min())
