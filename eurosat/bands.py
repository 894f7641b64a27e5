"""Sentinel-2 bands: names, their order in EuroSAT's files, statistics, and the RGB rendition.

A *channel* is what a model sees: either one of the thirteen bands in digital numbers (uint16,
top-of-atmosphere reflectance x 10,000), or one of ``R``, ``G``, ``B``, the 8-bit rendition of the
bands B04, B03, B02 that EuroSAT publishes as JPEGs. Channels are matched by name and never by
position, because the published GeoTIFFs store B8A last, and other products store B8A after B08.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Channel:
    """One input channel.

    Attributes:
        name: ``"B01"`` to ``"B12"``, ``"B8A"``, or ``"R"``, ``"G"``, ``"B"``.
        description: What the channel measures.
        wavelength: Centre wavelength of Sentinel-2A in nanometres.
        resolution: Ground sampling distance in metres.
        mean: Mean over EuroSAT in the units of the channel's raw values.
        std: Standard deviation over EuroSAT in the same units.
    """

    name: str
    description: str
    wavelength: int
    resolution: int
    mean: float
    std: float


# Wavelengths and resolutions: ESA, Sentinel-2 User Handbook (2015), table 1. Means and standard
# deviations: over all 27,000 13-band patches, as published by torchgeo, re-ordered by name.
BANDS: tuple[Channel, ...] = (
    Channel("B01", "coastal aerosol", 443, 60, 1354.41, 245.72),
    Channel("B02", "blue", 490, 10, 1118.24, 333.01),
    Channel("B03", "green", 560, 10, 1042.93, 395.09),
    Channel("B04", "red", 665, 10, 947.63, 593.75),
    Channel("B05", "vegetation red edge 1", 705, 20, 1199.47, 566.42),
    Channel("B06", "vegetation red edge 2", 740, 20, 1999.79, 861.18),
    Channel("B07", "vegetation red edge 3", 783, 20, 2369.22, 1086.63),
    Channel("B08", "near infrared", 842, 10, 2296.83, 1117.98),
    Channel("B8A", "narrow near infrared", 865, 20, 2594.14, 1231.59),
    Channel("B09", "water vapour", 945, 60, 732.08, 404.92),
    Channel("B10", "cirrus", 1375, 60, 12.11, 4.78),
    Channel("B11", "short-wave infrared 1", 1610, 20, 1819.01, 1002.59),
    Channel("B12", "short-wave infrared 2", 2190, 20, 1118.92, 761.30),
)
"""The thirteen bands in spectral order; every array in this project has this order."""

# Statistics: over all pixels of the 27,000 published JPEGs.
RGB: tuple[Channel, ...] = (
    Channel("R", "red, 8-bit rendition of B04", 665, 10, 87.816, 51.678),
    Channel("G", "green, 8-bit rendition of B03", 560, 10, 96.974, 34.909),
    Channel("B", "blue, 8-bit rendition of B02", 490, 10, 103.981, 29.465),
)
"""The three channels of EuroSAT's RGB files."""

GEOTIFF_ORDER: tuple[str, ...] = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08"),
    *("B09", "B10", "B11", "B12", "B8A"),
)
"""The order in which EuroSAT's 13-band GeoTIFFs store the bands, with B8A last."""

SPECTRAL_ORDER: tuple[str, ...] = tuple(band.name for band in BANDS)
"""The names of the thirteen bands in spectral order, with B8A after B08."""

# "B1", "B01", "Band 8A", "B2, central wavelength 490 nm" (GDAL), "S2A_B04", "B8A_reflectance"
_BAND_NAME = re.compile(r"(?:S2[ABC]?[\s_-]*)?B(?:AND)?[\s_-]*0*(\d{1,2})(A?)(?![A-Z0-9])", re.I)

# "B8/B4" and "B8A mask" are made from a band, and are no band.
_NO_BAND = re.compile(r"(?<![A-Z])B(?:AND)?[\s_-]*\d|mask|flag|quality|(?<![A-Z])QA", re.I)

_CHANNELS = {channel.name: channel for channel in (*RGB, *BANDS)}


def resolve_channels(bands: str | Sequence[str]) -> tuple[Channel, ...]:
    """Turn the user's choice of bands into channels.

    Args:
        bands: ``"rgb"`` for the 8-bit rendition, ``"all"`` for the thirteen bands in spectral
            order, or band names such as ``["B02", "B03", "B04", "B08"]`` in the wanted order.

    Returns:
        The channels in the order the model will see them.

    Raises:
        ValueError: A name is unknown or repeated, or 8-bit channels are mixed with bands.
    """
    match bands:
        case "rgb":
            return RGB
        case "all":
            return BANDS
        case str():
            bands = [bands]
    unknown = [name for name in bands if name not in _CHANNELS]
    if unknown or not bands:
        raise ValueError(
            f"unknown band {', '.join(unknown) or '(none given)'}: choose 'rgb', 'all', or names "
            f"from {', '.join(channel.name for channel in BANDS)}"
        )
    if len(set(bands)) < len(bands):
        raise ValueError(f"a band is named twice in {', '.join(bands)}: name each band once")
    channels = tuple(_CHANNELS[name] for name in bands)
    if not is_rgb(channels) and any(channel in RGB for channel in channels):
        raise ValueError(
            "the 8-bit channels R, G, B cannot be mixed with 16-bit bands or used in part: "
            "choose 'rgb', or the bands B04, B03, B02"
        )
    return channels


