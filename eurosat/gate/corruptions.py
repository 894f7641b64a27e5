"""The corruptions that patches may suffer between the sensor and the model, in five severities.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019, proposed several kinds of corruption at five severities each. The kinds
and amounts of this module are chosen for Sentinel-2. Brightness and haze act on reflectance, so
that an amount has the same effect on 8-bit patches and on bands.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from eurosat.bands import BANDS, RGB, Channel, is_rgb, select_bands
from eurosat.gate.corruption import Corruption, Pixels
from eurosat.plugins import load_plugins

_Floats = npt.NDArray[np.float32]

# Reflectance of an opaque haze. The value is chosen between thin aerosol and cloud.
_HAZE_REFLECTANCE = 0.25
# Optical depth is proportional to wavelength ** -exponent; 1.3 is the mean over continental
# aerosols (Ångström, 1929).
_ANGSTROM_EXPONENT = 1.3
_CIRRUS = "B10"


def _brighten(
    pixels: Pixels, factor: float, channels: Sequence[Channel], generator: np.random.Generator
) -> Pixels:
    """Multiply or divide the reflectance of each patch by a factor, with equal probability.

    Sun, slopes and calibration change the brightness of real images.
    """
    up = generator.random((len(pixels), 1, 1, 1)) < 0.5
    factors = np.where(up, factor, 1 / factor).astype(np.float32)
    return _raw(_reflectance(pixels, channels) * factors, pixels.dtype, channels)


def _haze(
    pixels: Pixels, depth: float, channels: Sequence[Channel], generator: np.random.Generator
) -> Pixels:
    """Add haze between ground and sensor, which dims the ground's light and adds the haze's light.

    With the transmitted fraction t = exp(-depth), reflectance r becomes t r + (1 - t) a, where a
    is the haze's reflectance (Koschmieder, 1924). The depth falls with the wavelength (Ångström,
    1929), so haze adds most to blue. Haze does not change the cirrus band: water vapour absorbs all
    light of the cirrus band that comes from below the high clouds, including the light of the haze.
    """
    wavelengths = np.array([channel.wavelength for channel in channels], np.float32)
    depths = depth * (wavelengths / 550) ** -_ANGSTROM_EXPONENT
    depths[[channel.name == _CIRRUS for channel in channels]] = 0
    through = np.exp(-depths)
    own_light = (1 - through) * np.float32(_HAZE_REFLECTANCE)
    hazy = _reflectance(pixels, channels) * through + own_light
    return _raw(hazy, pixels.dtype, channels)


def _add_noise(
    pixels: Pixels, fraction: float, channels: Sequence[Channel], generator: np.random.Generator
) -> Pixels:
    """Add normally distributed detector noise, independent in every pixel and channel.

    The standard deviation of the noise is a fraction of the channel's range. The range of a channel
    is mean + 3 standard deviations of the channel over EuroSAT, so that the noise suits dim
    bands (cirrus) and bright bands.
    """
    ranges = np.array([channel.mean + 3 * channel.std for channel in channels], np.float32)
    family = _family(channels)
    noise = generator.standard_normal((*pixels.shape[:-1], len(family)), np.float32)
    noise = select_bands(noise, channels, family)
    return _rounded(pixels + noise * (fraction * ranges), pixels.dtype)


def _family(channels: Sequence[Channel]) -> tuple[Channel, ...]:
    """The channels to draw random numbers for, of which ``channels`` are a part.

    The draws of a channel therefore do not depend on the other channels of a model: two models that
    both take B04 are compared on the same B04.
    """
    return RGB if is_rgb(channels) else BANDS


def _blur(
    pixels: Pixels, sigma: float, channels: Sequence[Channel], generator: np.random.Generator
) -> Pixels:
    """Blur patches with a Gaussian point spread, given its standard deviation in pixels.

    Optics, motion and resampling blur real images.
    """
    blurred = (cv2.GaussianBlur(patch, (0, 0), sigma) for patch in pixels)
    return np.stack([_three_axes(*pair) for pair in zip(blurred, pixels, strict=True)])


def _shift(
    pixels: Pixels, distance: float, channels: Sequence[Channel], generator: np.random.Generator
) -> Pixels:
    """Misregister the channels: move every channel in a random direction of its own.

    Sentinel-2's bands see the same ground up to 2.6 seconds apart, and are registered to 0.3 pixels
    (ESA, Sentinel-2 User Handbook, 2015). Orthorectification with a wrong height, and tiles of
    different dates, cause larger shifts.
    """
    family = _family(channels)
    angles = generator.uniform(0, 2 * math.pi, (len(pixels), len(family)))
    angles = select_bands(angles, channels, family)
    shifted = np.empty_like(pixels)
    for patch, result, directions in zip(pixels, shifted, angles, strict=True):
        for channel, angle in enumerate(directions):
            along = (distance * math.cos(angle), distance * math.sin(angle))
            result[..., channel] = cv2.warpAffine(
                np.ascontiguousarray(patch[..., channel]),
                np.array([[1, 0, along[0]], [0, 1, along[1]]]),
                patch.shape[1::-1],
                flags=cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REFLECT_101,
            )
    return shifted


def _compress(
    pixels: Pixels, quality: float, channels: Sequence[Channel], generator: np.random.Generator
) -> Pixels:
    """Compress patches as JPEG and decode the result.

    Thumbnails, chat programs and web services compress images as JPEG. JPEG holds 8 bits per
    channel, so each band is scaled to 8 bits separately, from the smallest to the largest value of
    the band in the patch, and scaled back after decoding.
    """
    return np.stack([_compressed(patch, int(quality)) for patch in pixels])


def _compressed(patch: Pixels, quality: int) -> Pixels:
    if patch.dtype == np.uint8:
        return _three_axes(_through_jpeg(patch[..., ::-1], quality)[..., ::-1], patch)
    low = patch.min(axis=(0, 1)).astype(np.float32)
    span = np.maximum(patch.max(axis=(0, 1)) - low, 1)
    levels = np.rint((patch - low) * (255 / span)).astype(np.uint8)
    decoded = [_through_jpeg(levels[..., i], quality) for i in range(patch.shape[-1])]
    return _rounded(np.stack(decoded, axis=-1) * (span / 255) + low, patch.dtype)


def _through_jpeg(image: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """Encode and decode one grey or BGR image."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), np.uint8)


def _three_axes(image: Pixels, like: Pixels) -> Pixels:
    """Restore the channel axis, because OpenCV drops the axis of a single channel."""
    return image.reshape(like.shape)


def _reflectance(pixels: Pixels, channels: Sequence[Channel]) -> _Floats:
    """Convert raw pixels to top-of-atmosphere reflectance.

    `eurosat.bands.render_rgb` defines the scale of 8-bit pixels.
    """
    values = pixels.astype(np.float32)
    if is_rgb(channels):
        return (values - 1) * np.float32(2750 / 254 / 10_000)
    return values * np.float32(1e-4)


def _raw(reflectance: _Floats, dtype: npt.DTypeLike, channels: Sequence[Channel]) -> Pixels:
    """Convert reflectance to raw pixels, and clip values to the range of the dtype."""
    if is_rgb(channels):
        return _rounded(reflectance * np.float32(254 / 2750 * 10_000) + 1, dtype)
    return _rounded(reflectance * np.float32(1e4), dtype)


def _rounded(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> Pixels:
    rounded: Pixels = np.rint(values).clip(0, np.iinfo(np.dtype(dtype)).max).astype(dtype)
    return rounded


_CORRUPTIONS = [
    # The published figures of docs/howto/gate.md were drawn from streams 0 to 5.
    Corruption(
        name="brightness",
        title="brightness",
        meaning="reflectance times or divided by, half of the images each",
        amounts=(1.1, 1.2, 1.4, 1.7, 2.0),
        change=_brighten,
        stream=0,
    ),
    Corruption(
        name="haze",
        title="haze",
        meaning="optical depth at 550 nm",
        amounts=(0.05, 0.1, 0.2, 0.4, 0.8),
        change=_haze,
        stream=1,
    ),
    Corruption(
        name="noise",
        title="noise",
        meaning="standard deviation, as a fraction of each channel's range",
        amounts=(0.005, 0.01, 0.02, 0.03, 0.05),
        change=_add_noise,
        stream=2,
    ),
    Corruption(
        name="blur",
        title="blur",
        meaning="standard deviation of the point spread, in pixels",
        amounts=(0.4, 0.6, 0.8, 1.0, 1.5),
        change=_blur,
        stream=3,
    ),
    Corruption(
        name="band_shift",
        title="band shift",
        meaning="distance that each channel is moved, in pixels",
        amounts=(0.25, 0.5, 1.0, 2.0, 3.0),
        change=_shift,
        stream=4,
    ),
    Corruption(
        name="jpeg",
        title="JPEG",
        meaning="quality",
        amounts=(90, 75, 50, 25, 10),
        change=_compress,
        stream=5,
    ),
]


ENTRY_POINTS = "eurosat.corruptions"
"""Group of the entry points that name modules with further corruptions."""


def corruptions() -> tuple[Corruption, ...]:
    """Give the corruptions that the gate applies, in the order of its report."""
    _load()
    return tuple(_CORRUPTIONS)


@cache
def _load() -> None:
    load_plugins(ENTRY_POINTS)


def register_corruption(corruption: Corruption) -> None:
    """Append a corruption, which the gate applies from then on.

    Raises:
        ValueError: The name or the title is taken, or the name is not made of letters, digits and
            underscores.
    """
    if not corruption.name.isidentifier():
        raise ValueError(
            f"a corruption cannot be named {corruption.name!r}: use letters, digits and "
            "underscores, as in 'band_shift'"
        )
    for known in _CORRUPTIONS:
        if corruption.name == known.name or corruption.title == known.title:
            raise ValueError(
                f"there is a corruption {known.name}, titled {known.title!r}, already: choose "
                "another name and another title"
            )
    _CORRUPTIONS.append(corruption)