def band_name(description: str) -> str | None:
    """Name the band that a file's description of a band means.

    Args:
        description: Such as ``"B1"`` (Earth Engine), ``"B01"``, ``"Band 8A"`` or ``"B1, central
            wavelength 443 nm"`` (GDAL).

    Returns:
        A name of :data:`BANDS`, such as ``"B01"``; None if the description names none of the bands.
    """
    text = description.strip()
    match = _BAND_NAME.match(text)
    if match is None or _NO_BAND.search(text, match.end()):
        return None
    number, letter = int(match[1]), match[2].upper()
    name = f"B{number}{letter}" if letter else f"B{number:02d}"
    return name if name in SPECTRAL_ORDER else None


def resolve_band_order(order: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Turn the user's order of a file's unnamed bands into names.

    Args:
        order: ``"eurosat"`` (B8A last), ``"spectral"`` (B8A after B08), the names of the thirteen
            bands, or None.

    Returns:
        The names of the thirteen bands in the order of the file; None for None.

    Raises:
        ValueError: The names are not the thirteen bands, each named once.
    """
    match order:
        case None:
            return None
        case "eurosat":
            return GEOTIFF_ORDER
        case "spectral":
            return SPECTRAL_ORDER
    described = [order] if isinstance(order, str) else list(order)
    return complete_band_names(described)


def complete_band_names(described: Sequence[str | None]) -> tuple[str, ...]:
    """Name the bands of a file by their descriptions.

    Raises:
        ValueError: A description is missing or names no band, or the bands are not the thirteen
            bands, each named once.
    """
    names = [band_name(description or "") for description in described]
    for position, (name, description) in enumerate(zip(names, described, strict=True), start=1):
        if name is None:
            raise ValueError(f"its band {position} is named {description!r}, which is no band")
    if sorted(map(str, names)) != sorted(SPECTRAL_ORDER):
        raise ValueError(
            f"its bands are {', '.join(map(str, names))}, not the thirteen bands, each once"
        )
    return tuple(map(str, names))


def band_positions(wanted: Sequence[Channel], present: Sequence[Channel] = BANDS) -> list[int]:
    """Positions of channels among those that an array has.

    Args:
        wanted: The channels to find.
        present: The channels of the array in its order; the thirteen bands if not given.

    Raises:
        ValueError: A wanted channel is not present.
    """
    names = [channel.name for channel in present]
    missing = [channel.name for channel in wanted if channel.name not in names]
    if missing:
        raise ValueError(f"there is no {', '.join(missing)} among {', '.join(names)}")
    return [names.index(channel.name) for channel in wanted]


def select_bands(
    pixels: npt.NDArray[Any], wanted: Sequence[Channel], present: Sequence[Channel] = BANDS
) -> npt.NDArray[Any]:
    """Pick channels by name out of the last axis of an array.

    Args:
        pixels: Any type, shape (..., len(present)).
        wanted: The channels to keep, in the wanted order.
        present: The channels of ``pixels``; the thirteen bands in spectral order if not given.

    Returns:
        Same type, shape (..., len(wanted)); ``pixels`` itself if nothing changes.

    Raises:
        ValueError: A wanted channel is not present.
    """
    if tuple(wanted) == tuple(present):
        return pixels
    return pixels[..., band_positions(wanted, present)]


def is_rgb(channels: Sequence[Channel]) -> bool:
    """Whether ``channels`` are the 8-bit rendition (uint8) rather than bands (uint16)."""
    return tuple(channels) == RGB


def render_rgb(patches: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Render 13-band patches to 8 bits as EuroSAT's authors did.

    Digital numbers 0 to 2750 are stretched linearly to 1 to 255. With Pillow's
    ``save(quality=100, subsampling=2, optimize=True)`` this reproduces the published JPEGs byte
    for byte.

    Args:
        patches: Digital numbers, uint16, shape (..., 13), bands in the order of :data:`BANDS`.

    Returns:
        uint8, shape (..., 3): red, green, blue.
    """
    rgb = select_bands(patches, resolve_channels(["B04", "B03", "B02"])).astype(np.float64)
    return np.clip(np.floor(rgb * 254 / 2750 + 1 + 0.5), 0, 255).astype(np.uint8)
